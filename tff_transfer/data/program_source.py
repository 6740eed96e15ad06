"""A round's clients as TFF's federated programs ask for them."""

import collections
import hashlib
import json
import weakref

import tensorflow_federated as tff

from tff_transfer.data import cohorts
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# The sources of all iterators, by fingerprint: where a program's state is loaded,
# nothing is given but the bytes that were saved.
_sources = weakref.WeakValueDictionary()


class CohortSource(tff.program.FederatedDataSource):
    """Cohorts of training examples, each a function of (seed, round) alone.

    So a program that was stopped and is started again draws what it would have drawn.

    Attributes:
      fingerprint: A SHA-256 of the data and settings.
    """

    def __init__(
        self,
        data: FederatedData,
        *,
        batch_size: int,
        epochs: int = 1,
        seed: int = 0,
        max_examples: int | None = None,
    ):
        """Describes the cohorts.

        Args:
          data: The population.
          batch_size: Rows of a batch.
          epochs: How often each example is seen; each epoch is shuffled anew.
          seed: What draws clients and the order of their examples.
          max_examples: The most examples of one client in an epoch, or None for all.
        """
        self._data = data
        self._settings = {
            'batch_size': batch_size,
            'epochs': epochs,
            'seed': seed,
            'max_examples': max_examples,
        }
        content = f'{data.content_fingerprint} {json.dumps(self._settings)}'
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    @property
    def federated_type(self) -> tff.FederatedType:
        """The type of a cohort."""
        x, y = self._data.x, self._data.y
        batch = collections.OrderedDict(
            x=tff.TensorType(x.dtype.type, [None, *x.shape[1:]]),
            y=tff.TensorType(y.dtype.type, [None]),
        )
        return tff.FederatedType(tff.SequenceType(batch), tff.CLIENTS)

    def iterator(self) -> 'CohortIterator':
        """Returns what gives the cohorts of round 1, 2, ..."""
        # Equal sources share one, which lives as long as any iterator of it.
        return CohortIterator(_sources.setdefault(self.fingerprint, self), 0)

    def cohort(self, size: int, round_number: int) -> cohorts.Cohort:
        """Returns the cohort of a round, from 1, with `size` clients."""
        clients = cohorts.choose_clients(
            len(self._data),
            size,
            seed=self._settings['seed'],
            round_number=round_number,
        )
        return cohorts.training_cohort(
            self._data, clients, round_number=round_number, **self._settings
        )


class CohortIterator(tff.program.FederatedDataSourceIterator):
    """Gives one cohort after another."""

    def __init__(self, source: CohortSource, rounds: int):
        """Starts after `rounds` cohorts of a source."""
        self._source, self._rounds = source, rounds

    def __deepcopy__(self, memo) -> 'CohortIterator':
        """Returns another iterator at the same place; programs copy it each round."""
        return CohortIterator(self._source, self._rounds)

    def __eq__(self, other: object) -> bool:
        """Returns whether another iterator gives the same from here on."""
        return isinstance(other, CohortIterator) and self.to_bytes() == other.to_bytes()

    @property
    def federated_type(self) -> tff.FederatedType:
        """The type of a cohort."""
        return self._source.federated_type

    def select(self, k: int | None = None) -> cohorts.Cohort:
        """Returns the next cohort, with `k` clients.

        Raises:
          UserError: `k` is None, or not from 1 to the number of clients.
        """
        if k is None:
            raise UserError('a cohort has k clients; give select() a number')
        cohort = self._source.cohort(k, self._rounds + 1)
        self._rounds += 1
        return cohort

    def to_bytes(self) -> bytes:
        """Returns the place, and which source it is of, but no data."""
        return f'{self._source.fingerprint} {self._rounds}'.encode()

    @classmethod
    def from_bytes(cls, buffer: bytes) -> 'CohortIterator':
        """Returns the iterator at a place that was saved.

        Raises:
          UserError: There is no iterator now of the same data and settings.
        """
        fingerprint, rounds = buffer.decode().split()
        source = _sources.get(fingerprint)
        if source is None:
            raise UserError(
                "the program's saved state is of another data source: give it the same"
                ' data, batch size, epochs and seed, or an empty folder for its state'
            )
        return cls(source, int(rounds))
