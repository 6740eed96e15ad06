"""Each of TFF's processes gives on a cluster what it gives on one machine, bit for bit.

The cluster: a head, and two nodes of one processor, on loopback.
"""

import pytest
import test_compiled_processes as processes
import test_lockstep as in_lockstep

from tff_transfer import runtime
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.compiled import Compiled, CompiledContext

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def context(cluster):
    with runtime.use_cluster(cluster.address) as context:
        yield context


@pytest.mark.parametrize('name', processes.CASES)
def test_process_gives_the_same_bits(name, context):
    build, model, data = processes.CASES[name]
    process = build(model())
    found = processes.run(process, data, rounds=2)
    with runtime.use_compiled(threads=2):
        expected = processes.run(process, data, rounds=2)
    processes.assert_same(expected, found, 0)


@pytest.mark.parametrize('name', ['weighted_fed_avg', 'compression', 'secure'])
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
