"""Each defence against each attack: accuracy and backdoor success, as a heat map.

  python -m experiments.robustness --dataset=by_client --data_path=mine.npz \\
      --runs=runs/robustness --seed=1

Federated averaging of a linear head on the embedded backbone, whose features are
computed once, with each of `--defences` under each of `--attacks` by each share of
`--shares`, and without an attack. Defences that must be told how many attackers a round
has are told 30 % of its clients, or as many as they bear. What each run came to is kept
in a file under `--runs`: what was done already is not done again. A table and a picture
stand there at the end: accuracy on clients who never took part, and how many of their
images with a trigger are taken for the backdoor's target. docs/attacks.md has what was
found.
"""

import pathlib
from collections.abc import Mapping, Sequence

from absl import flags

from experiments import command_line, tables
from experiments.robustness import cases, pictures
from experiments.robustness.cases import Case
from experiments.robustness.runs import Found, Runs
from tff_transfer import files, options, progress
from tff_transfer.attacks import registry as attacks
from tff_transfer.errors import UserError
from tff_transfer.records import report
from tff_transfer.training.config import Config

# What the study chooses itself, of the flags that it takes with all others.
_CHOSEN = (
    *('server_optimizer', 'server_learning_rate', 'weighting', 'attackers'),
    *('attack', 'aggregation'),
)


def check(config: Config, shares: Sequence[float]) -> None:
    """Refuses flags that the study would override, and shares that are none.

    Raises:
      UserError: There is one.
    """
    command_line.refuse(config, _CHOSEN, '--defences, --attacks and --shares')
    if config.model.finetune == 'head_then_all':
        raise UserError(
            'this study has one kind of rounds; use another --finetune than'
            ' head_then_all'
        )
    if not all(0 < share < 1 for share in shares):
        raise UserError('--shares must be above 0 and below 1, such as 0.1,0.3')


def table(
    found: Mapping[Case, Found], names: Sequence[str], shares: Sequence[float]
) -> list[list[str]]:
    """Returns the table: a row for each defence and share of attackers."""
    rows = [['defence', 'attackers', 'none', *names]]
    if 'backdoor' in names:
        rows[0].append('backdoor success')
    for defence in dict.fromkeys(case.defence for case in found):
        clean = found[Case(defence)].accuracy
        for share in shares:
            of_attacks = {name: found[Case(defence, name, share)] for name in names}
            cells = [clean, *(of.accuracy for of in of_attacks.values())]
            if 'backdoor' in names:
                cells.append(of_attacks['backdoor'].backdoor)
            rows.append([defence, f'{share:.0%}', *(f'{v:.1%}' for v in cells)])
    return rows


def main() -> None:
    """Trains what is missing; prints and writes the table and the picture."""
    config, given = options.from_flags(Config), flags.FLAGS
    shares = [float(share) for share in given.shares]
    check(config, shares)
    defences, names = given.defences, given.attacks
    wanted = cases.all_of(defences, names, shares)
    made = {case: cases.configured(config, case) for case in wanted}
    for one in made.values():
        one.check()
    folder = pathlib.Path(given.runs)
    runs, found = Runs(folder), {}
    with progress.bar(total=len(wanted), desc='runs', unit='run') as bar:
        for case in wanted:
            bar.set_postfix_str(str(case))
            found[case] = runs.of(str(case), made[case])
            bar.update()
    rows = table(found, names, shares)
    files.write_text(folder / 'table.md', tables.markdown(rows, texts=1))
    with files.replacing(folder / 'robustness.png') as path:
        figure = pictures.drawn(found, defences, names, shares)
        figure.savefig(path, format='png', dpi=110)
    print(report.text_table(rows))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.FLAGS.set_default('rounds', 25)
    flags.FLAGS.set_default('clients_per_round', 30)
    flags.FLAGS.set_default('client_learning_rate', 0.1)
    for name, known in (('defences', cases.DEFENCES), ('attacks', attacks.ATTACKS)):
        flags.DEFINE_multi_enum(name, list(known), known, 'Those to try; give several.')
    flags.DEFINE_list('shares', ['0.1', '0.2', '0.3'], 'Shares of hostile clients.')
    flags.DEFINE_string('runs', 'runs/robustness', 'Where what comes out is kept.')
    command_line.run(main)
