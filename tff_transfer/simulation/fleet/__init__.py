"""What clients run on: how fast they are, when they are there, and how they fail."""
