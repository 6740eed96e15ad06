"""How a TFF computation runs: compiled here or on a cluster, or by TFF's own worker."""

import gc

from tff_transfer.runtime import deep_protos  # noqa: F401
from tff_transfer.runtime.cluster import use_cluster
from tff_transfer.runtime.compiled import obstacles, use_compiled
from tff_transfer.runtime.federated import use_federated_context
from tff_transfer.runtime.keys import in_round
from tff_transfer.runtime.stacked import StackedClients
from tff_transfer.runtime.stock import use_stock

# What TensorFlow and TFF hold once they are imported stays. Looking for garbage among
# that takes a quarter of the time that building a process does.
gc.freeze()

__all__ = [
    'StackedClients',
    'in_round',
    'obstacles',
    'use_cluster',
    'use_compiled',
    'use_federated_context',
    'use_stock',
]
