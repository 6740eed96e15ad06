"""Ends runs in the middle."""

from tff_transfer.training import participants


class Killed(Exception):
    """What ends a run."""


def at(monkeypatch, count: int) -> list[int]:
    """Has a run end when a cohort is about to be gathered.

    Args:
      monkeypatch: Pytest's.
      count: The how manieth cohort from now on; later ones are gathered again.

    Returns:
      A list that gets the round of each cohort that is asked for.
    """
    make, seen = participants.Participants.cohort, []

    def dying(these, turnout, round_number):
        seen.append(round_number)
        if len(seen) == count:
            raise Killed
        return make(these, turnout, round_number)

    monkeypatch.setattr(participants.Participants, 'cohort', dying)
    return seen
