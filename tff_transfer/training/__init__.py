"""The loop, its records and its results."""
