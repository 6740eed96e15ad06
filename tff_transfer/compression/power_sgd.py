"""PowerSGD: each matrix as a product of two thin ones, by a step of power iteration.

Vogels et al. 2019, "PowerSGD: Practical low-rank gradient compression for distributed
optimization", algorithm 1, with error feedback (algorithm 2) and warm start: a client
goes on from its own last Q. There all workers share their mean P before they compute
Q; here a client sends both factors of its own, in one message, as a server that stands
between clients has no second round. Kernels of convolutions are [.., out] matrices;
vectors, and matrices that would not get smaller, are sent as they are.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tff_transfer import randomness
from tff_transfer.compression.scheme import Scheme, Shapes
from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.vectors import split


@dataclasses.dataclass(frozen=True)
class PowerSGD:
    """PowerSGD."""

    rank: int = option(1, 'The rank of the products.', at_least=1)

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme.

        Raises:
          UserError: No tensor would become smaller.
        """
        sizes = [_matrix(shape, self.rank) for shape in shapes]
        if not any(sizes):
            raise UserError(
                f'PowerSGD of rank {self.rank} makes none of the tensors'
                f' {", ".join(map(str, shapes))} smaller; lower --powersgd.rank'
            )

        def encode(vector, state):
            message, after, before = {}, [], iter(state)
            leaves = zip(split(vector, shapes), sizes, strict=True)
            for number, (leaf, size) in enumerate(leaves):
                if size is None:
                    message[f'whole {number}'] = tf.reshape(leaf, [-1])
                    continue
                matrix = tf.reshape(leaf, size)
                # Not Gram-Schmidt, which of zeros makes zeros: a Q of zeros would stay.
                p = tf.linalg.qr(tf.matmul(matrix, next(before))).q
                q = tf.matmul(matrix, p, transpose_a=True)
                message |= {f'p {number}': p, f'q {number}': q}
                after.append(q)
            return message, tuple(after)

        def decode(message):
            parts = []
            for number, size in enumerate(sizes):
                if size is None:
                    parts.append(message[f'whole {number}'])
                    continue
                p, q = message[f'p {number}'], message[f'q {number}']
                parts.append(tf.reshape(tf.matmul(p, q, transpose_b=True), [-1]))
            return tf.concat(parts, 0)

        start = tuple(
            randomness.generator(0, 'PowerSGD', number)
            .standard_normal((size[1], self.rank))
            .astype(np.float32)
            for number, size in enumerate(sizes)
            if size is not None
        )
        return Scheme(encode, decode, start, feedback=True)


def _matrix(shape, rank: int) -> tuple[int, int] | None:
    """Returns the size of the matrix that a tensor is, if two thin ones are smaller."""
    if len(shape) < 2:
        return None
    size = math.prod(shape[:-1]), shape[-1]
    return size if rank * sum(size) < math.prod(size) else None
