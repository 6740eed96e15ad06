"""A run: rounds of a federated process, with everything that makes it trustworthy."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable

import tensorflow as tf

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import keras_file, personalization, report, run_directory
from tff_transfer.records.run_directory import writing
from tff_transfer.training import (
    baselines,
    client_settings,
    devices,
    divergence,
    exports,
    generative,
    hostile,
    public_data,
    rounds,
    sources,
)
from tff_transfer.training.config import Config
from tff_transfer.training.methods import method_of
from tff_transfer.training.result import Result
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.setup import Setup, head_or_network, prepare
from tff_transfer.training.sources import load_backbone, load_data


def train(
    config: Config,
    run_dir: str | os.PathLike[str] | None = None,
    *,
    data: FederatedData | None = None,
    head: Callable[[int, int], tf.keras.Model] | None = None,
) -> Result:
    """Trains, or goes on with, the run that a configuration describes.

    Args:
      config: The whole configuration.
      run_dir: The run directory; None writes nothing.
      data: Clients to use instead of those that `config.data` names, whose split of
        clients alone then has an effect.
      head: A function of (feature size, classes) that makes a Keras network to use
        instead of the head that `config.model` describes.

    Returns:
      The result.

    Raises:
      UserError: In one line, if a value, a source or the run directory is unfit, or
        if training diverged.
    """
    if data is not None:
        sources.check_given(config.data, data)
    config.check()
    config = config.resolved()
    given = [name for name, it in (('data', data), ('head', head)) if it is not None]
    with contextlib.ExitStack() as stack:
        # First, so that a setting that does not suit the machine leaves nothing.
        stack.enter_context(use_runtime(config.training))
        if run_dir is not None:
            run_dir = stack.enter_context(run_directory.opened(run_dir, config))
        told = config
        if config.private and not config.training.seed:
            seed = run_directory.secret_seed(run_dir)
            training = dataclasses.replace(config.training, seed=seed)
            config = dataclasses.replace(config, training=training)
            stack.enter_context(use_runtime(config.training))
        data, setup = _prepared(config, run_dir, data, head)
        result = rounds.train(config, setup, run_dir)
        diverged = divergence.stopped(config.training, result.rows)
        if said := divergence.described(config.training, result.rows):
            chosen = {**result.chosen, 'divergence': said}
            result = dataclasses.replace(result, chosen=chosen)
        if baselines.wanted(config) and not diverged:
            result = baselines.compare(config, result, rounds.train)
        if run_dir is not None:
            with writing(run_dir):
                report.write(told, result, data, given)
                if result.personalization is not None:
                    path = run_dir / personalization.FILE
                    personalization.write(result.personalization, path)
                if not diverged:
                    exports.write(config.training, result)
    if diverged:
        raise UserError(f'{said}, or go on all the same with --on_divergence=continue')
    return result


def _prepared(
    config: Config,
    run_dir: pathlib.Path | None,
    data: FederatedData | None,
    head: Callable[[int, int], tf.keras.Model] | None,
) -> tuple[FederatedData, Setup]:
    """Returns the clients as they were loaded, and what is trained on them.

    Whatever a run directory must find the same again is compared as soon as it is
    there, and what does not fit is said before features are computed.

    Args:
      config: The configuration, checked and resolved.
      run_dir: The run directory, if there is one.
      data: As `train` takes it.
      head: As `train` takes it.
    """
    backbone = load_backbone(config)
    if data is None:
        data = load_data(config, backbone)
    if run_dir is not None:
        run_directory.check_same_data(run_dir, data)
        run_directory.check_same_backbone(run_dir, backbone)
    exports.check_clients(config.training, data)
    devices.check(config, data)
    client_settings.of(config, data)
    public = public_data.read(config, data)
    if run_dir is not None:
        given_files = {
            **devices.files(config),
            **generative.files(config),
            **public_data.files(config),
        }
        for what, path in given_files.items():
            run_directory.check_same_file(run_dir, what, path)
    model = head_or_network(config, data, backbone, head)
    if config.training.export_keras:
        keras_file.check(data.x, backbone, model.network)
    if backbone is None or config.model.finetune == 'head':
        method_of(config, model, len(data))  # Says what cannot be.
    setup = prepare(config, hostile.poisoned(config, data), backbone, model)
    setup = hostile.with_triggers(config, setup, data)
    setup = public_data.with_examples(setup, public)
    if baselines.wanted(config):
        baselines.check(config, setup)
    if run_dir is not None:
        run_directory.check_same_network(run_dir, setup.model)
    return data, setup
