"""Methods whose clients share answers to public examples, against NumPy."""

import collections
import dataclasses

import method_references as references
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from method_references import CLASSES, FEATURES
from test_methods import (
    PUBLIC,
    W,
    composed,
    context,
    context_for,
    flat,
    of,
    reference_rounds,
    run,
)

from tff_transfer.algorithms import distillation
from tff_transfer.algorithms.public_examples import PublicExamples

slow = pytest.mark.slow
EXAMPLES, EPOCHS, RATE = 5, 2, 0.05
HOW = {'examples': EXAMPLES, 'epochs': EPOCHS, 'learning_rate': RATE}


def public(asked, number):
    """Returns the examples asked in a round, and batches of their rows in another."""
    drawn = PUBLIC.drawn(EXAMPLES, tf.constant(asked))
    x = np.asarray(drawn.examples['x'], np.float64)
    numbered = collections.OrderedDict(x=x, y=np.arange(len(x)))
    rows = dataclasses.replace(drawn, examples=numbered, epochs=EPOCHS)
    batches = rows.batches(tf.constant(number)).as_numpy_iterator()
    return x, [batch['y'] for batch in batches]


def sharper(mean):
    return references.probabilities(mean / 0.2)


CASES = {
    'fedmd': (
        of('fedmd', **HOW),
        (lambda z: z, lambda mean: mean, references.of_absolute_differences),
    ),
    'dsfl': (
        of('dsfl', temperature=0.2, **HOW),
        (references.probabilities, sharper, references.of_soft_labels),
    ),
}


@pytest.mark.parametrize('name', ['fedmd', pytest.param('dsfl', marks=slow)])
def test_four_rounds_are_those_of_the_paper(name):
    options, how = CASES[name]
    found, _, kept = run(options, context_for(name))
    server, own = references.by_answers(W, reference_rounds(), public, RATE, *how)
    assert sorted(own) == [0, 1, 2, 3, 4]
    for number, expected in own.items():
        ours = flat(kept[number].method)
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=2e-5)
    expected = W if name == 'fedmd' else server
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    # What is learned of the answers is far more than the tolerance.
    without = references.by_answers(W, reference_rounds(), public, 0.0, *how)
    for ours, theirs in zip((server, own[4]), (without[0], without[1][4]), strict=True):
        assert np.abs(ours - theirs).max() > 0.02


@slow
@pytest.mark.parametrize('name', CASES)
def test_without_a_rate_of_distillation_clients_learn_alone(name):
    found, _, kept = run(of(name, learning_rate=0.0), context_for(name))
    _, _, expected = run(of('local'))
    np.testing.assert_array_equal(found, W.astype(np.float32))
    for ours, theirs in zip(kept, expected, strict=True):
        np.testing.assert_allclose(flat(ours.method), flat(theirs.method), rtol=1e-6)


@slow
@pytest.mark.parametrize('name', CASES)
def test_answers_are_all_that_travels(name):
    of_clients = composed(CASES[name][0], context_for(name))
    assert of_clients.bytes_up == 4 * (EXAMPLES * CLASSES + 1)
    assert of_clients.bytes_down == of_clients.bytes_up
    # There are no more.
    of_clients = composed(of(name), context_for(name))
    assert of_clients.bytes_up == 4 * (PUBLIC.count * CLASSES + 1)


def test_each_round_has_other_examples_and_each_only_once():
    drawn = [PUBLIC.drawn(4, tf.constant(t)).examples['x'].numpy() for t in range(9)]
    assert all(len(np.unique(x, axis=0)) == 4 for x in drawn)
    assert len({x.tobytes() for x in drawn}) > 4
    every = {row.tobytes() for x in drawn for row in x}
    assert every == {row.tobytes() for row in PUBLIC.examples['x']}


@slow
def test_a_student_comes_to_agree_with_its_teacher():
    """Linear ones: where logits are matched the teacher is the only solution."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, FEATURES)).astype(np.float32)
    kernel = draw.normal(size=(FEATURES, CLASSES))
    taught = (x @ kernel + 0.5).astype(np.float32)
    examples = collections.OrderedDict(x=x, y=np.zeros(60, np.int32))
    asked = PublicExamples(examples, 20, epochs=1, seed=0)
    adam = tff.learning.optimizers.build_adam(0.05)

    @tf.function(autograph=False)
    def learned(loss, epochs):
        rows = distillation.answered(asked, taught, epochs).rows(tf.constant(1))
        start = tuple(map(tf.constant, context().initial))
        return distillation.distilled(context(), adam, start, rows, loss)

    def squares(scores, logits):
        return tf.reduce_mean(tf.square(scores - logits))

    found, bias = (w.numpy() for w in learned(squares, 200))
    np.testing.assert_allclose(found, kernel, atol=1e-3)
    np.testing.assert_allclose(bias, 0.5, atol=1e-3)
    # Of a softmax the logits are known but for what all classes share.
    other, bias = (w.numpy() for w in learned(distillation.divergence, 200))
    new = draw.normal(size=(500, FEATURES))
    agree = np.argmax(new @ other + bias, 1) == np.argmax(new @ kernel, 1)
    assert agree.mean() > 0.98
