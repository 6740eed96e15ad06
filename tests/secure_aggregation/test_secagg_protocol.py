"""The protocol: sums, drop-outs, and vectors masked as the paper has it."""

import hashlib
import hmac
import itertools
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import costs, graphs, messages, simulation
from tff_transfer.secure_aggregation.errors import BelowThreshold
from tff_transfer.secure_aggregation.messages import ADVERTISE, MASK, SHARE, UNMASK
from tff_transfer.secure_aggregation.parameters import Parameters

SESSION = bytes(range(16))


def setup(clients=12, neighbours=6, threshold=3, length=40, bits=32):
    order = np.random.default_rng(3).permutation(clients)
    graph = graphs.k_regular(order, neighbours)
    return Parameters(SESSION, graph, threshold, length, bits)


def drawn(parameters, seed=0):
    shape = parameters.graph.clients, parameters.length
    draw = np.random.default_rng(seed)
    return draw.integers(0, 2**parameters.bits, shape, dtype=np.uint32)


def exact(vectors, of, bits):
    """Python's integers, which do not wrap."""
    columns = zip(*(vectors[i].tolist() for i in of), strict=True)
    return [sum(column) % 2**bits for column in columns]


@pytest.mark.parametrize('bits', [1, 12, 32])
@pytest.mark.parametrize('neighbours', [6, 11])
def test_the_sum_is_exact(neighbours, bits):
    parameters = setup(neighbours=neighbours, bits=bits)
    vectors = drawn(parameters)
    out = simulation.run(parameters, vectors)
    assert out.summed == tuple(range(12))
    assert out.total.dtype == np.uint32
    assert out.total.tolist() == exact(vectors, range(12), bits)


@pytest.mark.parametrize('round_', [ADVERTISE, SHARE, MASK, UNMASK])
@pytest.mark.parametrize('neighbours', [6, 11])
def test_drop_outs_are_recovered(round_, neighbours):
    parameters = setup(neighbours=neighbours)
    vectors = drawn(parameters)
    # Of neighbours next to each other as many as may go: 6 - 3.
    gone = parameters.graph.neighbours[0][:3]
    out = simulation.run(parameters, vectors, {round_: gone})
    # Who answers the third round is in the sum, even if not there any more.
    left = set(range(12)) - (set() if round_ == UNMASK else set(gone))
    assert set(out.summed) == left
    assert out.total.tolist() == exact(vectors, sorted(left), 32)


def test_drop_outs_in_every_round_at_once():
    parameters = setup(clients=20, neighbours=10, threshold=4)
    vectors = drawn(parameters)
    gone = {ADVERTISE: {2}, SHARE: {5, 6}, MASK: {11, 12}, UNMASK: {0}}
    out = simulation.run(parameters, vectors, gone)
    left = set(range(20)) - {2, 5, 6, 11, 12}
    assert set(out.summed) == left
    assert out.total.tolist() == exact(vectors, sorted(left), 32)


@pytest.mark.parametrize('round_', [ADVERTISE, SHARE, MASK, UNMASK])
def test_below_the_threshold_there_is_no_sum(round_):
    parameters = setup()
    gone = parameters.graph.neighbours[0][:4]
    with pytest.raises(BelowThreshold):
        simulation.run(parameters, drawn(parameters), {round_: gone})


def test_nobody_sends_a_vector():
    parameters = setup()
    with pytest.raises(BelowThreshold, match='no client has sent a vector'):
        simulation.run(parameters, drawn(parameters), {MASK: range(12)})


@pytest.mark.parametrize(
    'clients, neighbours, length, bits',
    [(5, 4, 7, 32), (12, 6, 40, 13), (9, 4, 1001, 1), (8, 3, 3, 27)],
)
def test_bytes_are_those_of_the_messages(clients, neighbours, length, bits):
    parameters = setup(clients, neighbours, 2, length, bits)
    out = simulation.run(parameters, drawn(parameters))
    found = costs.of_protocol(clients, length, neighbours, bits)
    assert [{len(m) for m in r.received.values()} for r in out.rounds] == [
        {size} for size in found.up
    ]
    assert [{len(m) for m in r.sent.values()} for r in out.rounds[:3]] == [
        {size} for size in found.down[:3]
    ]
    assert found.down[3] == 0 and out.rounds[3].sent == {}
    everything = [
        m for r in out.rounds for of in (r.received, r.sent) for m in of.values()
    ]
    assert found.server == sum(map(len, everything))
    assert found.client == found.server // clients


@pytest.mark.parametrize(
    'log_clients, log_length, bits, paper', [(10, 20, 26, 1.73), (14, 24, 30, 1.98)]
)
def test_bytes_are_near_those_of_the_paper(log_clients, log_length, bits, paper):
    # Its abstract, of numbers of 16 bits: expansion over sending them in the clear.
    n = 2**log_clients
    found = costs.of_protocol(n, 2**log_length, n - 1, bits)
    assert found.client / 2 ** (log_length + 1) == pytest.approx(paper, abs=0.03)


class Repeating:
    """Bytes that a test knows: a hash of a counter."""

    def __init__(self):
        self.given = []

    def __call__(self, count):
        number = len(self.given).to_bytes(4, 'big')
        self.given.append(hashlib.sha256(number).digest()[:count])
        return self.given[-1]


def hkdf(secret, info):
    """RFC 5869 for one block of 16 bytes."""
    extracted = hmac.digest(SESSION, secret, 'sha256')
    return hmac.digest(extracted, info + b'\x01', 'sha256')[:16]


def stretched(key, length):
    """AES-128 in counter mode, block by block."""
    counters = b''.join(i.to_bytes(16, 'big') for i in range(-(-length // 4)))
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return np.frombuffer(ecb.update(counters), '<u4')[:length].astype(object)


def test_masked_vectors_are_those_of_the_paper():
    parameters = setup(clients=3, neighbours=2, threshold=2, length=10)
    vectors, source = drawn(parameters), Repeating()
    out = simulation.run(parameters, vectors, source=source)
    # A client draws the key for sealing, that for masks, and its seed.
    keys = [
        X25519PrivateKey.from_private_bytes(source.given[3 * i + 1]) for i in range(3)
    ]
    seeds = [source.given[3 * i + 2] for i in range(3)]
    for client, message in out.rounds[MASK].received.items():
        expected = vectors[client].astype(object)
        expected += stretched(hkdf(seeds[client], b'own mask'), 10)
        for other in {0, 1, 2} - {client}:
            public = keys[other].public_key().public_bytes_raw()
            agreed = keys[client].exchange(X25519PublicKey.from_public_bytes(public))
            low, high = sorted((client, other))
            pair = bytes([low, 0, 0, 0, high, 0, 0, 0])
            mask = stretched(hkdf(agreed, b'mask of pair' + pair), 10)
            expected += mask if client < other else -mask
        found = np.frombuffer(message[messages.HEADER :], '>u4')
        assert found.tolist() == [int(value) % 2**32 for value in expected]


def test_the_same_source_gives_the_same_masked_vectors():
    parameters = setup()
    vectors = drawn(parameters)
    first, again = (
        simulation.run(parameters, vectors, source=Repeating()) for _ in range(2)
    )
    other = simulation.run(parameters, vectors)
    assert first.rounds[MASK].received == again.rounds[MASK].received
    assert first.rounds[MASK].received != other.rounds[MASK].received


@pytest.mark.parametrize(
    'change, why',
    [
        ({'session': b'short'}, 'a session is 16 bytes'),
        ({'threshold': 1}, 'from 2 to the 6 neighbours'),
        ({'threshold': 7}, 'from 2 to the 6 neighbours'),
        ({'bits': 33}, '1 to 32 bits'),
        ({'length': 0}, 'at least 1 number'),
    ],
)
def test_parameters_that_make_no_sense(change, why):
    given = vars(setup()) | change
    with pytest.raises(UserError, match=why):
        Parameters(**given)


@pytest.mark.parametrize(
    'vector, why',
    [
        (np.zeros(40, np.int64), 'uint32'),
        (np.zeros(39, np.uint32), r'\[40\]'),
        (np.full(40, 2**12, np.uint32), 'more than 12 bits'),
    ],
)
def test_vectors_of_another_form_are_refused(vector, why):
    parameters = setup(bits=12)
    vectors = [*drawn(parameters)[:11], vector]
    with pytest.raises(UserError, match=why):
        simulation.run(parameters, vectors)


def test_as_many_vectors_as_clients():
    parameters = setup()
    with pytest.raises(UserError, match='11 vectors for 12 clients'):
        simulation.run(parameters, drawn(parameters)[:11])


def test_tensorflow_is_not_imported():
    code = (
        'import sys, tff_transfer.secure_aggregation.simulation;'
        'import tff_transfer.secure_aggregation.ckks;'
        'print([m for m in sys.modules if m.startswith(("tensorflow", "tenseal"))])'
    )
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert ran.stdout == '[]\n', ran.stderr


@pytest.mark.slow
def test_any_drop_outs_give_the_exact_sum_or_none():
    parameters = setup(clients=5, neighbours=4, threshold=2, length=3)
    vectors, sums, refused = drawn(parameters), 0, 0
    for rounds in itertools.product(range(5), repeat=5):
        if sum(round_ < 4 for round_ in rounds) > 3:
            continue
        gone = {r: [i for i in range(5) if rounds[i] == r] for r in range(4)}
        try:
            out = simulation.run(parameters, vectors, gone)
        except BelowThreshold:
            refused += 1
            continue
        sums += 1
        there = [i for i in range(5) if rounds[i] > MASK]
        assert out.summed == tuple(there)
        assert out.total.tolist() == exact(vectors, there, 32), gone
    assert sums > 100 and refused > 100
