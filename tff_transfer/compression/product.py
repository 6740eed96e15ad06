"""Product quantisation: short pieces of a vector as numbers of a codebook.

Jégou et al. 2011, "Product quantization for nearest neighbor search", section II; of
updates in federated learning Prasad et al. 2022, "Reconciling security and
communication efficiency in federated learning". The codebook is one for all pieces of
an update: `iterations` of k-means (Lloyd 1982) from pieces drawn at random, by the
client, which sends it beside the numbers.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes, total
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Product:
    """Product quantisation."""

    length: int = option(4, 'Numbers of a piece.', at_least=1)
    codes: int = option(64, 'Pieces in the codebook, at most.', at_least=2)
    iterations: int = option(10, 'Iterations of k-means.', at_least=1)

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        count = total(shapes)
        pieces = -(-count // self.length)
        codes = min(self.codes, pieces)

        def encode(vector, state):
            filled = tf.pad(vector, [[0, pieces * self.length - count]])
            table = tf.reshape(filled, [pieces, self.length])
            drawn = tf.math.top_k(tf.random.uniform([pieces]), codes).indices
            book = tf.gather(table, drawn)
            for _ in range(self.iterations):
                book = _step(table, book)
            numbers = Symbols(_nearest(table, book), codes)
            return {'numbers': numbers, 'codebook': book}, state

        def decode(message):
            table = tf.gather(message['codebook'], message['numbers'].values)
            return tf.reshape(table, [-1])[:count]

        return Scheme(encode, decode)


def _nearest(table, book):
    """Returns the number of the nearest code for each piece, int32 [pieces]."""
    squares = tf.reduce_sum(tf.square(book), axis=1)
    apart = squares - 2 * tf.matmul(table, book, transpose_b=True)
    return tf.argmin(apart, axis=1, output_type=tf.int32)


def _step(table, book):
    """Returns the means of the pieces nearest to each code; lonely codes stay."""
    numbers, codes = _nearest(table, book), book.shape[0]
    sums = tf.math.unsorted_segment_sum(table, numbers, codes)
    ones = tf.ones_like(numbers, tf.float32)
    sizes = tf.math.unsorted_segment_sum(ones, numbers, codes)[:, None]
    return tf.where(sizes > 0, tf.math.divide_no_nan(sums, sizes), book)
