"""The runtime that a configuration chooses."""

import contextlib

from tff_transfer import runtime
from tff_transfer.training.training_config import TrainingConfig


def use_runtime(config: TrainingConfig) -> contextlib.AbstractContextManager:
    """Makes the runtime of a configuration the default."""
    if config.runtime == 'stock':
        return runtime.use_stock()
    short = None if config.compute_dtype == 'float32' else config.compute_dtype
    if config.runtime == 'cluster':
        return runtime.use_cluster(
            config.cluster_address, compute_dtype=short, seed=config.seed
        )
    return runtime.use_compiled(compute_dtype=short, seed=config.seed)
