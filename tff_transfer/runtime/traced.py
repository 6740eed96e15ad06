"""A plan's functions, traced when they are first called; as sessions if asked."""

import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.errors import UserError
from tff_transfer.runtime import calls, failures, layouts, sessions
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.draws import NoKeyError
from tff_transfer.runtime.functions import Functions
from tff_transfer.runtime.parameters import member
from tff_transfer.runtime.plan import Plan
from tff_transfer.runtime.tensors import to_tensor


class Traced:
    """The functions of a plan's phases, which threads may call.

    Attributes:
      functions: What traces them.
      compiled: Those that were traced, by a method of `Functions` and a phase.
    """

    def __init__(
        self, plan: Plan, parameter_type: tff.Type | None, name: str, settings: Settings
    ):
        """Begins with none.

        Args:
          plan: The plan.
          parameter_type: The type of the computation's parameter.
          name: What the computation is called in errors.
          settings: How it runs.
        """
        self.functions = Functions(plan, parameter_type, name, settings)
        self.compiled: dict[tuple[str, int], tf.types.experimental.ConcreteFunction]
        self.compiled = {}
        self._plan, self._name, self._settings = plan, name, settings
        self._sessions: dict[tuple, sessions.InCallersThread | None] = {}
        self._lock = threading.RLock()

    @functools.cached_property
    def small(self) -> bool:
        """Whether what the server has is small (`sessions.small`)."""
        functions, plan = self.functions, self._plan
        specs = functions.server_specs()
        for phase in plan.phases:
            specs += functions.call_specs(phase.exports)
            for name in phase.reported:
                specs += layouts.specs(functions.state_type(name))
        for output in plan.outputs:
            if not output.at_clients:
                specs += layouts.specs(member(output.block.type_signature))
        return sessions.small(specs)

    def once(self, kept: dict, key, make: Callable[[], object]):
        """Returns what is kept, and makes it at the first call, of whatever thread."""
        if key not in kept:
            with self._lock:
                if key not in kept:
                    kept[key] = make()
        return kept[key]

    def function(self, kind: str, number: int):
        """Returns a function of a phase.

        Args:
          kind: A method of `Functions`.
          number: The number of the phase.

        Raises:
          UserError: It cannot run here.
          NotVectorizedError: It is `'lockstep'`, and an operation is in the way.
        """
        key = kind, number
        return self.once(self.compiled, key, lambda: self._trace(*key))

    def _trace(self, kind: str, number: int):
        phases = self._plan.phases
        last = (number == len(phases) - 1,) if kind == 'server' else ()
        try:
            return getattr(self.functions, kind)(phases[number], *last)
        except NoKeyError as e:
            raise UserError(
                f'{self._name}: {e}; or leave out seed, and draws will not repeat'
            ) from e
        except UserError:
            raise
        except (ValueError, NotImplementedError, tf.errors.OpError) as e:
            why = str(e).splitlines()[0][:300]
            raise failures.cannot_run(self._name, why) from e

    def call(
        self,
        kind: str,
        number: int,
        inputs: Sequence[tf.Tensor | np.ndarray],
        one_thread: bool,
        lists: Sequence[tf.TensorSpec] = (),
    ) -> list[tf.Tensor] | list[np.ndarray]:
        """Returns the results of a function of a phase.

        Args:
          kind: A method of `Functions`.
          number: The number of the phase.
          inputs: The function's arguments.
          one_thread: Whether all is done in the thread that calls, where it can be.
          lists: The specs of the elements of lists, if these are its first results.

        Returns:
          Tensors, or arrays if it was; lists of states are then side by side.

        Raises:
          tf.errors.OpError: An operation failed.
          UserError: It cannot run here.
        """
        if one_thread:
            key = kind, number
            session = self.once(self._sessions, key, lambda: self._session(*key, lists))
            if session is not None:
                return session(inputs)
        function = self.function(kind, number)
        return calls.call(function, [to_tensor(value) for value in inputs])

    def _session(
        self, kind: str, number: int, lists: Sequence[tf.TensorSpec]
    ) -> sessions.InCallersThread | None:
        """Returns a function of a phase as a session, if it can be one."""
        function = self.function(kind, number)
        if kind == 'server' and not sessions.brief(function):
            return None
        if self._settings.on_processors and sessions.takes(function, lists):
            return sessions.InCallersThread(function, lists)
        return None
