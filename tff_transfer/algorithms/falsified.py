"""What hostile clients send, as TFF's computations.

An attack falsifies what the server averages of a method, `Update.delta`, as it arrives:
after it was compressed and decoded, so that an attacker is not bound to what a scheme
can say. Weights, BatchNorm's statistics, losses and what clients keep stay as they are.
"""

import dataclasses
import functools
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import vectors
from tff_transfer.aggregation.side_by_side import appended
from tff_transfer.algorithms.structures import all_finite, zero_unless


@dataclasses.dataclass(frozen=True)
class Falsified:
    """The computations, each made when it is asked for.

    Attributes:
      sent_type: The type of what a client gives (`computations.Sent`).
      settings_type: That of what it is told (`computations.Settings`).
      attack: The options of an attack. It has `sent`, which makes of a client's own
        update and a key what it sends; or `forged`, which makes of all honest updates,
        float32 [clients, size], and of the number of hostile clients what each of
        these sends.
    """

    sent_type: tff.StructType
    settings_type: tff.StructType
    attack: Any

    @property
    def knows_others(self) -> bool:
        """Whether what a hostile client sends hangs on what others do."""
        return hasattr(self.attack, 'forged')

    @functools.cached_property
    def seen(self):
        """What others see of a client.

        That is the method's delta as a vector, float32 [size], whether the client sends
        anything and whether it is hostile, bool [].
        """

        @tff.tensorflow.computation(self.sent_type, self.settings_type)
        @tf.function(autograph=False)
        def seen(sent, settings):
            update, _ = sent.delta
            return (vectors.joined(update), sent.counts > 0, settings.hostile)

        return seen

    @functools.cached_property
    def forge(self):
        """What each hostile client sends of what all send, float32 [size].

        Where none is honest the hostile ones see each other instead.
        """

        of_one = self.seen.type_signature.result

        @tff.tensorflow.computation(appended(of_one))
        @tf.function(autograph=False)
        def forge(rows):
            updates, sends, hostile = rows
            honest = tf.logical_and(sends, tf.logical_not(hostile))
            lying = tf.logical_and(sends, hostile)
            shown = tf.cond(tf.reduce_any(honest), lambda: honest, lambda: lying)
            number = tf.math.count_nonzero(lying, dtype=tf.int32)
            return self.attack.forged(tf.boolean_mask(updates, shown), number)

        return forge

    @functools.cached_property
    def falsify(self):
        """What a client gives, of what it would give and of what `forge` gave, if so.

        What is not finite then counts for nothing.
        """
        told = self.forge.type_signature.result if self.knows_others else ()

        @tff.tensorflow.computation(self.sent_type, self.settings_type, told)
        @tf.function(autograph=False)
        def falsify(sent, settings, forged):
            update, moments = sent.delta

            def false():
                if self.knows_others:
                    return vectors.shaped(forged, update)
                own = vectors.joined(update)
                return vectors.shaped(self.attack.sent(own, settings.key), update)

            acts = tf.logical_and(settings.hostile, sent.counts > 0)
            now = tf.cond(
                acts, false, lambda: tf.nest.map_structure(tf.identity, update)
            )
            finite = all_finite(now)
            names = ('weight', 'sums', 'coded_bytes', 'counts', 'metrics')
            counted = ((now, moments), *(getattr(sent, name) for name in names))
            delta, *counted = zero_unless(finite, counted)
            told = sent._replace(
                delta=delta,
                dropped=sent.dropped + tf.cast(tf.logical_not(finite), tf.float32),
                **dict(zip(names, counted, strict=True)),
            )
            if not tf.nest.flatten(sent.history):
                return told
            more = vectors.joined(delta[0]) - vectors.joined(update)
            kept = sent.kept._replace(history=sent.kept.history + more)
            return told._replace(history=sent.history + more, kept=kept)

        return falsify
