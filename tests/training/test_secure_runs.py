"""Runs whose server sees sums alone."""

import dataclasses

import numpy as np
import pytest
from test_algorithms import config as config_of
from test_loop import CLASSES, SIZE, make_config, make_data

from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.compression.sparse import TopK
from tff_transfer.errors import UserError
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.secure_aggregation import costs
from tff_transfer.training import loop


def secure(made=None, **options):
    return dataclasses.replace(made or make_config(), aggregation=Secure(**options))


def test_a_run_is_the_plain_one_within_what_rounding_does():
    plain = loop.train(make_config(), data=make_data())
    found = loop.train(secure(), data=make_data())
    pairs = list(zip(found.weights, plain.weights, strict=True))
    assert any((a != b).any() for a, b in pairs)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # The update and the weight of each of three clients, who all share masks.
    spent = costs.of_protocol(3, SIZE * CLASSES + CLASSES + 1, 2, 32)
    row = found.rows[-1]
    assert row['bytes/up'] == 3 * sum(spent.up)
    assert row['bytes/down'] == plain.rows[-1]['bytes/down'] + 3 * sum(spent.down)


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'privacy': Central(noise_multiplier=1.0)}, 'use --privacy=distributed alone'),
        ({'compression': TopK()}, 'leave it out'),
    ],
)
def test_what_does_not_go_with_it_is_refused(changed, words):
    made = make_config(weighting='uniform')
    with pytest.raises(UserError, match=words):
        dataclasses.replace(secure(made), **changed).check()


@pytest.mark.parametrize(
    'made',
    [
        secure(),
        dataclasses.replace(make_config(), privacy=Distributed(noise_multiplier=1.0)),
    ],
)
def test_the_worker_of_tff_has_no_secure_sums(made):
    training = dataclasses.replace(made.training, runtime='stock', weighting='uniform')
    with pytest.raises(UserError, match='use --runtime=compiled'):
        dataclasses.replace(made, training=training).check()


def test_every_method_is_summed_securely_or_refused():
    for name in registry.NAMES:
        made = secure(config_of(name))
        if name in registry.BESIDE_THE_MEAN:
            with pytest.raises(UserError, match='--aggregation=secure hides updates'):
                made.check()
        else:
            made.check()
