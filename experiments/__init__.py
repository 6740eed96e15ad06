"""The programs that people run: short mains with absl flags."""

import os

# TensorFlow's own start-up messages would bury ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
