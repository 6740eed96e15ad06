"""Every way of the study to make a model for each hospital, judged on its tests."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
import tensorflow as tf

import tff_transfer as tt
from experiments.hospital_imaging import heads, hospitals
from experiments.hospital_imaging.heads import Head
from tff_transfer import features
from tff_transfer.backbones import Backbone
from tff_transfer.data import federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.training.result import Result

ALONE = 'alone'
ALONE_TUNED = 'alone, extractor fine-tuned'
FEDERATED = 'federated'
FEDERATED_TUNED = 'federated, extractor fine-tuned'
THEN_TUNED = 'federated, then fine-tuned by each'
CENTRAL = 'all images in one place'

# Where some of the backbone is trained too: the rate, the most rounds, and how many go
# by without a higher accuracy on validation examples.
TUNING_RATE = 0.01
TUNING_ROUNDS, TUNING_PATIENCE = 15, 4
# Images that are predicted at a time.
_BATCH = 64


class Judged(NamedTuple):
    """What a model says of a hospital's examples.

    Attributes:
      seed: The seed of the whole.
      method: How the model was made.
      hospital: Whose examples they are.
      chosen: What was chosen by validation examples.
      validation: Labels, int32 [v], and the probabilities of label 1, float [v], of
        validation examples.
      test: The same of test examples.
    """

    seed: int
    method: str
    hospital: str
    chosen: str
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def extractor_of(hospital: str) -> str:
    """Returns what the method is called that takes a hospital's model as extractor."""
    return f"{hospital}'s model as extractor"


def judged(
    data: FederatedData, backbone: Backbone, model: tt.ModelConfig, seed: int
) -> Iterator[Judged]:
    """Makes models for each hospital in every way.

    Args:
      data: The hospitals, with images.
      backbone: What gives features.
      model: The configuration that names that backbone.
      seed: The seed of validation parts, weights, batches and dropout.

    Yields:
      What each model says of the hospital that it is for.
    """
    on_features = data.with_x(np.asarray(features.extract(backbone, data)))
    yield from of_heads(on_features, seed)
    yield from of_tuned(data, model, seed)


def of_heads(data: FederatedData, seed: int) -> Iterator[Judged]:
    """Yields what heads on the frozen backbone say."""
    held, everyone = hospitals.held_out(data, seed), range(len(data))
    start = heads.new_head(data.x.shape[1], seed)

    def say(method: str, client: int, head: Head, trained: heads.Trained) -> Judged:
        chosen = f'rate {trained.rate:g}, round {trained.rounds}'
        return _judged(
            data,
            held,
            client,
            head.probabilities,
            seed=seed,
            method=method,
            chosen=chosen,
        )

    def train(on: FederatedData, clients: Sequence[int]) -> tuple[Head, heads.Trained]:
        scale = features.standardisation(on, clients).of_one_scale()
        trained = heads.train(start, on.with_x(scale(on.x)), clients, seed=seed)
        return Head(scale, trained.weights), trained

    alone = []
    for client in everyone:
        head, trained = train(held, [client])
        alone.append(head)
        yield say(ALONE, client, head, trained)
    head, trained = train(held, everyone)
    for client in everyone:
        yield say(FEDERATED, client, head, trained)
    scaled = held.with_x(head.standardise(held.x))
    for client in everyone:
        trained = heads.train(head.weights, scaled, [client], seed=seed)
        yield say(THEN_TUNED, client, Head(head.standardise, trained.weights), trained)
    head, trained = train(_pooled(held), [0])
    for client in everyone:
        yield say(CENTRAL, client, head, trained)
    for owner, extractor in enumerate(alone):
        hidden = held.with_x(extractor.hidden(held.x))
        for client in everyone:
            if client != owner:
                trained = heads.train(
                    heads.new_last_layer(), hidden, [client], seed=seed
                )
                weights = (*extractor.weights[:2], *trained.weights)
                joined = Head(extractor.standardise, weights)
                method = extractor_of(data.client_ids[owner])
                yield say(method, client, joined, trained)


def of_tuned(data: FederatedData, model: tt.ModelConfig, seed: int) -> Iterator[Judged]:
    """Yields what is said where the backbone's last layers are trained too."""
    held = hospitals.held_out(data, seed)

    def say(method: str, client: int, tuned: Result) -> Judged:
        return _judged(
            data,
            held,
            client,
            lambda images: _probabilities(tuned, images),
            seed=seed,
            method=method,
            chosen=f'round {tuned.exported_round}',
        )

    for client in range(len(data)):
        yield say(ALONE_TUNED, client, _tuned(held.select([client]), model, seed))
    tuned = _tuned(held, model, seed)
    for client in range(len(data)):
        yield say(FEDERATED_TUNED, client, tuned)


def _tuned(held: FederatedData, model: tt.ModelConfig, seed: int) -> Result:
    """Trains a head and a backbone's last layers, all hospitals in each round.

    Returns:
      The result, with the first round of the highest accuracy on validation examples.
    """
    model = dataclasses.replace(
        model, finetune='top', hidden_units=(heads.HIDDEN,), dropout=heads.DROPOUT
    )
    training = tt.TrainingConfig(
        rounds=TUNING_ROUNDS,
        clients_per_round=len(held),
        batch_size=heads.BATCH,
        client_learning_rate=TUNING_RATE,
        server_optimizer='sgd',
        server_learning_rate=1.0,
        evaluate_every=1,
        early_stop_patience=TUNING_PATIENCE,
        export='best',
        seed=seed,
    )
    config = tt.Config(tt.DataConfig(unseen_fraction=0.0), model, training)
    return tt.train(config, data=held)


def _probabilities(tuned: Result, images: np.ndarray) -> np.ndarray:
    """Returns the probabilities of label 1, float32 [n], of images."""
    setup, weights = tuned.setup, list(map(tf.constant, tuned.weights))

    @tf.function(reduce_retracing=True)
    def logits(some):
        return setup.model.logits(weights, setup.from_images(some))

    parts = [logits(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    return scipy.special.softmax(np.concatenate(parts), axis=1)[:, 1]


def _probabilities(tuned: Result, images: np.ndarray) -> np.ndarray:
    """Returns the probabilities of label 1, float32 [n], of images."""
    setup = tuned.setup
    weights = list(map(tf.constant, tuned.weights))
    parts = []
    for place in range(0, len(images), _BATCH):
        inputs = setup.from_images(tf.constant(images[place : place + _BATCH]))
        parts.append(setup.model.logits(weights, inputs))
    return scipy.special.softmax(np.concatenate(parts), axis=1)[:, 1]


def _judged(
    data: FederatedData,
    held: FederatedData,
    client: int,
    probabilities: Callable[[np.ndarray], np.ndarray],
    **said,
) -> Judged:
    parts = {}
    for part, of in (('validation', held), ('test', data)):
        rows = of.test_rows(client)
        parts[part] = of.y[rows], probabilities(of.x[rows])
    return Judged(hospital=data.client_ids[client], **said, **parts)


def _pooled(data: FederatedData) -> FederatedData:
    """Returns the examples of all hospitals as those of one."""
    return federated.from_rows(
        f'{data.name}, in one place',
        data.x,
        data.y,
        np.zeros(len(data.y), np.int64),
        num_classes=2,
        is_test=~data.is_train,
    )
