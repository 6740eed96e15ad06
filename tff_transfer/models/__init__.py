"""What is trained: heads and networks, fine-tuning strategies, loss and metrics."""

from tff_transfer.models.model import (
    BatchStatistics,
    Model,
    from_keras,
    functional_model,
    trained_network,
)
from tff_transfer.models.small import cnn, mlp

__all__ = [
    'BatchStatistics',
    'Model',
    'cnn',
    'from_keras',
    'functional_model',
    'mlp',
    'trained_network',
]
