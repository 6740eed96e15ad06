"""Of some candidates those of the highest loss (Cho et al. 2022, section 4).

"Towards understanding biased client selection in federated learning" (2020 as "Client
selection in federated learning: convergence analysis and power-of-choice selection
strategies"). d candidates are drawn without replacement in proportion to their
examples; each gets the model and tells its mean loss over its training examples
(pow-d), and those of the highest take part. With `stale` the loss is the one that a
candidate told when it last took part, and infinite if it never did (rpow-d): nothing
more is sent. The paper's server takes the plain mean, --weighting=uniform. The server
needs to know each client's number of examples, and the candidates' losses.
"""

import dataclasses

import numpy as np

from tff_transfer import randomness
from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.simulation.selection.draws import drawn, log
from tff_transfer.simulation.selection.known import ASKED
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class PowerOfChoice(Rule):
    """Those of the highest loss among d candidates."""

    d: int | None = option(
        None,
        'How many candidates are drawn; twice as many as take part, if not given.',
        at_least=1,
    )
    stale: bool = option(
        False,
        'Go by the losses that candidates told last (rpow-d); they are not asked.',
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Known` that it reads, and whether it asks clients."""
        return ('examples', 'losses' if self.stale else ASKED)

    def check(self, size, clients):
        """Checks the number of candidates (see `Rule`)."""
        if self.d is not None and not size <= self.d <= clients:
            raise UserError(
                f'--powerofchoice.d={self.d} candidates, but {size} of {clients}'
                f' clients take part in a round; give {size} to {clients}'
            )

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`), those of highest loss first."""
        draw = randomness.generator(seed, 'candidates', round_number)
        most = max(size, self.d or 2 * size)
        candidates = drawn(log(known.examples), most, draw)
        if self.stale:
            losses = known.losses[candidates]
            losses = np.where(np.isnan(losses), np.inf, losses)
        else:
            losses = loss_of(candidates)
        return candidates[np.argsort(-losses, kind='stable')[:size]]
