"""What stands under a head, and how it is trained with it."""

import dataclasses

from tff_transfer import reprs
from tff_transfer.backbones import Backbone
from tff_transfer.features.scaling import ByExample, Standardisation
from tff_transfer.models import finetuning
from tff_transfer.networks import functional
from tff_transfer.networks.batch_norm import BatchNorm


@dataclasses.dataclass(frozen=True)
class Below:
    """What stands under a head.

    Attributes:
      backbone: The backbone as it was loaded.
      standardise: What is done to its features.
      network: What is trained of it, if anything is.
      parameters: How that is trained.
      statistics: Its BatchNorm, if that is trained.
    """

    backbone: Backbone
    standardise: Standardisation | ByExample
    network: functional.FunctionalNetwork | None = None
    parameters: finetuning.Parameters | None = None
    statistics: BatchNorm | None = None

    __repr__ = reprs.of_fields
