"""How updates become one, by name."""

from tff_transfer.aggregation.plain import Plain
from tff_transfer.aggregation.secure import Secure
from tff_transfer.options import Variants

KINDS = Variants(__package__, {'plain': Plain, 'secure': Secure})
