"""When the server takes its steps, by name."""

from tff_transfer.options import Variants
from tff_transfer.simulation.timing.ca2fl import CA2FL
from tff_transfer.simulation.timing.fed_async import FedAsync
from tff_transfer.simulation.timing.fed_buff import FedBuff
from tff_transfer.simulation.timing.synchronous import Synchronous

KINDS = Variants(
    __package__,
    {
        'synchronous': Synchronous,
        'fedbuff': FedBuff,
        'fedasync': FedAsync,
        'ca2fl': CA2FL,
    },
)
