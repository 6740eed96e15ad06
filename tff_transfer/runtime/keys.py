"""Keys of draws: from seed, round, client and call, while functions are traced.

A run of a program has a key, made of the seed, the program's type and the round's
number. From it are drawn the key of the server and that of each client, and from
these the key of each call of a graph (draws.py goes on from there).
"""

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import randomness
from tff_transfer.errors import UserError
from tff_transfer.runtime.draws import PHILOX, NoKeyError

# Whose draws they are: numbers to fold.
SERVER, CLIENT, MERGE, STEP = range(4)
# What a function takes if draws are wanted: the run's key, and the number of its first
# client, if it has any.
SPECS = (tf.TensorSpec([1], tf.uint64), tf.TensorSpec([], tf.int64))
_round: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    'round', default=None
)


@contextlib.contextmanager
def in_round(number: int) -> Iterator[None]:
    """Names the round that computations run in, for their draws.

    With `use_compiled(seed=...)` a computation draws the same whenever it is run in
    the round of this number. Holds in the thread, or asyncio task, of the caller.

    Args:
      number: The round's number, at least 0.

    Raises:
      UserError: It is no such number.
    """
    if not isinstance(number, int | np.integer) or number < 0:
        raise UserError(f'the round is {number!r}, but must be an integer from 0 on')
    token = _round.set(int(number))
    try:
        yield
    finally:
        _round.reset(token)


def check_seed(seed: int | None) -> None:
    """Checks what draws are to hang on.

    Raises:
      UserError: It is no number from 0 on, nor None.
    """
    if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
        raise UserError(f'seed is {seed!r}, but must be an integer from 0 on')


def of_run(seed: int, type_signature: tff.Type, runs: Iterator[int]) -> np.ndarray:
    """Returns the key of a computation's run, uint64 [1].

    Args:
      seed: The seed.
      type_signature: The computation's type.
      runs: Gives the round's number where no round is named.
    """
    number = _round.get()
    purpose = f'draws of {type_signature.compact_representation()}'
    named = number is not None
    number = number if named else next(runs)
    draw = randomness.generator(seed, purpose, int(named), number)
    return draw.integers(2**64, size=1, dtype=np.uint64)


def fold(key: tf.Tensor, number: int, index=0) -> tf.Tensor:
    """Returns another key, uint64 [1], for each number and index, scalar integers."""
    counter = [tf.cast(index, tf.uint64), tf.constant(np.uint64(number))]
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[1], key=key, counter=tf.stack(counter), alg=PHILOX, dtype=tf.uint64
    )


class Keys:
    """What the draws of what is being traced hang on.

    Attributes:
      wanted: Whether draws hang on keys at all.
    """

    def __init__(self, wanted: bool):
        self.wanted = wanted
        self._place: Callable[[], tf.Tensor] | None = None
        self._call, self._graphs = 0, itertools.count()

    @property
    def known(self) -> bool:
        """Whether there is a key here."""
        return self.wanted and self._place is not None

    @contextlib.contextmanager
    def at(
        self, key: Callable[[], tf.Tensor] | None, call: int | None = None
    ) -> Iterator[None]:
        """Has draws hang on a key inside a `with` block.

        Args:
          key: Makes the key, in the function that is being traced; None where there
            is none.
          call: The number of the call that is evaluated, if it is another one.
        """
        before = self._place, self._call, self._graphs
        call = self._call if call is None else call
        self._place, self._call, self._graphs = key, call, itertools.count()
        try:
            yield
        finally:
            self._place, self._call, self._graphs = before

    def of_call(self, call: int) -> contextlib.AbstractContextManager[None]:
        """Has draws hang on a call's number too inside a `with` block."""
        return self.at(self._place, call)

    def here(self, ops: int = 0) -> tf.Tensor:
        """Returns the key of the next graph that draws, or of a loop.

        Args:
          ops: A number for the operations that the graph is made of.

        Raises:
          NoKeyError: There is no key here.
        """
        if self._place is None:
            raise NoKeyError('a function that a tf.data pipeline maps draws')
        path = [self._call, next(self._graphs), ops]
        number = np.random.SeedSequence(path).generate_state(1, np.uint64)[0]
        return fold(self._place(), int(number))
