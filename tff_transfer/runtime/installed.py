"""A runtime as TFF's default, for good or for a `with` block."""

import atexit
import contextlib
import gc
from collections.abc import Callable

import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.context_stack import set_default_context


@atexit.register
def _collect_contexts() -> None:
    """Ends TFF's own contexts while the modules that they need are still there."""
    set_default_context.set_no_default_context()
    gc.collect()


class Installed(contextlib.AbstractContextManager):
    """A runtime that is TFF's default in this thread from its creation on.

    As a context manager it gives the context, and brings back the one that was
    the default before when the block ends.
    """

    def __init__(
        self,
        context: tff.framework.SyncContext,
        close: Callable[[], None] = lambda: None,
    ):
        """Makes `context` the default.

        Args:
          context: What runs TFF's computations.
          close: Called when a `with` block ends.
        """
        self._context = context
        self._close = close
        self._previous = tff.framework.get_context_stack().current
        tff.framework.set_default_context(context)

    def __enter__(self) -> tff.framework.SyncContext:
        """Returns the context."""
        return self._context

    def __exit__(self, *_) -> None:
        """Brings the previous default back."""
        tff.framework.set_default_context(self._previous)
        self._close()
