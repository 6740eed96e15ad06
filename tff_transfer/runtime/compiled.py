"""TFF computations compiled to TensorFlow functions in this process."""

import os
import threading
import weakref

import tensorflow_federated as tff

from tff_transfer.runtime.installed import Installed
from tff_transfer.runtime.program import Program, Settings


class CompiledContext(tff.framework.SyncContext):
    """Runs TFF's computations in this process; may be shared by threads."""

    def __init__(self, settings: Settings):
        """Makes a context that has compiled nothing yet."""
        self._settings = settings
        self._programs: dict[int, Program] = {}
        self._lock = threading.Lock()

    def invoke(self, comp, arg):
        """Runs a computation.

        Args:
          comp: A `tff.Computation`.
          arg: The value of its parameter, or None.

        Returns:
          The result, in TFF's containers, with NumPy arrays.

        Raises:
          TypeError: The argument is not of the parameter's type.
          UserError: The computation cannot run here; it says what does.
        """
        return self.program(comp)(arg)

    def program(self, comp) -> Program:
        """Returns what a computation was compiled to."""
        with self._lock:
            program = self._programs.get(id(comp))
            if program is None:
                program = self._programs[id(comp)] = Program(comp, self._settings)
                weakref.finalize(comp, self._programs.pop, id(comp), None)
        return program


_contexts: dict[Settings, CompiledContext] = {}


def use_compiled(threads: int | None = None, block_bytes: int = 2**30) -> Installed:
    """Makes the compiled runtime the default.

    The same settings give the same context, so that what was compiled is kept.

    Args:
      threads: How many blocks of clients run at a time; the number of processors
        if not given. Results depend on it in their last digits.
      block_bytes: The most bytes of client data that are handed to TensorFlow at a
        time, about; a larger cohort is streamed.

    Returns:
      What brings the previous default back, if it is used in a `with` statement.
    """
    threads = threads or len(os.sched_getaffinity(0))
    settings = Settings(threads, block_bytes)
    if settings not in _contexts:
        _contexts[settings] = CompiledContext(settings)
    return Installed(_contexts[settings])
