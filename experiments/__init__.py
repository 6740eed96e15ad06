"""The programs that people run: short mains with absl flags."""
