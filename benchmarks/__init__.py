"""What is measured, each figure by a command of its own."""
