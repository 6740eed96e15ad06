"""What is exported gives the predictions of what was trained."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import export
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def pictures(side, dtype=np.uint8):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (60, side, side, 1))
    x = x.astype(np.uint8) if dtype == np.uint8 else (x / 255).astype(np.float32)
    y = draw.integers(0, 3, 60).astype(np.int32)
    counts = np.full(6, 8), np.full(6, 2)
    return FederatedData('pictures', x, y, tuple('abcdef'), *counts, 3)


def interpreted(path, x):
    interpreter = tf.lite.Interpreter(str(path))
    return interpreter.get_signature_runner('serving_default')(inputs=x)


CASES = {
    'cnn of bytes': (ModelConfig(model='cnn', dropout=0.5), 28, np.uint8),
    'mlp of floats': (ModelConfig(model='mlp', hidden_units=(7,)), 5, np.float32),
    'backbone': (ModelConfig(hidden_units=(7,), dropout=0.5), 28, np.uint8),
    'backbone that sees smaller images': (ModelConfig(image_size=32), 40, np.uint8),
}


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_tflite_predicts_as_the_trained_model(tmp_path, monkeypatch, case):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    model, side, dtype = CASES[case]
    data = pictures(side, dtype)
    training = TrainingConfig(rounds=2, clients_per_round=3, tflite=True)
    config = Config(DataConfig(), model, training)
    result = loop.train(config, tmp_path / 'run', data=data)
    saved = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    inputs = result.setup.transform(result.setup.data.x[:7])
    expected = result.setup.model.logits(
        [tf.constant(weight) for weight in result.weights], tf.constant(inputs)
    )
    found = interpreted(tmp_path / 'run' / 'model.tflite', data.x[:7])
    for logits in (saved(data.x[:7])['logits'], found['logits']):
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found['probabilities'].sum(1), 1, rtol=1e-5)
    assert np.ptp(expected) > 1e-2
    one = interpreted(tmp_path / 'run' / 'model.tflite', data.x[:1])
    np.testing.assert_allclose(one['logits'], found['logits'][:1], atol=1e-5)


def test_what_cannot_be_converted_is_told(tmp_path):
    module = tf.Module()
    module.call = tf.function(
        lambda x: tf.numpy_function(np.sin, [x], tf.float32),
        input_signature=[tf.TensorSpec([None, 2])],
    )
    tf.saved_model.save(module, str(tmp_path / 'model'), signatures=module.call)
    with pytest.raises(UserError, match='leave --tflite out') as caught:
        export.save_tflite(tmp_path / 'model', tmp_path / 'model.tflite')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'model.tflite').exists()
