"""What can be found out of a model or an update: attacks, and epsilon by numbers."""
