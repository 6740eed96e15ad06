"""What is measured of generated images, by features of the embedded backbone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tff_transfer import backbones, features, randomness
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.generation.quality import Reference
from tff_transfer.generation.sampling import Sampler
from tff_transfer.models import Model

# Images that are compared at most: real ones of each kind, and generated ones.
REAL, GENERATED = 2000, 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Judges images by real ones.

    Attributes:
      backbone: What gives features.
      reference: Features of real images of seen clients.
      floor: What is measured of as many other real images as are generated.
      count: How many images are generated, of all classes alike: as many as those.
      clients: How many clients train.
    """

    backbone: Backbone
    reference: Reference
    floor: dict[str, float]
    count: int
    clients: int

    def of_images(self, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Returns what is measured of images, float32 in [0, 1] or uint8, by name."""
        found = features.of_images(self.backbone, images)
        return dataclasses.asdict(self.reference.measured(found, labels))

    def of_model(self, model: Model, weights: Sequence[np.ndarray]) -> dict[str, float]:
        """Returns what is measured of images of a model, of all classes alike."""
        labels = np.arange(self.count, dtype=np.int32) % self.reference.classes
        return self.of_images(Sampler(model).images(weights, labels, seed=1), labels)


def judge(data: FederatedData) -> Judge:
    """Returns who judges what is generated as the clients' data."""
    seen, _ = split_clients(len(data))
    of_seen = np.isin(data.client_of_row, seen)
    draw = randomness.generator(0, 'images to compare with')
    rows = draw.permutation(np.flatnonzero(of_seen & data.is_train))
    tests = draw.permutation(np.flatnonzero(of_seen & ~data.is_train))[:REAL]
    real = min(REAL, 2 * len(rows) // 3)
    train, others = rows[:real], rows[real : real + GENERATED]
    backbone = backbones.load('embedded')

    def vectors(some: np.ndarray) -> np.ndarray:
        return features.of_images(backbone, data.x[some], data.name)

    reference = Reference(
        vectors(train), data.y[train], vectors(tests), data.y[tests], data.num_classes
    )
    floor = reference.measured(vectors(others), data.y[others])
    return Judge(backbone, reference, dataclasses.asdict(floor), len(others), len(seen))
