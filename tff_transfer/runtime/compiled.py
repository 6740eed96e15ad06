"""TFF computations compiled to TensorFlow functions in this process."""

import itertools
import os
import threading
import weakref
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.errors import UserError
from tff_transfer.runtime import keys
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.executors import Executor, Threads
from tff_transfer.runtime.installed import Installed
from tff_transfer.runtime.program import Program


class CompiledContext(tff.framework.SyncContext):
    """Runs TFF's computations in this process; may be shared by threads."""

    def __init__(self, compiled: 'Compiled', seed: int | None):
        """Makes a context.

        Args:
          compiled: What was compiled so far, and is kept.
          seed: What draws hang on, if they do.
        """
        self._compiled = compiled
        self._seed = seed
        # How often each program ran outside of named rounds.
        self._runs = weakref.WeakKeyDictionary()

    def invoke(self, comp, arg):
        """Runs a computation.

        Args:
          comp: A `tff.Computation`.
          arg: The value of its parameter, or None.

        Returns:
          The result, in TFF's containers, with NumPy arrays.

        Raises:
          TypeError: The argument is not of the parameter's type.
          UserError: The computation cannot run here, and it says what does; or
            what it computed failed, and then it is of TensorFlow's class too.
        """
        program = self.program(comp)
        if self._seed is None:
            return program(arg)
        # Both are atomic.
        runs = self._runs.setdefault(program, itertools.count())
        return program(arg, keys.of_run(self._seed, comp.type_signature, runs))

    def program(self, comp) -> Program:
        """Returns what a computation was compiled to."""
        return self._compiled.program(comp)


class Compiled:
    """The programs that were compiled with the same settings."""

    def __init__(self, settings: Settings, executor: Executor):
        """Begins with none.

        Args:
          settings: How programs run.
          executor: What runs their blocks of clients.
        """
        self._settings = settings
        self._executor = executor
        self._programs: dict[int, Program] = {}
        self._lock = threading.Lock()

    def program(self, comp) -> Program:
        """Returns what a computation is compiled to."""
        with self._lock:
            program = self._programs.get(id(comp))
            if program is None:
                program = Program(comp, self._settings, self._executor)
                self._programs[id(comp)] = program
                weakref.finalize(comp, self._programs.pop, id(comp), None)
        return program


_compiled: dict[Settings, Compiled] = {}


def obstacles(comp) -> list[str]:
    """Says what keeps clients from going in lockstep (`use_compiled(lockstep=...)`).

    Args:
      comp: A `tff.Computation`, which is traced if it was not yet.

    Returns:
      For each time that clients have their turn in it the operation that is in the
      way, or nothing if none is.

    Raises:
      UserError: The compiled runtime is not the default.
    """
    context = tff.framework.get_context_stack().current
    if not isinstance(context, CompiledContext):
        raise UserError('call runtime.use_compiled() before runtime.obstacles')
    return context.program(comp).obstacles()


def use_compiled(
    *,
    devices: Sequence[str] = (),
    threads: int | None = None,
    block_bytes: int = 2**29,
    debug: bool = False,
    compute_dtype: str | None = None,
    seed: int | None = None,
    lockstep: bool | None = None,
) -> Installed:
    """Makes the compiled runtime the default.

    What was compiled with the same settings, whatever the seed, is kept.

    Args:
      devices: Where clients' work runs, TensorFlow's names such as `'/GPU:0'`; the
        clients are divided among them. All GPUs if not given, or the CPU.
      threads: How many calls with some of the clients run at a time on each device.
        If not given, one on a GPU, and on the CPU one for each processor.
      block_bytes: The most bytes of client data that are handed to TensorFlow in one
        call, about: more clients make more calls.
      debug: Whether clients run one at a time and an error is raised at the first
        step after which a client's state is not finite.
      compute_dtype: `'bfloat16'` or `'float16'`: matrix products and convolutions of
        float32 in clients' TensorFlow, and their gradients, are computed in it, mixed
        precision; weights and sums stay in float32. float16 is for GPUs alone, and
        loses small gradients, as the loss is not scaled.
      seed: Makes all draws of TensorFlow's graphs functions of it, the computation's
        type, the round (`in_round`; where none is named, how often the computation
        ran since this call), the client's place in the cohort, the operation and the
        step of a loop. If not given, they come from the machine's entropy.
      lockstep: Whether many clients take a step together, as one with an axis of
        clients, where their work can be done so (`runtime.obstacles`); sums are then
        rounded otherwise. If not given, where it pays by the sizes of weights,
        batches and cohort.

    Returns:
      What brings the previous default back, if it is used in a `with` statement.

    Raises:
      UserError: A setting is out of its range.
    """
    if not devices:
        gpus = tf.config.list_physical_devices('GPU')
        devices = [f'/GPU:{i}' for i in range(len(gpus))] or ['/CPU:0']
    if threads is None:
        on_cpu = all('CPU' in d.upper() for d in devices)
        threads = len(os.sched_getaffinity(0)) if on_cpu else 1
    keys.check_seed(seed)
    settings = Settings(
        threads,
        block_bytes,
        tuple(devices),
        debug,
        compute_dtype,
        seed is not None,
        lockstep,
    )
    compiled = _compiled.setdefault(settings, Compiled(settings, Threads(settings)))
    return Installed(CompiledContext(compiled, seed))
