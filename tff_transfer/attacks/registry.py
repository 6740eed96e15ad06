"""What hostile clients do, by name."""

from tff_transfer.attacks.alie import ALIE
from tff_transfer.attacks.backdoor import Backdoor
from tff_transfer.attacks.gaussian_noise import GaussianNoise
from tff_transfer.attacks.ipm import IPM
from tff_transfer.attacks.label_flip import LabelFlip
from tff_transfer.attacks.min_max import MinMax
from tff_transfer.attacks.nothing import NoAttack
from tff_transfer.attacks.sign_flip import SignFlip
from tff_transfer.options import Variants

KINDS = Variants(
    __package__,
    {
        'none': NoAttack,
        'labelflip': LabelFlip,
        'backdoor': Backdoor,
        'signflip': SignFlip,
        'gaussiannoise': GaussianNoise,
        'alie': ALIE,
        'ipm': IPM,
        'minmax': MinMax,
    },
)
ATTACKS = KINDS.NAMES[1:]
# Those of hostile clients that change their data (`poisoned`).
ON_DATA = ('labelflip', 'backdoor')
# Those that change what they send, each by its own update (`sent`).
BY_OWN_UPDATE = ('backdoor', 'signflip', 'gaussiannoise')
# Those that send what is made of all honest updates of the round (`forged`).
BY_HONEST_UPDATES = ('alie', 'ipm', 'minmax')
