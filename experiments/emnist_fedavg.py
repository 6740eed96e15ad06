"""Federated transfer learning: a pretrained backbone and a head, by FedAvg.

On federated EMNIST, on clients of your own, or on synthetic writers:

  python -m experiments.emnist_fedavg --dataset=synthetic_writers
  python -m experiments.emnist_fedavg --dataset=by_client --data_path=mine.npz
  python -m experiments.emnist_fedavg --flagfile=emnist_cnn
"""

from absl import flags

from experiments import command_line
from tff_transfer import options
from tff_transfer.records import report, run_directory
from tff_transfer.training import loop
from tff_transfer.training.config import Config

options.define_flags(Config)
flags.adopt_module_key_flags(options)
RUN_DIR = flags.DEFINE_string(
    'run_dir',
    None,
    'Where the run is recorded; the same one goes on with its run. A new folder in'
    ' runs/ if not given.',
)


def main() -> None:
    """Trains, and prints what came of it."""
    config = options.from_flags(Config)
    config.check()
    result = loop.train(config, RUN_DIR.value or run_directory.fresh('runs'))
    print(report.text_table(report.table(result)))
    if result.personalization is not None:
        print(result.personalization)
    if config.training.export == 'best':
        print(f'exported: round {result.exported_round}')
    print(f'report: {result.run_dir / report.REPORT}')


if __name__ == '__main__':
    command_line.run(main)
