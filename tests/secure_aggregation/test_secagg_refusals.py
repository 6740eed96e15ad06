"""What honest clients and the server refuse, and that nothing is told with it."""

import dataclasses

import numpy as np
import pytest

from tff_transfer.secure_aggregation import graphs, messages, primitives
from tff_transfer.secure_aggregation.client import Client
from tff_transfer.secure_aggregation.errors import (
    BadKey,
    BelowThreshold,
    BothSharesAsked,
    InconsistentShares,
    TamperedShares,
    WrongMessage,
)
from tff_transfer.secure_aggregation.messages import HEADER, SERVER, Envelope
from tff_transfer.secure_aggregation.parameters import Parameters
from tff_transfer.secure_aggregation.server import Server

N, LENGTH = 5, 4
VECTOR = np.arange(LENGTH, dtype=np.uint32)


@dataclasses.dataclass
class Run:
    """Parties under way, and the last messages."""

    clients: list
    server: Server
    up: dict
    down: dict


def until(round_, session=bytes(16)):
    """Runs until the server has answered a round."""
    parameters = Parameters(session, graphs.complete(N), 3, LENGTH)
    clients = [Client(i, parameters) for i in range(N)]
    server = Server(parameters)
    up = {i: clients[i].advertise() for i in range(N)}
    down = server.directories(up.values())
    if round_ >= messages.SHARE:
        up = {i: clients[i].share_keys(down[i]) for i in range(N)}
        down = server.forward(up.values())
    if round_ >= messages.MASK:
        up = {i: clients[i].masked_input(VECTOR, down[i]) for i in range(N)}
        down = server.request_shares(up.values())
    return Run(clients, server, up, down)


def changed(message, at):
    """Returns a message of which one bit is another."""
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def request(alive, dropped=(), receiver=0, session=bytes(16)):
    header = Envelope(session, messages.MASK, SERVER, receiver).header()
    return header + messages.pack_request(alive, dropped)


def ended(client, run):
    """Whether a client answers nothing any more."""
    calls = (
        client.advertise,
        lambda: client.share_keys(run.down[0]),
        lambda: client.masked_input(VECTOR, run.down[0]),
        lambda: client.unmask(request([1, 2, 3, 4])),
    )
    for call in calls:
        with pytest.raises(WrongMessage):
            call()
    return True


# --- keys


@pytest.mark.parametrize('place', ['sealing', 'masking'])
@pytest.mark.parametrize('of', [0, 1])
def test_equal_public_keys(place, of):
    run = until(messages.ADVERTISE)
    keys = messages.unpack_keys(run.down[0][HEADER:])
    own = messages.unpack_keys(run.down[1][HEADER:])[0]
    twin = own if of == 0 else keys[1]
    keys[2] = dataclasses.replace(keys[2], **{place: getattr(twin, place)})
    with pytest.raises(BadKey, match='the same'):
        run.clients[0].share_keys(run.down[0][:HEADER] + messages.pack_keys(keys))
    assert ended(run.clients[0], run)


def test_a_public_key_with_which_all_agree_on_the_same():
    run = until(messages.ADVERTISE)
    keys = messages.unpack_keys(run.down[0][HEADER:])
    keys[2] = dataclasses.replace(keys[2], sealing=bytes(32))
    with pytest.raises(BadKey, match='low order'):
        run.clients[0].share_keys(run.down[0][:HEADER] + messages.pack_keys(keys))
    assert ended(run.clients[0], run)


def test_keys_of_a_stranger():
    run = until(messages.ADVERTISE)
    keys = messages.unpack_keys(run.down[0][HEADER:])
    keys[9] = keys.pop(4)
    with pytest.raises(WrongMessage, match='client 9 is no neighbour'):
        run.clients[0].share_keys(run.down[0][:HEADER] + messages.pack_keys(keys))


def test_too_few_keys():
    run = until(messages.ADVERTISE)
    keys = messages.unpack_keys(run.down[0][HEADER:])
    few = {1: keys[1], 2: keys[2]}
    with pytest.raises(BelowThreshold, match='has 2 neighbours left and needs 3'):
        run.clients[0].share_keys(run.down[0][:HEADER] + messages.pack_keys(few))


# --- shares that travel sealed


@pytest.mark.parametrize('at', [4, 4 + 12, messages.ID + messages.SEALED - 1])
def test_a_sealed_share_that_was_changed(at):
    # A bit of the nonce, of the shares and of the tag.
    run = until(messages.SHARE)
    with pytest.raises(TamperedShares):
        run.clients[0].masked_input(VECTOR, changed(run.down[0], HEADER + at))
    assert ended(run.clients[0], run)


def test_sealed_shares_of_two_senders_changed_places():
    run = until(messages.SHARE)
    sealed = messages.unpack_records(run.down[0][HEADER:], messages.SEALED)
    sealed[1], sealed[2] = sealed[2], sealed[1]
    body = messages.pack_records(sealed)
    with pytest.raises(TamperedShares):
        run.clients[0].masked_input(VECTOR, run.down[0][:HEADER] + body)


def test_what_a_client_sealed_is_sent_back_to_it():
    # The key that two agree on is the same; what is sealed has a direction.
    run = until(messages.SHARE)
    mine = messages.unpack_records(run.up[0][HEADER:], messages.SEALED)[1]
    sealed = messages.unpack_records(run.down[0][HEADER:], messages.SEALED) | {1: mine}
    body = messages.pack_records(sealed)
    with pytest.raises(TamperedShares):
        run.clients[0].masked_input(VECTOR, run.down[0][:HEADER] + body)


def test_sealed_shares_of_another_sum_under_this_ones_header():
    run, other = until(messages.SHARE), until(messages.SHARE, b'another session!')
    with pytest.raises(TamperedShares):
        run.clients[0].masked_input(
            VECTOR, run.down[0][:HEADER] + other.down[0][HEADER:]
        )


# --- replays, and messages out of their place


@pytest.mark.parametrize(
    'part, value',
    [
        ('session', b'another session!'),
        ('round', messages.ADVERTISE),
        ('sender', 1),
        ('receiver', 1),
    ],
)
def test_a_message_is_bound_to_its_place(part, value):
    run = until(messages.SHARE)
    right = Envelope(bytes(16), messages.SHARE, SERVER, 0)
    assert run.down[0][:HEADER] == right.header()
    header = dataclasses.replace(right, **{part: value}).header()
    with pytest.raises(WrongMessage, match='not of this session'):
        run.clients[0].masked_input(VECTOR, header + run.down[0][HEADER:])
    assert ended(run.clients[0], run)


def test_a_round_is_asked_for_again():
    run = until(messages.SHARE)
    run.clients[0].masked_input(VECTOR, run.down[0])
    with pytest.raises(WrongMessage, match='out of turn'):
        run.clients[0].masked_input(VECTOR + np.uint32(1), run.down[0])


@pytest.mark.parametrize('cut', [1, HEADER - 1, HEADER + 3, 40])
def test_a_message_that_is_cut_short(cut):
    run = until(messages.SHARE)
    with pytest.raises(WrongMessage):
        run.clients[0].masked_input(VECTOR, run.down[0][:cut])


def test_a_request_that_is_cut_short():
    for cut in (HEADER, HEADER + 3, HEADER + 6, HEADER + 4 + 9):
        run = until(messages.MASK)
        with pytest.raises(WrongMessage, match='cut short'):
            run.clients[0].unmask(request([1, 2, 3], [4])[:cut])


# --- what would take both masks off


def test_both_secrets_of_a_client_in_one_request():
    run = until(messages.MASK)
    with pytest.raises(BothSharesAsked, match='both secrets of client 4'):
        run.clients[0].unmask(request([1, 2, 3, 4], [4]))
    assert ended(run.clients[0], run)


def test_both_secrets_of_a_client_in_two_requests():
    run = until(messages.MASK)
    run.clients[0].unmask(request([1, 2, 3, 4]))
    with pytest.raises(BothSharesAsked, match='second time'):
        run.clients[0].unmask(request([1, 2, 3], [4]))


def test_one_client_twice_in_a_request():
    run = until(messages.MASK)
    header = run.down[0][:HEADER]
    body = b''.join(number.to_bytes(4, 'little') for number in (4, 1, 2, 3, 3))
    with pytest.raises(WrongMessage, match='two records'):
        run.clients[0].unmask(header + body)


def test_a_request_that_leaves_too_few_in_the_sum():
    run = until(messages.MASK)
    with pytest.raises(BelowThreshold):
        run.clients[0].unmask(request([1, 2], [3, 4]))


def test_an_answer_has_one_secret_of_each_client():
    run = until(messages.MASK)
    answer = run.clients[0].unmask(request([1, 2, 3], [4]))
    seeds, keys = messages.unpack_two(answer[HEADER:], 16, 32)
    assert set(seeds) == {1, 2, 3} and set(keys) == {4}


# --- what the server finds


def answers(run):
    return {i: run.clients[i].unmask(run.down[i]) for i in range(N)}


def test_the_sum_of_these_messages():
    run = until(messages.MASK)
    total = run.server.total(answers(run).values())
    assert total.tolist() == [0, 5, 10, 15]


def test_a_share_of_a_seed_that_is_not_the_owners():
    run = until(messages.MASK)
    found = answers(run)
    found[0] = changed(found[0], HEADER + 4 + 4)
    with pytest.raises(InconsistentShares, match='the seed of client 1'):
        run.server.total(found.values())


def test_a_share_of_a_key_that_is_not_the_owners():
    run = until(messages.SHARE)
    up = {i: run.clients[i].masked_input(VECTOR, run.down[i]) for i in range(4)}
    run.down = run.server.request_shares(up.values())
    found = {i: run.clients[i].unmask(run.down[i]) for i in range(4)}
    found[0] = changed(found[0], len(found[0]) - 1)
    with pytest.raises(InconsistentShares, match='the key of client 4'):
        run.server.total(found.values())


def test_the_server_refuses_two_messages_of_a_client_and_strangers():
    run = until(messages.MASK)
    found = answers(run)
    with pytest.raises(WrongMessage, match='two messages'):
        run.server.total([*found.values(), found[0]])
    stranger = Envelope(bytes(16), messages.UNMASK, 7, SERVER).header()
    with pytest.raises(WrongMessage, match='client 7 takes no part'):
        run.server.total([stranger])
    with pytest.raises(WrongMessage, match='cut short'):
        run.server.total([b''])


def test_the_server_refuses_a_masked_vector_of_another_length():
    run = until(messages.SHARE)
    up = [run.clients[i].masked_input(VECTOR, run.down[i]) for i in range(N)]
    with pytest.raises(WrongMessage, match='cut short'):
        run.server.request_shares([*up[:4], up[4] + b'\0'])


def test_fewer_shares_than_the_threshold_tell_nothing():
    # Two shares of three fit any secret: every value has a third share that gives it.
    secret = bytes(range(16))
    shares = primitives.split(secret, 3, 5)
    assert primitives.combine(dict(enumerate(shares)), 3) == secret
    assert primitives.combine({4: shares[4], 1: shares[1], 3: shares[3]}, 3) == secret
    assert primitives.combine({0: shares[0], 1: shares[1]}, 2) != secret
    again = primitives.split(secret, 3, 5)
    assert shares[0] != again[0]
