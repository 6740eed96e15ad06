"""Clients of different architectures: networks and heads, side by side in one run.

A client has the architecture of its number in the population modulo their number. An
example's row has what any of them takes, side by side: its pixels, and its features of
each backbone or cut of one, standardised; each architecture takes its part.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer import backbones, features, models
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import finetuning, several

_FORM = re.compile(
    r'(?P<kind>.+?)(?:@(?P<cut>[^@:/]+))?(?::(?P<units>[0-9]+(?:-[0-9]+)*))?'
)
# Of the raw inputs; any other kind is a backbone's handle.
RAW = ('cnn', 'mlp')


class Architecture(NamedTuple):
    """One architecture.

    Attributes:
      kind: `cnn`, `mlp`, or the handle of a backbone, on which a head stands.
      cut: The layer at which that is cut, by its name, or how many layers with kernels
        are cut off; None if it is whole.
      units: Sizes of hidden layers.
    """

    kind: str
    cut: str | None
    units: tuple[int, ...]

    @property
    def below(self) -> tuple[str, str | None] | None:
        """What a head stands on, which others may share; None of the raw inputs."""
        return None if self.kind in RAW else (self.kind, self.cut)


def parsed(text: str) -> Architecture:
    """Returns an architecture of its form, KIND[@CUT][:UNITS[-UNITS]].

    Raises:
      UserError: It is not of that form.
    """
    found = _FORM.fullmatch(text)
    kind, cut, units = found.groups() if found else (None, None, None)
    units = tuple(map(int, units.split('-'))) if units else ()
    misused = (kind in RAW and cut) or (kind == 'cnn' and units)
    if kind is None or misused or 0 in units:
        raise UserError(
            f'--architectures has {text!r}, but must be of cnn, mlp:64-32 or'
            ' BACKBONE[@CUT][:UNITS-UNITS], such as embedded:64'
        )
    return Architecture(kind, cut, units)


def dealt(model: models.Model, clients: Sequence[int]) -> np.ndarray:
    """Returns the number of the architecture of each client, int64 [clients].

    Args:
      model: The model, of several.
      clients: Their numbers in the population.
    """
    return np.asarray(clients) % len(model.members)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What architectures take of an example.

    Attributes:
      shape: Of one.
      told: What tells it from another.
      vectors: Makes it of a population and the clients whose moments are its scale,
        float32 [n, size], and gives the function that makes the same of raw inputs in
        TensorFlow.
    """

    shape: tuple[int, ...]
    told: str
    vectors: Callable[[FederatedData, Sequence[int]], tuple[np.ndarray, Callable]]

    @property
    def size(self) -> int:
        """How many numbers that are."""
        return math.prod(self.shape)


class Together(NamedTuple):
    """Several architectures on some data.

    Attributes:
      sources: What they take, by what is below them.
      model: The model that is one of them.
    """

    sources: dict
    model: models.Model

    def rows(
        self, data: FederatedData, seen: Sequence[int]
    ) -> tuple[FederatedData, Callable]:
        """Returns data of rows, and the function of raw inputs to rows.

        Args:
          data: The population.
          seen: The clients whose training examples give the scale of features.
        """
        made = [source.vectors(data, seen) for source in self.sources.values()]

        def of_raw(inputs):
            return tf.concat([of_inputs(inputs) for _, of_inputs in made], axis=1)

        rows = np.concatenate([vectors for vectors, _ in made], axis=1)
        return data.with_x(rows), of_raw


def together(wanted: Sequence[str], data: FederatedData, seed: int) -> Together:
    """Makes the model of several architectures, each with its initial weights.

    Args:
      wanted: Their forms.
      data: The population.
      seed: The seed of initial weights.

    Raises:
      UserError: One does not suit the data, or a backbone cannot be had or cut.
    """
    found = [parsed(text) for text in wanted]
    sources, views, members = {}, [], []
    for each in found:
        if data.x.ndim != 4 and each.kind != 'mlp':
            raise UserError(
                f'{data.name} has vectors, no images, but --architectures has'
                f' {each.kind}; use mlp alone'
            )
        if each.below not in sources:
            sources[each.below] = _source(each, data)
    sizes = [source.size for source in sources.values()]
    firsts = dict(zip(sources, np.cumsum([0, *sizes[:-1]]), strict=True))
    for each in found:
        source = sources[each.below]
        views.append(several.View(int(firsts[each.below]), source.shape))
        if each.kind == 'cnn':
            made = models.cnn(source.shape, data.num_classes, seed=seed)
        else:
            made = models.mlp(source.shape, data.num_classes, each.units, seed=seed)
        told = f'{made.fingerprint} {source.told}'
        members.append(dataclasses.replace(made, fingerprint=told))
    return Together(sources, several.together(members, views, sum(sizes)))


def _source(of: Architecture, data: FederatedData) -> Source:
    if of.kind in RAW:
        return Source(
            tuple(data.x.shape[1:]),
            'raw',
            lambda data, seen: (_flat(np.asarray(data.x)).numpy(), _flat),
        )
    backbone = backbones.load(of.kind)
    if of.cut is not None:
        how = {'top_layers': int(of.cut)} if of.cut.isdigit() else {'layer': of.cut}
        backbone, _, _ = finetuning.cut(backbone, **how)
    return Source(
        (backbone.feature_size,),
        backbone.fingerprint,
        lambda data, seen: _features(backbone, data, seen),
    )


def _flat(inputs):
    """Returns raw inputs as rows, float32 [batch, size], images in [0, 1]."""
    scale = 255.0 if inputs.dtype == np.uint8 else 1.0
    rows = tf.reshape(inputs, [-1, math.prod(inputs.shape[1:])])
    return tf.cast(rows, tf.float32) / scale


def _features(backbone: Backbone, data: FederatedData, seen: Sequence[int]):
    vectors = data.with_x(np.asarray(features.extract(backbone, data, pooled=True)))
    standardise = features.standardisation(vectors, seen)
    return standardise(vectors.x), lambda images: standardise(
        features.over_places(backbone(images))
    )
