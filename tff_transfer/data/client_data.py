"""Conversions to and from `tff.simulation.datasets.ClientData`."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import progress
from tff_transfer.data import examples, federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

ClientData = tff.simulation.datasets.ClientData


def to_tff(data: FederatedData) -> tuple[ClientData, ClientData]:
    """Gives data the form that `tff.simulation.datasets.emnist.load_data` returns.

    An example is an `OrderedDict` of `label`, int32 [], and `pixels`, float32: images
    in [0, 1], [h, w] if grey and [h, w, 3] if in colours; vectors as they are.

    Args:
      data: What to convert. Its arrays are not copied.

    Returns:
      Training and test data, each of all clients.
    """
    starts = data.row_splits[:-1]
    return (
        _ArrayClientData(data, starts, data.num_train),
        _ArrayClientData(data, starts + data.num_train, data.num_test),
    )


class _ArrayClientData(ClientData):
    """One part of a `FederatedData` as TFF's `ClientData`."""

    def __init__(self, data: FederatedData, starts: np.ndarray, counts: np.ndarray):
        self._client_ids = list(data.client_ids)
        self._rows = {
            client_id: (start, start + count)
            for client_id, start, count in zip(
                data.client_ids, starts.tolist(), counts.tolist(), strict=True
            )
        }
        grey = data.x.ndim == 4 and data.x.shape[3] == 1
        self._x = data.x[..., 0] if grey else data.x
        self._y = data.y

    @property
    def client_ids(self) -> list[str]:
        return self._client_ids

    @property
    def element_type_structure(self):
        return collections.OrderedDict(
            label=tf.TensorSpec([], tf.int32),
            pixels=tf.TensorSpec(self._x.shape[1:], tf.float32),
        )

    @property
    def serializable_dataset_fn(self):
        return self._dataset

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        if client_id not in self._rows:
            raise ValueError(f'there is no client {client_id!r}')
        rows = slice(*self._rows[client_id])
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(
                label=self._y[rows], pixels=examples.as_float(self._x[rows])
            )
        )

    def _dataset(self, client_id) -> tf.data.Dataset:
        """Also takes a tensor; then, as TFF asks, the graph holds all examples."""
        if isinstance(client_id, str):
            return self.create_tf_dataset_for_client(client_id)
        client = tf.argmax(tf.equal(client_id, self._client_ids))
        start, end = tf.unstack(tf.gather(list(self._rows.values()), client), num=2)
        pixels = tf.constant(self._x)[start:end]
        if self._x.dtype == np.uint8:
            pixels = tf.cast(pixels, tf.float32) / 255
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(
                label=tf.constant(self._y)[start:end], pixels=pixels
            )
        )


def from_tff(
    train: ClientData,
    test: ClientData | None = None,
    *,
    name: str = 'ClientData',
    num_classes: int | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Reads `ClientData` into arrays.

    Args:
      train: Training examples by client, unbatched: mappings with an input called
        `pixels`, `image`, `x` or `features` and a label called `label` or `y`; or
        pairs (input, label).
      test: Test examples in the same form; clients may be in one of the two only.
        If None, a share of each client's training examples is drawn.
      name: What the data are.
      num_classes: How many labels there are; the largest label + 1 if not given.
      test_fraction: That share.
      split_seed: The seed of that draw.

    Returns:
      The data. Float images of 255ths become uint8.

    Raises:
      UserError: Elements of another form, or no examples at all.
    """
    parts = [train] if test is None else [train, test]
    x, y, clients, is_test = [], [], [], []
    for number, part in enumerate(parts):
        pick = _picker(name, part.element_type_structure)
        for client_id in progress.bar(part.client_ids, desc=name, unit='client'):
            dataset = part.create_tf_dataset_for_client(client_id).map(pick)
            for inputs, labels in dataset.batch(4096).as_numpy_iterator():
                x.append(examples.as_bytes(inputs) if inputs.ndim > 2 else inputs)
                y.append(labels)
                clients += [client_id] * len(labels)
                is_test += [number == 1] * len(labels)
    if not x:
        raise UserError(f'{name}: there are no examples; give at least one')
    if len({part.dtype for part in x}) > 1:
        x = [examples.as_float(part) for part in x]
    return federated.from_rows(
        name,
        np.concatenate(x),
        np.concatenate(y),
        np.array(clients),
        num_classes=num_classes,
        is_test=None if test is None else np.array(is_test),
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _picker(name: str, structure):
    """Returns the function from an element to its input and label."""
    if isinstance(structure, collections.abc.Mapping):
        image = next((k for k in examples.IMAGE_KEYS if k in structure), None)
        label = next((k for k in examples.LABEL_KEYS if k in structure), None)
        if image is not None and label is not None:
            return lambda element: (element[image], element[label])
    elif isinstance(structure, tuple) and len(structure) == 2:
        return lambda image, label: (image, label)
    raise UserError(
        f'{name}: elements are {structure}; map them to pairs of an input and a label'
    )
