"""The backbone that comes with the package: see MODEL_CARD.md beside this file."""

import pathlib

#: A SavedModel in TF-Hub's feature-vector form, [n, h, w, 3] -> [n, 1280].
PATH = pathlib.Path(__file__).parent / 'mobilenet_v2_035_characters'
#: Pixels of a side that it was trained on; it takes any size from 32 up.
IMAGE_SIZE = 64
#: What black and white are in its inputs.
VALUE_RANGE = (0.0, 1.0)
