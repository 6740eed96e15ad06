"""A runtime for TFF's federated programs, which wait for values of an event loop."""

import asyncio

import tensorflow_federated as tff

from tff_transfer.errors import UserError
from tff_transfer.runtime.installed import Installed


class _Threads(tff.framework.AsyncContext):
    """Runs computations in threads, so that the event loop goes on meanwhile."""

    def __init__(self, context: tff.framework.SyncContext):
        self._context = context

    async def invoke(self, comp, arg):
        return await asyncio.to_thread(self._context.invoke, comp, arg)


def use_federated_context() -> Installed:
    """Makes the default runtime one for `tff.program` and `tff.learning.programs`.

    Computations then give references, to be awaited inside an event loop
    (`tff.program.materialize_value`), and several may run at a time. Results are
    those of the runtime that was the default before, which runs them.

    Returns:
      What brings the previous default back, if it is used in a `with` statement.

    Raises:
      UserError: The default is no runtime that this can be done with.
    """
    context = tff.framework.get_context_stack().current
    if isinstance(context, tff.program.FederatedContext):
        return Installed(context)
    if not isinstance(context, tff.framework.SyncContext):
        raise UserError(
            f"TFF's default context is a {type(context).__name__}; call use_compiled()"
            ' or use_stock() before use_federated_context()'
        )
    return Installed(tff.program.NativeFederatedContext(_Threads(context)))
