"""Who takes part and when: selection, devices and the clock; knows no TensorFlow."""
