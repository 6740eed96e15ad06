"""What is promised of clients' data, by name."""

from tff_transfer.options import Variants
from tff_transfer.privacy.banded import Banded
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.privacy.local import Local
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.privacy.tree import Tree

_KINDS = Variants(
    __package__,
    {
        'none': NoPrivacy,
        'central': Central,
        'tree': Tree,
        'banded': Banded,
        'distributed': Distributed,
        'local': Local,
        'perexample': PerExample,
    },
)
NAMES, options, name_of = _KINDS.NAMES, _KINDS.options, _KINDS.name_of
# Those whose noise is correlated over rounds.
CORRELATED = ('tree', 'banded')
# Those with which clients change their updates once more before they send them.
ON_CLIENTS = ('distributed', 'local')
# Those that promise something of single examples, whose client is trusted.
OF_EXAMPLES = ('perexample',)
