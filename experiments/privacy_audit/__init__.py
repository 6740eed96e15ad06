"""What each protection of a run bought, by attacks on it."""
