"""How a TFF computation runs: TFF's own worker, with a lifetime."""

from tff_transfer.runtime.stock import use_stock

__all__ = ['use_stock']
