"""One published claim a file, tried by one command each: see docs/claims.md."""
