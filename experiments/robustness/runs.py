"""Runs that share a process, data and features; what each came to is kept in a file."""

import dataclasses
import json
import pathlib

import numpy as np

from tff_transfer import files, options
from tff_transfer.errors import UserError
from tff_transfer.training import hostile
from tff_transfer.training.config import Config
from tff_transfer.training.rounds import evaluated_rows
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.setup import Setup, head_or_network, prepare
from tff_transfer.training.sources import load_backbone, load_data
from tff_transfer.training.stages import stages


@dataclasses.dataclass(frozen=True)
class Found:
    """What a run came to, on unseen clients.

    Attributes:
      accuracy: Of their images as they are.
      backdoor: The share of images with a trigger that are taken for its target, of
        runs with that attack; else None.
    """

    accuracy: float
    backdoor: float | None = None


class Runs:
    """Runs of one configuration but for defence and attack.

    Nothing is loaded before the first run that is not kept already. Each takes all its
    rounds, without the reports and checkpoints of `training.loop`, which would take
    more time than these.
    """

    def __init__(self, folder: pathlib.Path):
        """Initializes them.

        Args:
          folder: Where what they come to is kept.
        """
        self._folder = folder
        self._loaded = None
        self._setups: dict[tuple, Setup] = {}

    def of(self, name: str, config: Config) -> Found:
        """Returns what a run came to, which is done now if it is not kept.

        Args:
          name: Of its file.
          config: Its configuration.

        Raises:
          UserError: What is kept by that name is of another configuration.
        """
        path = self._folder / f'{name}.json'
        told = json.loads(json.dumps(options.to_dict(config)))
        if path.exists():
            kept = json.loads(path.read_text('utf-8'))
            if kept['config'] != told:
                raise UserError(
                    f'{path} is of a run with other flags; give another --runs'
                )
            return Found(**kept['found'])
        found = self._trained(config)
        kept = {'config': told, 'found': dataclasses.asdict(found)}
        files.write_text(path, json.dumps(kept, indent=1))
        return found

    def _trained(self, config: Config) -> Found:
        config = config.resolved()
        with use_runtime(config.training):
            setup = self._setup(config)
            (stage,) = stages(config, setup)
            state = stage.initialize()
            for number in stage.rounds:
                state, _ = stage.next(state, number)
            rows = evaluated_rows(setup)['unseen']
            accuracy = np.mean(stage.per_example(state, rows)['accuracy'])
            success = stage.backdoor(state).values()
            return Found(float(accuracy), *success)

    def _setup(self, config: Config) -> Setup:
        if self._loaded is None:
            backbone = load_backbone(config)
            self._loaded = backbone, load_data(config, backbone)
        backbone, data = self._loaded
        # Of attacks on what clients send, all have the data of none.
        key = ()
        if hostile.poisons(config):
            key = config.attack, *hostile.clients(config, len(data))
        if key not in self._setups:
            model = head_or_network(config, data, backbone)
            made = prepare(config, hostile.poisoned(config, data), backbone, model)
            self._setups[key] = hostile.with_triggers(config, made, data)
        return self._setups[key]
