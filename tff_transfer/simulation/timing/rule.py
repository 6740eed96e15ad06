"""What the server makes of updates that are of different ages."""

from typing import ClassVar, NamedTuple, Protocol

import numpy as np


class Arrived(NamedTuple):
    """One of the weights' arrays, as of the clients that reported.

    Attributes:
      sent: What each client moved away from, float32 [clients, ...]; or its weights,
        where a rule is `of_weights`.
      now: The server's, float32 [...].
      staleness: How many steps it took since each got its model, int64 [clients].
      last: Where a rule `remembers`, what each client sent the last time, zeros if it
        never did, float32 [clients, ...]; and the mean of that over all clients that
        may take part, float32 [...].
      mean_last: That mean.
    """

    sent: np.ndarray
    now: np.ndarray
    staleness: np.ndarray
    last: np.ndarray | None = None
    mean_last: np.ndarray | None = None


class Rule(Protocol):
    """How a server steps as clients report; a dataclass of options.

    Attributes:
      of_weights: Whether it asks for clients' weights and not for what they moved away
        from; it then takes the mean as it is, by no optimizer.
      remembers: Whether it asks for what clients sent the last time.
      waits_for: How many clients report before the server takes a step.
    """

    of_weights: ClassVar[bool]
    remembers: ClassVar[bool]

    @property
    def waits_for(self) -> int:
        """How many clients report before the server takes a step."""

    def deltas(self, arrived: Arrived) -> np.ndarray:
        """Returns what the server follows the mean of, float32 [clients, ...]."""

    def check(self, name: str) -> None:
        """Checks that the options fit together, whose flags begin with a name.

        Raises:
          UserError: They do not.
        """
