"""Each of TFF's processes gives on a cluster what it gives on one machine, bit for bit.

The cluster: a head, and two nodes of one processor, on loopback.
"""

import collections
import dataclasses

import numpy as np
import pytest
import test_compiled_processes as processes
import test_lockstep as in_lockstep
import walks

from tff_transfer import runtime
from tff_transfer.data.rows import PreparedRows
from tff_transfer.features.scaling import Standardisation
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.compiled import Compiled, CompiledContext

pytestmark = pytest.mark.slow
OF_EACH_KIND = ('weighted_fed_avg', 'mime_lite', 'compression')


executor = pytest.importorskip('tff_transfer.runtime.cluster.executor')


@pytest.fixture(scope='module')
def context(cluster):
    with runtime.use_cluster(cluster.address) as context:
        yield context


@pytest.mark.parametrize('name', walks.over(processes.CASES, OF_EACH_KIND))
def test_process_gives_the_same_bits(name, context):
    build, model, data = processes.CASES[name]
    process = build(model())
    found = processes.run(process, data, rounds=2)
    with runtime.use_compiled(threads=2):
        expected = processes.run(process, data, rounds=2)
    processes.assert_same(expected, found, 0)


@pytest.mark.parametrize(
    'name',
    walks.over(['weighted_fed_avg', 'compression', 'secure'], ['compression']),
)
def test_process_gives_the_same_bits_in_lockstep(name, context):
    build, model, _ = processes.CASES[name]
    process = build(model())
    settings = Settings(1, 2**29, (), False, None, lockstep=True)
    actors = context._compiled._executor
    seeded = CompiledContext(Compiled(settings, actors), None)
    with runtime.installed.Installed(seeded):
        found = processes.run(process, in_lockstep.many, rounds=2)
    with in_lockstep.TOGETHER(threads=2):
        expected = processes.run(process, in_lockstep.many, rounds=2)
    processes.assert_same(expected, found, 0)


def test_a_broadcast_by_object_stores_gives_the_same_bits(context, monkeypatch):
    # None is so small that it would travel in calls.
    monkeypatch.setattr(executor, '_IN_CALLS', -1)
    build, model, data = processes.CASES['weighted_fed_avg']
    process = build(model())
    found = processes.run(process, data, rounds=2)
    with runtime.use_compiled(threads=2):
        expected = processes.run(process, data, rounds=2)
    processes.assert_same(expected, found, 0)


def test_rows_of_a_file_are_read_where_they_are_used(context, tmp_path):
    process = processes.fed_avg()(processes.functional_model())
    made = processes.cohort(3, (40, 0, 300, 9))
    order = np.random.default_rng(1).permutation(349)
    np.save(tmp_path / 'x.npy', made.examples['x'])
    stored = np.load(tmp_path / 'x.npy', mmap_mode='r')
    rows = PreparedRows(stored, order, Standardisation(np.float32(1), np.float32(3)))
    late = dataclasses.replace(
        made, examples=collections.OrderedDict(made.examples, x=rows)
    )
    early = dataclasses.replace(
        made, examples=collections.OrderedDict(made.examples, x=rows[:])
    )
    state = process.initialize()
    moved = context._compiled._executor.moved
    before = moved['clients']
    found = process.next(state, late)
    # The labels, a number a row and what stands around these, but no example.
    assert moved['clients'] - before < 349 * (4 + 8) + 2**13
    with runtime.use_compiled():
        expected = process.next(state, early)
    processes.assert_same(expected, found, 0)


def test_what_no_client_uses_travels_once_and_sums_of_nodes_are_sums(context):
    process = processes.fed_avg()(processes.functional_model())
    state, data = process.initialize(), processes.cohort(3, (40,) * 16)
    weights = process.get_model_weights(state).trainable
    nbytes = sum(np.asarray(weight).nbytes for weight in weights)
    moved = context._compiled._executor.moved

    def round_of(state):
        before = dict(moved)
        state = process.next(state, data).state
        return state, {kind: moved[kind] - before.get(kind, 0) for kind in moved}

    state, first = round_of(state)
    _, second = round_of(state)
    # To each of two nodes: the server's state and the broadcast, which are the same.
    assert first['broadcast'] >= 4 * nbytes
    assert 2 * nbytes <= second['broadcast'] < 2 * nbytes + 2**8
    # Of eight blocks each node sends the sum of its four.
    assert 2 * nbytes <= second['answers'] < 3 * nbytes
