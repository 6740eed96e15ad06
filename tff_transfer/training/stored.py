"""The files of what is kept of single clients, of which a run's state has indexes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_transfer.training.client_states import ClientStates


@dataclasses.dataclass
class Stored:
    """Which rows of these files checkpoints need.

    Attributes:
      kept: What clients keep, if anything.
      last: What each of them sent last, where that is asked for.
      needed: By round, where its state has its rows of each file.
    """

    kept: ClientStates | None
    last: ClientStates | None = None
    needed: dict[int, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        """Returns whether there are any files."""
        return bool(self._files)

    @property
    def _files(self) -> dict[str, ClientStates]:
        files = {'kept': self.kept, 'last': self.last}
        return {name: file for name, file in files.items() if file is not None}

    def need(self, states: Mapping[int, Any]) -> None:
        """Says that checkpoints hold some states or will: what these point to stays.

        Args:
          states: The states by round.
        """
        self.needed |= {number: self._indexes(s) for number, s in states.items()}
        for name, file in self._files.items():
            file.need([indexes[name] for indexes in self.needed.values()])

    def forget(self, rounds: Sequence[int]) -> None:
        """Says which rounds checkpoints hold still."""
        self.needed = {n: of for n, of in self.needed.items() if n in rounds}

    def _indexes(self, state) -> dict[str, np.ndarray]:
        found = {'kept': state['kept']}
        if self.last is not None:
            found['last'] = state['under_way']['last']['index']
        return found
