"""What was found out about a machine or an installation, and what to do about it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
      what: The thing, in a word or two.
      found: How it is, in one line.
      advice: What to do, in one line; empty where there is nothing to do.
      wrong: Whether something cannot work unless the advice is followed.
    """

    what: str
    found: str
    advice: str = ''
    wrong: bool = False


def judge(what: str, found: str, fine: bool, advice: str) -> Finding:
    """Returns a finding that is wrong, with the advice, unless it is fine."""
    return Finding(what, found) if fine else Finding(what, found, advice, wrong=True)


def line(finding: Finding) -> str:
    """Returns a finding as a row of the table, with the advice below it."""
    state = 'WRONG' if finding.wrong else 'note' if finding.advice else 'ok'
    text = f'{state:5}  {finding.what:13}  {finding.found}'
    return f'{text}\n{"":22}-> {finding.advice}' if finding.advice else text
