"""TFF's federated programs on both runtimes."""

import asyncio
import datetime
import functools
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models, runtime
from tff_transfer.data import federated
from tff_transfer.data.program_source import CohortSource
from tff_transfer.errors import UserError

ROUNDS, COHORT, FEATURES, CLASSES = 4, 3, 4, 3


@tff.tensorflow.computation
def one():
    return tf.constant(1)


@functools.cache
def population():
    draw = np.random.default_rng(0)
    y = draw.integers(0, CLASSES, 200)
    x = draw.normal(size=(200, FEATURES)) + 2 * np.eye(CLASSES, FEATURES)[y]
    clients = np.arange(200) % 10
    return federated.from_rows('rows', x.astype(np.float32), y, clients)


def sources():
    """Clients that train, and two that never do."""
    train, test = population().select(range(8)), population().select([8, 9])
    return CohortSource(train, batch_size=7, seed=5), CohortSource(test, batch_size=7)


@functools.cache
def processes():
    model = models.mlp([FEATURES], CLASSES).functional
    training = tff.learning.algorithms.build_weighted_fed_avg(
        model,
        tff.learning.optimizers.build_sgdm(0.1),
        tff.learning.optimizers.build_adam(0.1),
    )
    return training, tff.learning.algorithms.build_fed_eval(model)


class Killed(BaseException):
    pass


def evaluation_manager(folder, evaluations):
    _, evaluation = processes()
    return tff.learning.programs.EvaluationManager(
        data_source=sources()[1],
        aggregated_metrics_manager=evaluations,
        create_state_manager_fn=lambda name: tff.program.FileProgramStateManager(
            folder / name
        ),
        create_process_fn=lambda name: (evaluation, None),
        cohort_size=2,
        duration=datetime.timedelta(0),
    )


async def program(folder, rows, evaluations, killed_in=None):
    """Trains with TFF's managers; returns the last state.

    Args:
      folder: Where all is kept.
      rows: A manager to release each round's metrics to.
      evaluations: A manager to release them to, if there shall be any.
      killed_in: Which round of this run does not end.
    """
    states = tff.program.MemoryReleaseManager()
    rounds = iter(range(1, ROUNDS + 1))

    def kill(_):
        if next(rounds) == killed_in:
            raise Killed
        return False

    await tff.learning.programs.train_model(
        train_process=processes()[0],
        train_data_source=sources()[0],
        train_per_round_clients=COHORT,
        train_total_rounds=ROUNDS,
        should_discard_round=kill,
        program_state_manager=tff.program.FileProgramStateManager(folder / 'state'),
        model_output_manager=states,
        train_metrics_manager=tff.program.GroupingReleaseManager(
            [rows, tff.program.TensorBoardReleaseManager(folder / 'tensorboard')]
        ),
        evaluation_manager=evaluations and evaluation_manager(folder, evaluations),
        evaluation_periodicity=2,
    )
    return states.values()[f'training_checkpoint_round_{ROUNDS}']


def rounds_without_program():
    """Yields the state after each round, of a plain loop."""
    process, _ = processes()
    state = process.initialize()
    for number in range(1, ROUNDS + 1):
        cohort = sources()[0].cohort(COHORT, number)
        state = process.next(state, cohort).state
        yield state


def accuracy(state):
    kernel, bias = state.global_model_weights.trainable
    data = population().select([8, 9])
    labels = data.y[data.is_train]
    return np.mean((data.x[data.is_train] @ kernel + bias).argmax(1) == labels)


@pytest.mark.parametrize(
    ('use', 'evaluated'),
    [
        (runtime.use_compiled, False),
        pytest.param(runtime.use_compiled, True, marks=pytest.mark.slow),
        pytest.param(runtime.use_stock, True, marks=pytest.mark.slow),
    ],
)
def test_program_goes_on_after_a_kill_as_the_plain_loop_does(use, evaluated, tmp_path):
    rows = tff.program.MemoryReleaseManager()
    evaluations = tff.program.MemoryReleaseManager() if evaluated else None
    with use():
        states = list(rounds_without_program())
        with runtime.use_federated_context():
            with pytest.raises(Killed):
                asyncio.run(program(tmp_path, rows, evaluations, killed_in=3))
            final = asyncio.run(program(tmp_path, rows, evaluations))
    tf.nest.map_structure(np.testing.assert_array_equal, final, states[-1])
    assert sorted(rows.values()) == list(range(1, ROUNDS + 1))
    assert list((tmp_path / 'tensorboard').glob('events*'))
    if evaluated:
        released = evaluations.values()
        assert sorted(released) == [2, ROUNDS]
        for number, metrics in released.items():
            found = metrics['model_metrics']['accuracy']
            assert found == pytest.approx(accuracy(states[number - 1]))


def test_event_loop_goes_on_while_a_computation_runs():
    free = threading.Event()

    class Waiting(tff.framework.SyncContext):
        def invoke(self, comp, arg):
            return 7 if free.wait(10) else 0

    async def main():
        # As in a notebook, whose loop runs already.
        tff.framework.set_default_context(Waiting())
        with runtime.use_federated_context():
            value = one()
            await asyncio.sleep(0.01)
            free.set()
            return await tff.program.materialize_value(value)

    before = tff.framework.get_context_stack().current
    try:
        assert asyncio.run(main()) == 7
    finally:
        tff.framework.set_default_context(before)


def test_federated_context_is_over_the_runtime_that_was_chosen():
    async def main():
        return await tff.program.materialize_value(one())

    with runtime.use_compiled() as compiled:
        with runtime.use_federated_context() as context:
            # Once more, as a cell of a notebook that is run again.
            with runtime.use_federated_context() as again:
                assert asyncio.run(main()) == 1
            assert again is context
        assert tff.framework.get_context_stack().current is compiled
        assert one() == 1


def test_federated_context_wants_a_runtime():
    before = tff.framework.get_context_stack().current
    asynchronous = tff.backends.native.create_async_local_cpp_execution_context()
    tff.framework.set_default_context(asynchronous)
    try:
        with pytest.raises(UserError, match='AsyncExecutionContext; call use_comp'):
            runtime.use_federated_context()
    finally:
        tff.framework.set_default_context(before)
