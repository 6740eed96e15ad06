"""What clients of a phase are given when they have their turn, and what they give."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Turn:
    """What is the same for all clients when they have their turn.

    Attributes:
      phase: The number of the phase.
      together: How many clients go in lockstep, 0 if each goes alone.
      key: What draws hang on, uint64 [1], if they do.
      inputs: The server's part of the parameter and `Phase.client_inputs`: tensors, or
        arrays.
      one_thread: Whether all that a call does is done in the thread that calls, where
        it can be (sessions.py).
    """

    phase: int
    together: int
    key: np.ndarray | None
    inputs: Sequence[tf.Tensor] | Sequence[np.ndarray]
    one_thread: bool = False


@dataclasses.dataclass(frozen=True)
class Given:
    """What the clients of some blocks gave.

    Attributes:
      states: The blocks' states (block_states.py), [tensors of a state].
      spans: Of how many blocks each of these is the state.
      kept: For each leaf that is kept of clients what `results.collect` returns.
    """

    states: list[tf.Tensor] | list[np.ndarray]
    spans: Sequence[int]
    kept: list[list]
