"""What a scheme is.

A scheme is two pure TensorFlow functions between a client's flat update and a message
(`messages`), each in its own file of this folder. Its options are a dataclass whose
`build` makes it for the shapes of the tensors that the update joins.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from tff_transfer.compression.messages import Message
from tff_transfer.vectors import Shapes


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A lossy code of vectors.

    Attributes:
      encode: Makes of a vector, float32 [d], and the sender's state a message and the
        next state. What it draws and the receiver must know is in the message, or
        follows from a seed in it.
      decode: Makes the vector that the receiver has of a message alone, float32 [d].
      state: What the sender's state is at first, a structure of arrays.
      feedback: Whether what was lost is added to what is sent next (error feedback).
    """

    encode: Callable[[Any, Any], tuple[Message, Any]]
    decode: Callable[[Message], Any]
    state: Any = ()
    feedback: bool = False


def total(shapes: Shapes) -> int:
    """Returns how many numbers tensors of some shapes have."""
    return sum(map(math.prod, shapes))
