"""What is promised of clients' data, by name."""

from tff_transfer.privacy.banded import Banded
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.privacy.local import Local
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.privacy.tree import Tree

_OPTIONS = {
    'none': NoPrivacy,
    'central': Central,
    'tree': Tree,
    'banded': Banded,
    'distributed': Distributed,
    'local': Local,
    'perexample': PerExample,
}

NAMES = tuple(_OPTIONS)
# Those whose noise is correlated over rounds.
CORRELATED = ('tree', 'banded')
# Those that promise something of single examples, whose client is trusted.
OF_EXAMPLES = ('perexample',)


def options(name: str) -> type:
    """Returns the dataclass of the options of one of `NAMES`."""
    return _OPTIONS[name]


def name_of(chosen) -> str | None:
    """Returns the name of what these are the options of, or None."""
    return next((name for name, of in _OPTIONS.items() if type(chosen) is of), None)
