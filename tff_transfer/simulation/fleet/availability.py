"""When clients are there: in times that come again."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Availability:
    """The times in which clients are there; one client may have several, or none.

    A time that lasts beyond its period's end goes on at the next one's start.

    Attributes:
      num_clients: How many clients there are.
      clients: Whose time it is, int64 [times].
      starts: When it starts, seconds from the period's start, float64 [times].
      lengths: How long it is, in seconds, float64 [times].
      periods: After how many seconds it comes again, float64 [times].
    """

    num_clients: int
    clients: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    periods: np.ndarray

    def remaining(self, at_second: float) -> np.ndarray:
        """Returns how long each client stays from now on, float64 [clients].

        Args:
          at_second: Now, simulated seconds from the run's start.

        Returns:
          Seconds; 0 of a client that is not there, infinite of one that never goes.
        """
        left = self.lengths - np.mod(at_second - self.starts, self.periods)
        found = np.zeros(self.num_clients)
        np.maximum.at(found, self.clients, left)
        return found

    def available(self, at_second: float) -> np.ndarray:
        """Returns which clients are there, bool [clients]."""
        return self.remaining(at_second) > 0

    def first(self, at_second: float, among: np.ndarray) -> float:
        """Returns the first second from now on in which one of some clients is there.

        Args:
          at_second: Now.
          among: The numbers of these clients, int64 [some].

        Returns:
          Seconds from the run's start; infinite if none of them ever is there.
        """
        waits = np.mod(self.starts - at_second, self.periods)
        theirs = waits[np.isin(self.clients, among)]
        if not len(theirs):
            return np.inf
        if self.available(at_second)[among].any():
            return at_second
        second = at_second + np.min(theirs)
        while not self.available(second)[among].any():  # Rounded to before the start.
            second = np.nextafter(second, np.inf)
        return second


def always(num_clients: int) -> Availability:
    """Returns the availability of clients that never go."""
    return Availability(
        num_clients,
        np.arange(num_clients),
        np.zeros(num_clients),
        np.full(num_clients, np.inf),
        np.ones(num_clients),
    )
