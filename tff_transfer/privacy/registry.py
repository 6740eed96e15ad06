"""What is promised of clients' data, by name."""

from tff_transfer.privacy.central import Central
from tff_transfer.privacy.nothing import NoPrivacy

_OPTIONS = {'none': NoPrivacy, 'central': Central}

NAMES = tuple(_OPTIONS)


def options(name: str) -> type:
    """Returns the dataclass of the options of one of `NAMES`."""
    return _OPTIONS[name]


def name_of(chosen) -> str | None:
    """Returns the name of what these are the options of, or None."""
    return next((name for name, of in _OPTIONS.items() if type(chosen) is of), None)
