"""How a TFF computation runs: compiled in this process, or by TFF's own worker."""

from tff_transfer.runtime import deep_protos  # noqa: F401
from tff_transfer.runtime.compiled import use_compiled
from tff_transfer.runtime.stock import use_stock

__all__ = ['use_compiled', 'use_stock']
