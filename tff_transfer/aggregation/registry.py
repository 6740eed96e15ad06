"""How updates become one, by name."""

from tff_transfer.aggregation.bulyan import Bulyan
from tff_transfer.aggregation.clipping import CentredClipping, NormClip
from tff_transfer.aggregation.coordinates import Median, TrimmedMean
from tff_transfer.aggregation.geometric_median import GeometricMedian
from tff_transfer.aggregation.krum import Krum, MultiKrum
from tff_transfer.aggregation.plain import Plain
from tff_transfer.aggregation.secure import Secure
from tff_transfer.aggregation.trust import FLTrust, FoolsGold
from tff_transfer.options import Variants

KINDS = Variants(
    __package__,
    {
        'plain': Plain,
        'secure': Secure,
        'median': Median,
        'trimmedmean': TrimmedMean,
        'geometricmedian': GeometricMedian,
        'krum': Krum,
        'multikrum': MultiKrum,
        'bulyan': Bulyan,
        'normclip': NormClip,
        'centredclipping': CentredClipping,
        'foolsgold': FoolsGold,
        'fltrust': FLTrust,
    },
)
