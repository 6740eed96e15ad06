"""Rewrites of TensorFlow's graphs, for networks and for the runtime."""
