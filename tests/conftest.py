"""What all tests share."""

import gc
import os

# TensorFlow's start-up messages would bury what a failing test prints.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def pytest_collection_finish():
    """Has Python's garbage collector pass over what the imports left.

    TensorFlow, TFF and Keras leave so many objects that to walk them again and again
    takes a fifteenth of the tests' time. What tests leave it does pass over: graphs
    are cycles, and all of them together would be gigabytes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 3)
