"""From a method to a TFF process, and what one must know of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tree
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer.algorithms.computations import (
    NOTHING_TOLD,
    Computations,
    Kept,
    Settings,
)
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.algorithms.traffic import traffic_of
from tff_transfer.algorithms.wiring import Aggregator, Wiring
from tff_transfer.compression.federated_dropout import SubNetworks
from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True)
class Composed:
    """A method as a TFF process.

    Attributes:
      process: Where clients keep nothing a `tff.learning.templates.LearningProcess`.
        Else a `tff.templates.IterativeProcess` whose `next` takes the state, the
        clients' batches and what each of them keeps, a list or stacked
        (`runtime.StackedClients`), and gives the state, the metrics and what they
        keep now.
      kept: What a client keeps before its first round, a `Kept` of arrays; or None.
      settings: What `process.next` takes of each client besides, in the form of arrays
        of one; `NOTHING_TOLD` if nothing.
      adapt: Makes, once, the computation that takes what `process.next` takes, but for
        settings, and gives what each client's own model is made of, a `Kept`.
      train: Makes, once, the first half of a round, for methods without `gather`: it
        takes what `process.next` takes and gives each client's `Sent`.
      absorb: Makes, once, its second half: it takes a state and clients' `Sent` with
        nothing as `kept`, and gives the state and the metrics. The one after the other
        is a round, but what a client sent may be of an earlier state.
      bytes_down: What a client gets in a round, by its type, or packed.
      bytes_up: What it sends.
      measured: The names of what `measurements` gives of a round's metrics.
      only_mean: Whether the server gets nothing of clients but what the aggregator
        makes of their deltas.
      bytes_beside: For each direction that is compressed, `up` or `down`, how many of
        its bytes are not; `coded` of a round's metrics has about how many the others
        are entropy coded: of all clients together, or of the one message down.
    """

    process: tff.templates.IterativeProcess
    kept: Kept | None
    settings: Settings
    adapt: Callable[[], tff.Computation]
    train: Callable[[], tff.Computation]
    absorb: Callable[[], tff.Computation]
    bytes_down: int
    bytes_up: int
    measured: tuple[str, ...]
    only_mean: bool
    bytes_beside: Mapping[str, int]


def measurements(metrics: Mapping) -> dict[str, Any]:
    """Returns the scalars that method and aggregation measured in a round.

    Args:
      metrics: What a process measured, or the specs of it.

    Returns:
      Numbers, or specs, by names such as `server/step_size` or, of the aggregation's
      nested ones, `aggregator/clipping/clipping_norm`.
    """
    parts = {name: metrics[name] for name in ('server', 'aggregator')}
    return {
        '/'.join(map(str, path)): leaf
        for path, leaf in tree.flatten_with_path(parts)
        if np.shape(leaf) == () and _is_number(leaf)
    }


def _is_number(leaf) -> bool:
    dtype = tf.as_dtype(getattr(leaf, 'dtype', type(leaf)))
    return dtype.is_floating or dtype.is_integer


def compose(
    method: Method,
    context: Context,
    aggregator: Aggregator | None = None,
    *,
    cohort: int | None = None,
    compression: Any = None,
    compression_down: Any = None,
    settings: Settings = NOTHING_TOLD,
    public: PublicExamples | None = None,
    attack: Any = None,
    sub_networks: SubNetworks | None = None,
) -> Composed:
    """Makes a TFF process of a method.

    A client whose update is not finite, or that had no example, counts for nothing
    and keeps what it had; a round of such clients alone leaves the server's state.

    Args:
      method: The method.
      context: What it was made for.
      aggregator: How the clients' deltas become one; their weighted mean if not given.
      cohort: How many clients the server believes that there are in a round, where it
        may not know; it then takes a step in each round, whoever took part.
      compression: The options of a scheme of `compression.registry.UP`, by which
        clients send their deltas, before anything else is done with these.
      compression_down: Of `compression.registry.DOWN`, by which what the method
        broadcasts is sent.
      settings: What a client is told of itself in each round, such as
        `Settings(rate=np.float32(1))`; its number too if the method asks for it.
      public: The server's own examples. An aggregator with a true attribute
        `needs_reference` has what they come to as one more argument, at the server; one
        with a true `remembers` takes pairs of a client's delta and the sum of all that
        it sent.
      attack: The options of one of `attacks.registry`, by which those clients falsify
        what they send whose `Settings.hostile` is true.
      sub_networks: The parts of the shared weights that clients get, if not all, of a
        method of `registry.BY_SUB_NETWORKS`.

    Returns:
      The process, and what one must know of it.

    Raises:
      UserError: The server may not know who took part, but would get more of the
        clients than what the aggregator makes of their deltas; or there is nothing
        that a scheme could compress.
    """
    aggregator = aggregator or tff.aggregators.MeanFactory(no_nan_division=True)
    if getattr(aggregator, 'needs_reference', False) and public is None:
        raise UserError('the aggregator needs examples at the server; give public=')
    remembers = getattr(aggregator, 'remembers', False)
    schemes = (compression, compression_down)
    if method.numbered:
        settings = settings._replace(number=np.int32(0))
    wiring = Wiring(
        Computations(
            *(method, context, cohort, *schemes, settings, remembers, public),
            sub_networks,
        ),
        aggregator,
        attack,
    )
    if cohort is not None and not wiring.only_mean:
        raise UserError(
            'the method sends more than the mean of what clients come to, or nothing,'
            ' of which an aggregator would tell nothing; use another method'
        )
    traffic = traffic_of(wiring.of, wiring.weighted)
    return Composed(
        wiring.process,
        wiring.of.kept,
        settings,
        lambda: wiring.adapt,
        lambda: wiring.train,
        lambda: wiring.absorb,
        traffic.down,
        traffic.up,
        tuple(measurements(_specs_of_metrics(wiring.process))),
        wiring.only_mean,
        traffic.beside,
    )


def _specs_of_metrics(process: tff.templates.IterativeProcess) -> Mapping:
    _, metrics, *_ = process.next.type_signature.result
    return type_conversions.type_to_tf_tensor_specs(metrics.member)
