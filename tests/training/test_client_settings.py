"""Clients that train each in its own way: equal to NumPy, and what is refused."""

import dataclasses

import numpy as np
import pytest
import walks
from test_loop import make_config, make_data

from tff_transfer import runtime
from tff_transfer.algorithms import registry
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.training import client_settings, loop, stages
from tff_transfer.training.runtimes import use_runtime

SEEN = split_clients(10, 0.2)[0]
# Of some of the clients: epochs, batch size and learning rate.
OWN = {SEEN[0]: (3, 4, 0.4), SEEN[1]: (1, 12, 0.05), SEEN[4]: (2, 7, 0.1)}
COMMON = (1, 5, 0.1)


def settings_file(folder, text):
    """Returns the path of a file of a text."""
    path = folder / 'settings.csv'
    path.write_text(text)
    return str(path)


def own_settings(folder, data):
    """Returns the file of `OWN`, in which what is common is left empty."""
    rows = [
        ','.join([data.client_ids[c], *('' if v in COMMON else str(v) for v in of)])
        for c, of in OWN.items()
    ]
    header = 'client,epochs,batch_size,learning_rate'
    return settings_file(folder, '\n'.join([header, *rows, '']))


def softmax_sgd(weights, x, y, batch_size, rate):
    """Returns the weights after a client's batches, and how many there were."""
    kernel, bias = (w.astype(np.float64) for w in weights)
    steps = 0
    for row in range(0, len(y), batch_size):
        xs, ys = x[row : row + batch_size], y[row : row + batch_size]
        logits = xs @ kernel + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True)
        error[np.arange(len(ys)), ys] -= 1
        kernel, bias = (
            kernel - rate * xs.T @ error / len(ys),
            bias - rate * error.mean(axis=0),
        )
        steps += 1
    return [kernel, bias], steps


def by_hand(algorithm, stage, weights, number):
    """Returns the weights after a round of federated averaging or FedNova."""
    turnout = stage.participants.turnout((), number, None)
    cohort = stage.participants.cohort(turnout, number)
    deltas, sizes, norms = [], [], []
    for place, client in enumerate(stage.setup.seen[turnout.clients]):
        epochs, batch_size, rate = OWN.get(client, COMMON)
        rows = slice(cohort.row_splits[place], cohort.row_splits[place + 1])
        x, y = cohort.examples['x'][rows], cohort.examples['y'][rows]
        assert len(y) == epochs * stage.setup.data.num_train[client]
        after, steps = softmax_sgd(weights, x, y, batch_size, rate)
        deltas.append([a - b for a, b in zip(after, weights, strict=True)])
        sizes.append(len(y))
        norms.append(steps * rate / COMMON[2])
    share = np.array(sizes) / np.sum(sizes)
    if algorithm == 'fednova':  # Wang et al. 2020, equations 5 to 10.
        share = share / norms * np.sum(share * norms)
    return [
        w + sum(s * d[part] for s, d in zip(share, deltas, strict=True))
        for part, w in enumerate(weights)
    ]


@pytest.mark.parametrize(
    'algorithm, chosen',
    [
        ('fedavg', 'compiled'),
        pytest.param('fedavg', 'stock', marks=pytest.mark.slow),
        pytest.param('fednova', 'compiled', marks=pytest.mark.slow),
    ],
)
def test_rounds_equal_numpy(algorithm, chosen, tmp_path):
    data = make_data()
    config = make_config(
        clients_per_round=len(SEEN),
        client_settings=own_settings(tmp_path, data),
        runtime=chosen,
    )
    config = dataclasses.replace(config, algorithm=registry.options(algorithm)())
    config.check()
    setup = loop.prepare(config, data, None, loop.head_or_network(config, data, None))
    with use_runtime(config.training):
        (stage,) = stages.stages(config, setup)
        state = stage.initialize()
        expected = [np.zeros_like(w) for w in stage.weights(state)]
        for number in (1, 2):
            expected = by_hand(algorithm, stage, expected, number)
            state, _ = stage.next(state, number)
            for ours, theirs in zip(stage.weights(state), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


# Those that read the rate in a way of their own, and one that trains twice.
BY_RATE = (
    *('mime', 'mimelite', 'scaffold', 'fednova', 'qfedavg', 'pfedme', 'jointft'),
    'fedrep',
)
OF_EACH_KIND = ('mime', 'scaffold', 'fednova', 'fedrep')


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(BY_RATE, OF_EACH_KIND))
def test_the_same_rate_for_each_client_is_that_of_all(name, tmp_path):
    data = make_data()
    rows = [f'{client},0.03' for client in data.client_ids]
    path = settings_file(tmp_path, '\n'.join(['client,learning_rate', *rows]))
    server = name in registry.BY_SERVER_OPTIMIZER
    more = {} if server else {'server_optimizer': 'adam', 'server_learning_rate': 0.02}
    more['client_schedule'] = 'cosine'
    algorithm = registry.options(name)()
    found = []
    for told in ({'client_settings': path}, {'client_learning_rate': 0.03}):
        config = make_config(**{**more, **told})
        model = dataclasses.replace(config.model, hidden_units=(4,))
        config = dataclasses.replace(config, algorithm=algorithm, model=model)
        config.check()
        model = loop.head_or_network(config, data, None)
        setup = loop.prepare(config, data, None, model)
        with use_runtime(config.training):
            (stage,) = stages.stages(config, setup)
            state = stage.initialize()
            for number in (1, 2, 3):
                state, _ = stage.next(state, number)
            kept = () if not stage.stored else stage._states.take(state['kept'], [0, 1])
        found.append((state['server'].server, kept and kept.arrays))
    flat = [
        [np.asarray(leaf) for leaf in loop.tf.nest.flatten(state)] for state in found
    ]
    assert any(np.abs(leaf).max() > 1e-3 for leaf in flat[0])
    for ours, theirs in zip(*flat, strict=True):
        # A rate in the server's state is the one that all have.
        if ours.shape == () and np.isclose(theirs, 0.03):
            continue
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    'text, said',
    [
        ('', 'must have the columns client and some of .* but has none'),
        ('client,rate\na,1\n', 'but has client, rate'),
        ('epochs\n1\n', 'but has epochs'),
        ('client,epochs\n', 'has a header but no clients'),
        ('client,epochs\nclient 1\n', 'row 2 has 1 cells, but the header has 2'),
        ('client,epochs\nnobody,1\n', "row 2: toy has no client 'nobody'"),
        ('client,epochs\nclient 1,1\nclient 1,2\n', "row 3 is a second .*'client 1'"),
        ('client,epochs\nclient 1,0\n', "row 2: epochs is '0', but must be a whole"),
        ('client,epochs\nclient 1,1.5\n', "row 2: epochs is '1.5', but must be a"),
        ('client,batch_size\nclient 1,-3\n', "row 2: batch_size is '-3', but must"),
        ('client,learning_rate\nclient 1,0\n', "learning_rate is '0', but must be a"),
        ('client,learning_rate\nclient 1,nan\n', "learning_rate is 'nan', but must"),
        ('client,learning_rate\nclient 1,inf\n', "learning_rate is 'inf', but must"),
    ],
)
def test_what_is_no_settings_file_is_one_line(text, said, tmp_path):
    config = make_config(client_settings=settings_file(tmp_path, text))
    with pytest.raises(UserError, match=said) as caught:
        client_settings.of(config, make_data())
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'text, name, training, said',
    [
        ('learning_rate\nclient 1,1', 'fedsgd', {}, 'clients send the gradient'),
        (
            'learning_rate\nclient 1,1',
            'fedavg',
            {'client_optimizer': 'adafactor'},
            'adafactor cannot',
        ),
        ('epochs\nclient 1,2', 'jointft', {}, 'a client stops by itself'),
        ('epochs\nclient 1,2', 'fedavg', {'min_client_epochs': 1}, 'are drawn'),
    ],
)
def test_columns_without_effect_are_one_line(text, name, training, said, tmp_path):
    path = settings_file(tmp_path, f'client,{text}\n')
    config = make_config(client_settings=path, **training)
    config = dataclasses.replace(config, algorithm=registry.options(name)())
    with pytest.raises(UserError, match=said):
        client_settings.of(config, make_data())


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    config = make_config(client_settings=str(tmp_path / 'none.csv'))
    with pytest.raises(UserError, match='cannot be read: No such file'):
        client_settings.of(config, make_data())


def test_noise_on_gradients_goes_with_no_settings():
    config = make_config(client_settings='any.csv')
    with pytest.raises(UserError, match='leave --client_settings out'):
        dataclasses.replace(config, privacy=PerExample(noise_multiplier=1.0)).check()


@pytest.mark.slow
def test_a_settings_file_that_changed_is_another_run(tmp_path):
    path = settings_file(tmp_path, 'client,epochs\nclient 1,2\n')
    config = make_config(client_settings=path, rounds=1)
    with runtime.use_compiled():
        loop.train(config, tmp_path / 'run', data=make_data())
    settings_file(tmp_path, 'client,epochs\nclient 1,3\n')
    with pytest.raises(UserError, match='whose client_settings was settings.csv'):
        loop.train(config, tmp_path / 'run', data=make_data())
