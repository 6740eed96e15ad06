"""The schemes by name, for each direction.

Down go the weights that all clients of a round begin with, and only what keeps every
number near its value makes sense there: sparse, ternary and one-bit schemes are for
updates, which are small, or have their error made good by the next one. Or fewer of
them go down, and up again.
"""

from tff_transfer.compression.drive import Drive
from tff_transfer.compression.eden import Eden
from tff_transfer.compression.ef_sign import EFSign
from tff_transfer.compression.federated_dropout import FederatedDropout
from tff_transfer.compression.float16 import Float16
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.compression.power_sgd import PowerSGD
from tff_transfer.compression.product import Product
from tff_transfer.compression.qsgd import QSGD
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.compression.tern_grad import TernGrad
from tff_transfer.compression.uniform import Uniform, Uniform8
from tff_transfer.options import Variants

UP = Variants(
    __package__,
    {
        'none': NoCompression,
        'float16': Float16,
        'uniform': Uniform,
        'qsgd': QSGD,
        'topk': TopK,
        'randomk': RandomK,
        'efsign': EFSign,
        'terngrad': TernGrad,
        'drive': Drive,
        'eden': Eden,
        'product': Product,
        'powersgd': PowerSGD,
    },
)
DOWN = Variants(
    __package__,
    {
        'none': NoCompression,
        'float16': Float16,
        'uniform8': Uniform8,
        'federateddropout': FederatedDropout,
    },
)
