"""What a run is: its whole configuration, with defaults that suit a laptop."""

import dataclasses
from typing import Any

from tff_transfer.aggregation import registry as aggregation_registry
from tff_transfer.aggregation.plain import Plain
from tff_transfer.algorithms import registry, teachers
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.teachers import Nobody
from tff_transfer.attacks import registry as attack_registry
from tff_transfer.attacks.nothing import NoAttack
from tff_transfer.compression import registry as compression_registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.options import check, check_effects, repr_of_changed, variant
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.simulation.fleet import registry as fleet_registry
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.selection import registry as selection_registry
from tff_transfer.simulation.selection.uniform import Uniform
from tff_transfer.simulation.timing import registry as timing_registry
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import combinations
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import TOP_LAYERS, ModelConfig
from tff_transfer.training.training_config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Config:
    """A run's whole configuration, without the place it is written to."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    algorithm: Any = variant(
        FedAvg(),
        'The federated method; python -m experiments.methods lists them, with their'
        ' options --NAME.OPTION.',
        registry,
    )

    distill_from: Any = variant(
        Nobody(),
        'Whom clients learn from beside their examples: nobody; or pretrained, which'
        ' holds features that are fine-tuned to those of the pretrained model, and'
        ' what a generative model makes to what that of --start_from makes. Options as'
        ' of algorithms, such as --pretrained.weight.',
        teachers.KINDS,
    )

    privacy: Any = variant(
        NoPrivacy(),
        "What is promised of clients' data; docs/privacy.md. Options as of algorithms,"
        ' such as --central.target_epsilon.',
        privacy_registry,
    )

    aggregation: Any = variant(
        Plain(),
        'How updates become one: plain, their mean; secure, by secure aggregation,'
        ' docs/secure_aggregation.md; or by one of the rules of docs/robustness.md,'
        ' which bear attackers. Options as of algorithms, such as --secure.clip.',
        aggregation_registry.KINDS,
    )

    compression: Any = variant(
        NoCompression(),
        'How clients send what they learned; docs/compression.md. Options as of'
        ' algorithms, such as --topk.fraction.',
        compression_registry.UP,
    )

    compression_down: Any = variant(
        NoCompression(),
        'How the server sends what clients begin with: float16; uniform8, the nearest'
        ' of 256 levels of each tensor; or federateddropout, a part of the hidden'
        ' units, which clients send back. Options as of algorithms, such as'
        ' --federateddropout.kept.',
        compression_registry.DOWN,
    )

    selection: Any = variant(
        Uniform(),
        'How the clients of a round are chosen; docs/selection.md. Options as of'
        ' algorithms, such as --powerofchoice.d.',
        selection_registry.RULES,
    )

    fleet: Any = variant(
        Ideal(),
        'What clients run on: how fast, how often they are there, and how they fail;'
        ' docs/fleet.md. ideal, never late; drawn, from distributions; trace, of files;'
        ' daynight, there in their night alone, a trace of our own making for'
        ' demonstrations. Options as of algorithms, such as --drawn.speed.',
        fleet_registry.KINDS,
    )

    timing: Any = variant(
        Synchronous(),
        'When the server takes a step: synchronous, after a round; fedbuff, fedasync or'
        ' ca2fl, as clients report that train at the same time, so that --rounds are'
        ' such steps; docs/asynchronous.md. Options as of algorithms, such as'
        ' --fedbuff.buffer.',
        timing_registry.KINDS,
    )

    attack: Any = variant(
        NoAttack(),
        'What hostile clients, --attackers of all, do to training; docs/attacks.md.'
        ' Options as of algorithms, such as --backdoor.target.',
        attack_registry.KINDS,
    )

    __repr__ = repr_of_changed

    @property
    def private(self) -> bool:
        """Whether something is promised of clients' data."""
        return not isinstance(self.privacy, NoPrivacy)

    @property
    def by_rounds(self) -> list[str]:
        """The flags given whose effect hangs on how many rounds there are."""
        sides = ('client_schedule', 'server_schedule')
        found = [name for name in sides if getattr(self.training, name) != 'constant']
        if self.private:
            kind = privacy_registry.name_of(self.privacy)
            found += [f'{kind}.{name}' for name in self.privacy.by_rounds]
        return [f'--{name}' for name in found]

    def check(self) -> None:
        """Checks every value, and those that must fit together.

        Raises:
          UserError: In one line that names the flag.
        """
        chosen = {}
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            known = field.metadata.get('registry')
            if known is None:
                if not isinstance(part, field.type):
                    raise UserError(
                        f'{field.name} of a Config is a {type(part).__name__}, but must'
                        f' be a {field.type.__name__}'
                    )
                check(part)
                continue
            name = chosen[field.name] = known.name_of(part)
            if name is None:
                raise UserError(
                    f'{field.name} of a Config is a {type(part).__name__}, but must be'
                    f' one of {known.__name__.rpartition(".")[0]}, such as'
                    f' {type(field.default).__name__}()'
                )
            check(part, f'{name}.')
            check_effects(part, prefix=f'{name}.')
        check_effects(self.data, self.model, self.training, **chosen)
        combinations.check(self)

    def resolved(self) -> 'Config':
        """Returns the same with the values that it leaves to others: what is run."""
        model = self.model
        if model.finetune == 'head_then_all' and model.head_rounds is None:
            rounds = max(self.training.rounds // 3, 1)
            model = dataclasses.replace(model, head_rounds=rounds)
        if model.finetune == 'top' and model.cut_layer is None:
            layers = model.top_layers or TOP_LAYERS
            model = dataclasses.replace(model, top_layers=layers)
        return dataclasses.replace(self, model=model)
