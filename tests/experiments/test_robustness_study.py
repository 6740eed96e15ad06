"""The study of defences and attacks: its runs, its table and its picture, by hand."""

import pytest

from experiments.robustness import __main__ as study
from experiments.robustness import cases, pictures
from experiments.robustness.cases import Case
from experiments.robustness.runs import Found, Runs
from tff_transfer.attacks import registry
from tff_transfer.attacks.sign_flip import SignFlip
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.training_config import TrainingConfig

NAMES, SHARES = ('signflip', 'backdoor'), (0.1, 0.3)
FOUND = {
    Case('plain'): Found(0.9),
    Case('plain', 'signflip', 0.1): Found(0.7),
    Case('plain', 'signflip', 0.3): Found(0.1),
    Case('plain', 'backdoor', 0.1): Found(0.88, 0.6),
    Case('plain', 'backdoor', 0.3): Found(0.86, 1.0),
}


def test_every_run_of_the_study_is_one_that_a_configuration_takes():
    wanted = cases.all_of(cases.DEFENCES, registry.ATTACKS, SHARES)
    assert len(set(map(str, wanted))) == len(cases.DEFENCES) * (1 + 7 * 2)
    for clients in (20, 30):
        config = Config(training=TrainingConfig(clients_per_round=clients))
        for case in wanted:
            cases.configured(config, case).check()
    assert cases.options_of('bulyan', 30).attackers == 6  # 4 x 6 + 3 <= 30.
    assert cases.options_of('krum', 30).attackers == 9


def test_the_table_has_a_row_for_each_share():
    assert study.table(FOUND, NAMES, SHARES) == [
        ['defence', 'attackers', 'none', *NAMES, 'backdoor success'],
        ['plain', '10%', '90.0%', '70.0%', '88.0%', '60.0%'],
        ['plain', '30%', '90.0%', '10.0%', '86.0%', '100.0%'],
    ]
    assert study.table(FOUND, NAMES[:1], SHARES[:1]) == [
        ['defence', 'attackers', 'none', 'signflip'],
        ['plain', '10%', '90.0%', '70.0%'],
    ]


def test_the_heat_map_shows_accuracy_and_success():
    figure = pictures.drawn(FOUND, ['plain'], NAMES, SHARES)
    shown = [axes.images[0].get_array().tolist() for axes in figure.axes]
    assert shown == [[[0.9, 0.7, 0.1, 0.88, 0.86]], [[0.6, 1.0]]]
    told = [text.get_text() for text in figure.axes[0].texts]
    assert told == [*('90', '70', '10', '88', '86'), 'none', *NAMES]
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ['', '10%', '30%', '10%', '30%']
    alone = pictures.drawn(FOUND, ['plain'], NAMES[:1], SHARES)
    assert len(alone.axes) == 1


@pytest.mark.parametrize(
    ('config', 'shares', 'words'),
    [
        (Config(attack=SignFlip()), SHARES, 'chooses attack itself'),
        (Config(), (0.0, 0.1), '--shares must be above 0'),
    ],
)
def test_flags_that_the_study_chooses_are_refused(config, shares, words):
    with pytest.raises(UserError, match=words):
        study.check(config, shares)


def test_what_was_done_is_kept_for_the_same_flags_alone(tmp_path, monkeypatch):
    done = []

    def trained(self, config):
        done.append(config)
        return Found(0.5, 0.25)

    monkeypatch.setattr(Runs, '_trained', trained)
    for _ in range(2):
        assert Runs(tmp_path).of('one', Config()) == Found(0.5, 0.25)
    assert len(done) == 1
    other = Config(training=TrainingConfig(seed=1))
    with pytest.raises(UserError, match='one.json is of a run with other flags'):
        Runs(tmp_path).of('one', other)


@pytest.mark.slow
@pytest.mark.walk
def test_a_run_of_the_study_is_a_run(tmp_path):
    config = Config(
        DataConfig(dataset='synthetic_writers', num_writers=12, examples_per_writer=20),
        training=TrainingConfig(rounds=3, clients_per_round=5, evaluate_every=3),
    )
    made = Runs(tmp_path)
    for case in (Case('median', 'backdoor', 0.4), Case('plain', 'labelflip', 0.4)):
        one = cases.configured(config, case)
        found, row = made.of(str(case), one), loop.train(one).rows[-1]
        assert found.accuracy == pytest.approx(row['unseen/accuracy'])
        assert found.backdoor == row.get('unseen/backdoor')
