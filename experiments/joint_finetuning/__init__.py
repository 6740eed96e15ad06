"""The study of joint fine-tuning: its parties, runs and report."""
