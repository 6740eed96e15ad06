"""Draws some images of a dataset, and below each what augmentation makes of it.

python -m experiments.augmented_images --dataset=by_client --data_path=mine.npz \
    --augment_shift=0.1 --augment_rotation=15 --output=augmentation.png
"""

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import command_line
from tff_transfer import files, options, randomness
from tff_transfer.errors import UserError
from tff_transfer.training import setup, sources
from tff_transfer.training.config import Config

options.define_flags(Config)
flags.adopt_module_key_flags(options)
OUTPUT = flags.DEFINE_string('output', 'augmentation.png', 'The picture to write.')
COLUMNS, ROWS = 12, 3


def draw(images: np.ndarray, variants: list[np.ndarray]) -> Figure:
    """Draws images [n, h, w, 1 or 3] in the first row, and their variants below."""
    rows = [images, *variants]
    figure = Figure((0.6 * len(images), 0.6 * len(rows)), layout='constrained')
    for axes, image in zip(
        figure.subplots(len(rows), len(images)).flat,
        np.concatenate(rows),
        strict=True,
    ):
        axes.imshow(image, cmap='gray', vmin=0, vmax=255 if image.dtype == 'u1' else 1)
        axes.axis('off')
    return figure


def main() -> None:
    """Writes the picture."""
    config = options.from_flags(Config)
    data = sources.load_data(config)
    augment = setup.augmentation(config.training, data)
    if augment is None:
        raise UserError('no augmentation is asked for; give --augment_shift, say')
    generator = randomness.generator(config.training.seed, 'picture')
    images = data.x[generator.choice(len(data.x), COLUMNS, replace=False)]
    variants = [
        augment(images, generator.integers(0, 2**31 - 1, (COLUMNS, 2), np.int32))
        for _ in range(ROWS)
    ]
    with files.replacing(OUTPUT.value) as new:
        draw(images, variants).savefig(new, dpi=110)
    print(f'picture: {OUTPUT.value}')


if __name__ == '__main__':
    command_line.run(main)
