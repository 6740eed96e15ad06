"""What clients run on, by name."""

from tff_transfer.options import Variants
from tff_transfer.simulation.fleet.day_night import DayNight
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.fleet.trace import Trace

KINDS = Variants(
    __package__, {'ideal': Ideal, 'drawn': Drawn, 'trace': Trace, 'daynight': DayNight}
)
