"""Values that do not fit together are refused, by name."""

import pytest

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def test_the_defaults_are_fit():
    Config().check()


@pytest.mark.parametrize(
    ('config', 'flag'),
    [
        (Config(DataConfig(dataset='by_client')), '--data_path'),
        (
            Config(DataConfig(dataset='synthetic_writers', data_path='x')),
            '--data_path',
        ),
        (
            Config(DataConfig(dataset='synthetic_writers', image_key='x')),
            '--image_key',
        ),
        (Config(DataConfig(data_path='a.sqlite', client_key='x')), '--client_key'),
        (Config(model=ModelConfig(model='cnn', image_size=28)), '--image_size'),
        (Config(DataConfig(dataset='synthetic_alpha_beta')), '--model=mlp'),
        (Config(model=ModelConfig(model='cnn', hidden_units=(3,))), '--hidden_units'),
        (Config(model=ModelConfig(dropout=0.5)), '--dropout'),
        (Config(training=TrainingConfig(rounds=-1)), '--rounds'),
        (Config(training=TrainingConfig(augment_shift=0.1)), '--finetune=head trains'),
        (
            Config(
                model=ModelConfig(finetune='top', top_layers=1),
                training=TrainingConfig(augment_flip=True),
            ),
            '--augment_flip',
        ),
        (
            Config(
                DataConfig(dataset='synthetic_alpha_beta'),
                ModelConfig(model='mlp'),
                TrainingConfig(augment_rotation=5.0),
            ),
            '--augment_rotation',
        ),
        (
            Config(training=TrainingConfig(straggler_fraction=0.5)),
            '--straggler_fraction is for --min_client_epochs; give both or leave it',
        ),
        (
            Config(
                training=TrainingConfig(
                    client_optimizer='adafactor', client_schedule='linear'
                )
            ),
            '--client_optimizer=adafactor cannot',
        ),
        (
            Config(
                training=TrainingConfig(server_optimizer='adafactor', server_warmup=1)
            ),
            '--server_optimizer=adafactor cannot',
        ),
        (
            Config(training=TrainingConfig(client_epochs=2, min_client_epochs=3)),
            '--min_client_epochs=3 is more than --client_epochs=2',
        ),
        (
            Config(
                training=TrainingConfig(
                    clients_per_round=4,
                    min_client_epochs=1,
                    straggler_fraction=0.9,
                    drop_stragglers=True,
                )
            ),
            '--drop_stragglers leaves none of --clients_per_round=4',
        ),
        (
            Config(training=TrainingConfig(server_momentum=0.9)),
            '--server_momentum',
        ),
        (
            Config(training=TrainingConfig(runtime='cluster')),
            '--runtime=cluster needs --cluster_address',
        ),
        (
            Config(training=TrainingConfig(cluster_address='10.0.0.1:6379')),
            '--cluster_address is for --runtime=cluster',
        ),
        (
            Config(training=TrainingConfig(runtime='stock', compute_dtype='bfloat16')),
            '--compute_dtype',
        ),
    ],
)
def test_unfit_values_are_one_line_with_the_flag(config, flag):
    with pytest.raises(UserError, match=flag) as caught:
        config.check()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        (
            DataConfig(num_writers=3),
            'num_writers is for --dataset=synthetic_writers, ',
        ),
        (DataConfig(alpha=2.0), 'alpha is for --dataset=synthetic_alpha_beta, but'),
        (DataConfig(test_fraction=0.0), 'test_fraction is for --dataset=by_client, '),
        (
            DataConfig('by_client', data_path='x', only_digits=False),
            'only_digits is for --dataset=emnist or synthetic_writers, but',
        ),
        (ModelConfig(adapter_rank=8), 'adapter_rank is for --finetune=adapters, but'),
        (ModelConfig('cnn', backbone='MobileNetV2'), 'backbone is for --model=backb'),
        (
            ModelConfig('mlp', image_size=64),
            'image_size is for a backbone, or for image',
        ),
        (ModelConfig(head_rounds=3), 'head_rounds is for --finetune=head_then_all, b'),
        (ModelConfig(hidden_units=512), 'hidden_units is 512, but must be a tuple'),
        (ModelConfig(hidden_units=[64]), r'hidden_units is \[64\], but must be a'),
        (TrainingConfig(client_learning_rate=float('inf')), 'client_learning_rate is'),
        (TrainingConfig(client_epsilon=0.1), 'client_epsilon is for --client_optimiz'),
        (
            TrainingConfig(server_optimizer='adafactor', server_epsilon=0.1),
            'server_epsilon is for --server_optimizer=adagrad, adam, adamw, rmsprop or',
        ),
    ],
)
def test_options_of_a_wrong_type_or_without_effect_are_refused(part, message):
    name = type(part).__name__.removesuffix('Config').lower()
    with pytest.raises(UserError, match=f'^--{message}'):
        Config(**{name: part}).check()


@pytest.mark.parametrize('name', registry.OF_ONE_ROUND)
def test_a_head_of_one_round_takes_no_options_of_rounds(name):
    def check(model=(), **training):
        model, training = ModelConfig(**dict(model)), TrainingConfig(**training)
        Config(DataConfig(), model, training, registry.options(name)()).check()

    check(seed=3, tflite=True)
    for flag, value in (('rounds', 3), ('client_learning_rate', 0.1)):
        with pytest.raises(UserError, match=f'--{flag} is for methods that train, but'):
            check(**{flag: value})
    for flag, value in (
        *(('head', 'cosine'), ('hidden_units', (7, 5)), ('finetune', 'all')),
        ('model', 'cnn'),
    ):
        with pytest.raises(UserError, match=f'a linear head .*, but --{flag} is '):
            check({flag: value})


def test_former_choices_say_what_they_are_called_now():
    with pytest.raises(UserError, match='^--head=ridge is --algorithm=ridge now; give'):
        Config(model=ModelConfig(head='ridge')).check()


def test_a_part_of_another_type_is_one_line():
    with pytest.raises(UserError, match='data of a Config is a ModelConfig, but must'):
        Config(ModelConfig()).check()


def test_what_fine_tuning_leaves_open_is_resolved():
    def resolved(rounds=30, **model):
        model = ModelConfig(**model)
        config = Config(model=model, training=TrainingConfig(rounds=rounds))
        config.check()
        assert config.resolved().resolved() == config.resolved()
        model = config.resolved().model
        return model.top_layers, model.cut_layer, model.head_rounds

    assert resolved() == (None, None, None)
    assert resolved(finetune='top') == (6, None, None)
    assert resolved(finetune='top', top_layers=2) == (2, None, None)
    assert resolved(finetune='top', cut_layer='x') == (None, 'x', None)
    assert resolved(finetune='head_then_all') == (None, None, 10)
    assert resolved(finetune='head_then_all', rounds=2) == (None, None, 1)
    assert resolved(finetune='head_then_all', head_rounds=7) == (None, None, 7)
    with pytest.raises(UserError, match='--head_rounds=1 leaves none of --rounds=1'):
        resolved(finetune='head_then_all', rounds=1)
