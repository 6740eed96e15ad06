"""Federated transfer learning on TensorFlow Federated."""
