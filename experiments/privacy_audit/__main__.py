"""What a run's protection is worth, by numbers.

  python -m experiments.privacy_audit --dataset=by_client --data_path=mine.npz \\
      --weighting=uniform --server_optimizer=sgd --server_learning_rate=1 \\
      --privacy=central --central.target_epsilon=4
  python -m experiments.privacy_audit --verify=RUN_DIR

The configuration is run with its protection and without: with canary clients, whose
traces give a lower bound of epsilon; and as shadow runs on halves of the clients, in
which membership is guessed. Images are recovered from updates. `report.html` and
`table.md` are written into `--output`. `--verify` checks a run's audit.jsonl instead.
See docs/privacy_audit.md.
"""

import dataclasses
import pathlib
import shlex
import sys
import time

import numpy as np
from absl import flags

from experiments import command_line
from experiments.privacy_audit import canary_clients, reconstruction, report, shadows
from tff_transfer import options
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.records import audit_log
from tff_transfer.training import methods, setup, sources
from tff_transfer.training.config import Config
from tff_transfer.training.runtimes import use_runtime

# Rows that are transformed at a time.
_BLOCK = 4096
# Methods whose rounds do not train one model of many clients by batches.
_NOT_AUDITED = (
    *registry.OF_ALL, *registry.BY_OWN_MODELS, *registry.BY_OWN_PASSES,
    *registry.BESIDE_THE_MEAN,
)  # fmt: skip


def check(config: Config) -> None:
    """Checks that a configuration can be audited.

    Raises:
      UserError: It promises nothing, or trains something else than one model.
    """
    name = registry.name_of(config.algorithm)
    if not config.private:
        raise UserError(
            '--privacy is none: there is no protection to audit; give one, such as'
            ' --privacy=central --central.target_epsilon=4'
        )
    kind = privacy_registry.name_of(config.privacy)
    if kind in privacy_registry.OF_EXAMPLES:
        raise UserError(
            f'--privacy={kind} promises something of single examples, but canaries are'
            ' clients; audit another'
        )
    if name in _NOT_AUDITED:
        raise UserError(
            f'--algorithm={name} does not train one model of all clients by rounds,'
            ' which is what is audited; use another'
        )
    if config.model.finetune == 'head_then_all':
        raise UserError(
            '--finetune=head_then_all trains other weights in some rounds; audit'
            ' another --finetune'
        )
    if not config.training.rounds:
        raise UserError('--rounds=0 leaves nothing to audit; give at least 1')


def audited(config: Config, given) -> tuple[report.Found, dict[str, str]]:
    """Returns what an audit finds, and what the reader is to know first.

    Args:
      config: The configuration, checked.
      given: The flags of the study.

    Raises:
      UserError: Something named cannot be had or does not fit.
    """
    config = config.resolved()
    training, privacy = config.training, config.privacy
    backbone = sources.load_backbone(config)
    data = sources.load_data(config, backbone)
    with use_runtime(training):
        model = setup.head_or_network(config, data, backbone)
        made = transformed(setup.prepare(config, data, backbone, model))
    shadows.targets(config, made)  # To say before long work what cannot be.
    clients = len(made.seen)
    context = methods.context_of(training, made.model, clients)
    mechanism = methods.mechanism_of(config, context)
    size = sum(map(np.size, context.initial))
    kind = privacy_registry.name_of(privacy)
    # The delta of a run of more clients, or of half of them, is the same.
    promise = dataclasses.replace(privacy, delta=mechanism.delta)
    watched, attacks, accuracy, seconds = {}, {}, {}, {}
    for said, chosen in ((report.NONE, NoPrivacy()), (kind, promise)):
        of = dataclasses.replace(config, privacy=chosen)
        watched[said] = canary_clients.watched(
            of, made, given.canaries, privacy.clip, mechanism.delta
        )
        start = time.perf_counter()
        found = shadows.trained(of, made, given.shadow_runs)
        seconds[said] = time.perf_counter() - start
        attacks[said], accuracy[said] = found.attacks(), found.accuracy.mean()
    images = []
    if data.x.ndim == 4:
        images = reconstruction.recovered(config, data, made.seen, given.images)
    facts = {
        'data': f'{data.name}: {clients:,} clients train',
        'promise': mechanism.described(training.rounds),
        'canaries': f'{given.canaries} more clients, of {size:,} weights',
        'shadow runs': ', '.join(
            f'{given.shadow_runs} with --privacy={said} in {spent:.0f} s'
            for said, spent in seconds.items()
        ),
    }
    return report.Found(watched, attacks, accuracy, images), facts


def transformed(made: setup.Setup) -> setup.Setup:
    """Returns a setup whose inputs are transformed once, not in each of many runs."""
    blocks = range(0, len(made.data.x), _BLOCK)
    x = [made.transform(made.data.x[start : start + _BLOCK]) for start in blocks]
    data = made.data.with_x(np.concatenate(x))
    return dataclasses.replace(made, data=data, transform=lambda inputs: inputs)


def main() -> None:
    """Audits a configuration, or verifies a run's log."""
    given = flags.FLAGS
    if given.verify:
        found = audit_log.verify(pathlib.Path(given.verify))
        print(f'whole: {found.rounds} rounds, SHA-256 of the last {found.sha256}')
        return
    if given.shadow_runs % 2:
        raise UserError(f'--shadow_runs={given.shadow_runs} is odd; give an even one')
    config = options.from_flags(Config)
    config.check()
    check(config)
    found, facts = audited(config, given)
    command = shlex.join(['python', '-m', 'experiments.privacy_audit', *sys.argv[1:]])
    folder = pathlib.Path(given.output)
    path = report.write(folder, found, facts, command)
    for said, value in facts.items():
        print(f'{said}: {value}')
    print((folder / 'table.md').read_text('utf-8'))
    for leak in report.leaks(found):
        print(leak)
    print(f'report: {path}')


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_integer('canaries', 200, 'Canary clients.', lower_bound=10)
    flags.DEFINE_integer(
        'shadow_runs', 32, 'Shadow runs, an even number.', lower_bound=shadows.LEAST
    )
    flags.DEFINE_integer('images', 3, 'Images to recover.', lower_bound=1)
    flags.DEFINE_string('output', 'runs/privacy_audit', 'The folder of the report.')
    flags.DEFINE_string(
        'verify', None, 'A run directory, whose audit.jsonl is verified instead.'
    )
    command_line.run(main)
