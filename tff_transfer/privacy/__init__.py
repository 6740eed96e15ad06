"""What a run promises about its clients' data, and what that is worth in numbers."""
