"""What is trained: heads and networks, fine-tuning strategies, the task."""

from tff_transfer.models.model import (
    BatchStatistics,
    Model,
    from_keras,
    functional_model,
    trained_network,
)
from tff_transfer.models.small import cnn, mlp
from tff_transfer.models.task import CLASSIFICATION, Task

__all__ = [
    'CLASSIFICATION',
    'BatchStatistics',
    'Model',
    'Task',
    'cnn',
    'from_keras',
    'functional_model',
    'mlp',
    'trained_network',
]
