"""Pages of `benchmarks.methods`."""

import statistics

from benchmarks import machine
from benchmarks.speed_tables import TITLES, median

FED_AVG = 'fedavg'
TFF = "TFF's FedAvg"
# What a round has besides federated averaging's: products of a batch with the weights
# (forward; forward and backward, a gradient), and arrays of the weights' size.
MORE = {
    'fedprox': "three operations of the weights' size a step",
    'scaffold': 'a variate down, up and kept; an operation a step',
    'scaffold I': 'the same, and a gradient of each batch',
    'mime': 'two gradients of each batch more; two operations a step',
    'mimelite': 'a gradient of each batch; another up',
    'fednova': 'a division at the end',
    'feddyn': 'a gradient kept; four operations a step',
    'fedexp': "each delta's norm",
    'qfedavg': "a forward pass of each batch; each delta's norm",
    'fedsam': 'a gradient of each batch; its norm',
    'fedlc': 'counts of labels; an operation on the logits',
    'fedrs': 'the same',
    'fedntd': "a forward pass of each batch by the server's model",
    'feddf': "the server's examples by each client's model; five passes over them",
    'ccvr': 'moments of what the last layer takes; ten passes over virtual features',
    'fedsgd': 'no step of an optimizer, a sum',
    'local': 'the weights kept; nothing travels',
    'ditto': 'another model kept and trained, held to the first',
    'mrmtl': "another model kept instead; three operations of the weights' size a step",
    'apfl': 'another model kept and trained; three operations a step',
    'pfedme': 'five inner steps a batch; another model kept',
    'fedrep': 'each batch twice',
    'fedavgft': 'nothing: clients adapt when they are judged',
    'knnper': 'the same',
    'perfedavg': 'a gradient of each half of a batch, at other weights',
    'jointft': "a pass over the validation part, and the client's rows gathered",
    'ifca': 'a forward pass of each batch by both models; both down and up',
    'fedrod': "a gradient of each batch; the own head's step",
    'fedala': 'a pass over some batches that learns the mixture; the model kept',
    'fedamp': 'models compared and added in rows; the model kept',
    'fedproto': 'a forward pass over the examples for prototypes; the model kept',
    'feddistill': 'a softmax and sums of predictions; the model kept',
    FED_AVG: '',
    TFF: '',
}


def ratio(record: dict, base: dict, key: str) -> float:
    """Returns the median, over rounds after the first, of one by the other."""
    pairs = zip(record[key][1:], base[key][1:], strict=True)
    return statistics.median(a / b for a, b in pairs)


def table(workload: str, records: dict[str, dict]) -> list[str]:
    """Returns the lines of a workload's table."""
    base = records[FED_AVG]
    rounds = len(base['seconds']) - 1
    lines = [
        f'## {workload}',
        '',
        f'{TITLES[workload]} Of {rounds} rounds after the first, by turns.',
        '',
        '| | seconds a round | fastest, slowest | to FedAvg | fastest to fastest |'
        ' processor time to FedAvg | first round | besides FedAvg |',
        '|---|--:|--:|--:|--:|--:|--:|---|',
    ]
    for name, record in records.items():
        if 'error' in record:
            lines.append(f'| {name} | {record["error"]} | | | | | | |')
            continue
        rest = record['seconds'][1:]
        fastest = min(rest) / min(base['seconds'][1:])
        lines.append(
            f'| {name} | {statistics.median(rest):.4f} | {min(rest):.4f},'
            f' {max(rest):.4f} | {ratio(record, base, "seconds"):.2f} | {fastest:.2f} |'
            f' {ratio(record, base, "processor"):.2f} | {record["seconds"][0]:.2f} |'
            f' {MORE.get(name, "")} |'
        )
    return [*lines, '']


def peers_table(ours: dict[str, dict], peers: dict[str, dict]) -> list[str]:
    """Returns the lines of a table of other frameworks' methods beside ours."""
    lines = [
        '| | seconds a round | fastest, slowest | to ours | load before |',
        '|---|--:|--:|--:|--:|',
    ]
    for name, record in peers.items():
        if error := {**ours[record['method']], **record}.get('error'):
            lines.append(f'| {name} | {error} | | | |')
            continue
        rest = record['seconds'][1:]
        to_ours = median(record) / median(ours[record['method']])
        lines.append(
            f'| {name} | {median(record):.4f} | {min(rest):.4f}, {max(rest):.4f}'
            f' | {to_ours:.2f} | {record["load_before"]:.1f} |'
        )
    return [*lines, '']


def page(measured: dict, peers: dict, described: dict) -> str:
    """Returns the measurement as a page in Markdown.

    Args:
      measured: What `measure` gives, by workload.
      peers: What `measure_peers` gives, by workload.
      described: The machine.
    """
    lines = [
        '# methods',
        '',
        'A round of every method on the compiled runtime, with what clients keep in'
        " memory, stacked. Ratios are medians over rounds of the method's by that of"
        ' our FedAvg in the same turn. Other frameworks ran after that, each in a'
        ' process of its own.',
        '',
    ]
    for workload, records in measured.items():
        lines += table(workload, records)
        lines += peers_table(records, peers[workload])
    return '\n'.join([*lines, machine.sentence(described), ''])
