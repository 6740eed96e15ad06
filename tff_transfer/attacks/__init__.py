"""What hostile clients do to training: to their data, or to what they send."""
