"""Blocks of clients on a Ray cluster: the compiled runtime's bits, on many machines."""

from tff_transfer.runtime.cluster.context import use_cluster

__all__ = ['use_cluster']
