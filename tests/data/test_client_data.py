import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.data import client_data, federated


def sample(shape=(28, 28, 1), dtype=np.uint8):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (9, *shape)).astype(np.uint8)
    return federated.from_rows(
        'd',
        x if dtype == np.uint8 else draw.random((9, *shape), np.float32),
        draw.integers(0, 10, 9),
        np.array(['b', 'a', 'one'])[[0, 1, 1, 0, 0, 1, 2, 0, 1]],
        test_fraction=0.5,
    )


@pytest.mark.parametrize(
    ('shape', 'dtype', 'theirs'),
    [
        ((28, 28, 1), np.uint8, [28, 28]),
        ((5, 4, 3), np.float32, [5, 4, 3]),
        ((6,), np.float32, [6]),
    ],
)
def test_there_and_back(shape, dtype, theirs):
    data = sample(shape, dtype)
    train, test = client_data.to_tff(data)
    assert train.element_type_structure == collections.OrderedDict(
        label=tf.TensorSpec([], tf.int32), pixels=tf.TensorSpec(theirs, tf.float32)
    )
    assert train.client_ids == test.client_ids == ['a', 'b', 'one']
    back = client_data.from_tff(train, test, num_classes=data.num_classes)
    np.testing.assert_array_equal(back.x, data.x)
    np.testing.assert_array_equal(back.y, data.y)
    assert back.x.dtype == dtype and back.client_ids == data.client_ids
    assert back.num_test.tolist() == data.num_test.tolist() == [2, 2, 0]


def test_elements_are_those_of_emnist():
    ours, _ = client_data.to_tff(sample())
    theirs = tff.simulation.datasets.emnist.get_synthetic()
    assert ours.element_type_structure == theirs.element_type_structure
    data = sample()
    dataset = ours.create_tf_dataset_for_client('b')
    assert dataset.element_spec == ours.element_type_structure
    (batch,) = dataset.batch(10).as_numpy_iterator()
    rows = data.train_rows(1)
    np.testing.assert_array_equal(batch['label'], data.y[rows])
    np.testing.assert_allclose(batch['pixels'] * 255, data.x[rows, ..., 0], rtol=1e-6)


def test_a_client_without_examples_has_an_empty_dataset():
    _, test = client_data.to_tff(sample())
    assert list(test.create_tf_dataset_for_client('one')) == []
    with pytest.raises(ValueError, match='nobody'):
        test.create_tf_dataset_for_client('nobody')


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_tff_can_put_it_into_a_graph(dtype):
    data = sample(dtype=dtype)
    train, _ = client_data.to_tff(data)
    batched = train.preprocess(lambda dataset: dataset.batch(100))

    @tf.function
    def examples_of(client_id):
        return next(iter(batched.serializable_dataset_fn(client_id)))

    for client, client_id in enumerate(data.client_ids):
        (expected,) = batched.create_tf_dataset_for_client(client_id)
        found = examples_of(tf.constant(client_id))
        np.testing.assert_array_equal(found['label'], expected['label'])
        np.testing.assert_allclose(found['pixels'], expected['pixels'], rtol=1e-6)
        assert len(found['label']) == data.num_train[client]


def test_tff_s_own_data_are_read():
    theirs = tff.simulation.datasets.emnist.get_synthetic()
    data = client_data.from_tff(theirs, name='synthetic', test_fraction=0.2)
    assert data.name == 'synthetic' and data.client_ids == ('synthetic1', 'synthetic2')
    assert data.num_train.tolist() == [8, 8] and data.num_test.tolist() == [2, 2]
    assert sorted(data.y[:10]) == list(range(10)) and data.num_classes == 10
    # Their pixels are ninths, not 255ths.
    assert data.x.shape == (20, 28, 28, 1) and data.x.dtype == np.float32


def test_pairs_are_read():
    slices = {'a': (np.eye(3, dtype=np.float32), np.array([2, 1, 0]))}
    theirs = tff.simulation.datasets.TestClientData(slices)
    data = client_data.from_tff(theirs, test_fraction=0)
    np.testing.assert_array_equal(data.x, np.eye(3))
    assert data.y.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    'slices', [{'pixels': [[1.0]], 'name': [0]}, {'label': [0]}, ([0], [0], [0])]
)
def test_elements_of_another_form_are_refused(refused, slices):
    theirs = tff.simulation.datasets.TestClientData({'a': slices})
    with refused('ClientData:', 'pairs'):
        client_data.from_tff(theirs)


def test_no_examples_are_refused(refused):
    _, test = client_data.to_tff(sample().select([2]))
    with refused('ClientData:', 'no examples'):
        client_data.from_tff(test)


def test_bad_values_are_refused(refused):
    slices = {'x': np.zeros([1, 3], np.float32), 'y': np.array([-1])}
    theirs = tff.simulation.datasets.TestClientData({'a': slices})
    with refused('ClientData:', '-1'):
        client_data.from_tff(theirs)
