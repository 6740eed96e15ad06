"""Pages of `benchmarks.speed`."""

import statistics

from benchmarks import machine

_HEAD = '1,280 features to 62 classes, a linear softmax model, batches of 20, SGD 0.1.'
_SMALL = '60 features to 10 classes, batches of 10, SGD'
TITLES = {
    'small': f'100 clients with 100 examples each: {_SMALL} 0.1, a linear model.',
    'small_mlp': f'100 clients with 100 examples each: {_SMALL} 0.01, a hidden layer'
    ' of 64.',
    'small_skewed': '100 clients with 10 to 1,000 examples (log-normal around 100):'
    f' {_SMALL} 0.1, a linear model.',
    'head': f'100 clients with 100 examples each: {_HEAD}',
    'head_skewed': '100 clients with 10 to 1,000 examples (log-normal around 100):'
    f' {_HEAD}',
    'cnn': 'EMNIST CNN (two 5x5 convolutions, 128 dense units, 62 classes), 10 clients'
    ' with 100 images each, batches of 20, SGD 0.001.',
    'evaluation': 'Loss and accuracy (build_fed_eval) of the head, 400 clients with 100'
    ' examples each, batches of 20. "Weights differ by" compares both numbers.',
    'finetune_all': 'MobileNetV2 0.35 on 96 x 96 images with 62 classes, all weights'
    ' trainable, 10 clients with 100 images each, batches of 20, SGD 0.001; 156 weights'
    " and the layer's two.",
    'tutorial': '100 clients with 100 grey images of 28 x 28 each in a ClientData,'
    " through the chain of TFF's tutorial (repeat(5), shuffle(100, seed=1), batch(20),"
    ' map, prefetch(10)): a linear softmax model, SGD 0.02. The data sets of a round'
    ' are made anew before its time is taken, as in the tutorial. Where they are made'
    ' once, each round has another order, and other weights come out.',
    'aggregators': 'The head workload (100 clients with 100 examples each) with'
    ' tff.learning\'s aggregators; "to ours" compares with the same aggregator'
    ' compiled. dp, compression and ddp_secure draw random numbers, so their weights'
    ' differ from run to run.',
}


def median(record: dict) -> float:
    """Returns the median seconds of the rounds after the first."""
    return statistics.median(record['seconds'][1:])


def table(measured: dict) -> str:
    """Returns a measurement as a page in Markdown."""
    records = measured['records']
    lines = [
        f'# {measured["workload"]}',
        '',
        f'{TITLES[measured["workload"]]} Median seconds of'
        f' {_rounds(records)} rounds after the first, one framework after another.',
        '',
        '| | seconds a round | fastest, slowest | to ours | first round |'
        ' weights differ by | load before | settings |',
        '|---|--:|--:|--:|--:|--:|--:|---|',
    ]
    for name, record in records.items():
        if 'error' in record:
            lines.append(f'| {name} | {record["error"]} | | | | | | |')
            continue
        rest = record['seconds'][1:]
        base = _base(name, records)
        ratio = f'{median(record) / median(base):.2f}' if 'seconds' in base else ''
        apart = f'{record["difference"]:.0e}' if 'difference' in record else ''
        lines.append(
            f'| {name} | {median(record):.4f} | {min(rest):.4f}, {max(rest):.4f} |'
            f' {ratio} | {record["seconds"][0]:.2f} | {apart} |'
            f' {record["load_before"]:.1f} | {record["settings"]} |'
        )
    versions = {}
    for record in records.values():
        versions |= record.get('versions', {})
    listed = ', '.join(f'{name} {version}' for name, version in versions.items())
    lines += ['', machine.sentence(measured['machine']), '', f'Versions: {listed}.', '']
    return '\n'.join(lines)


def _base(name: str, records: dict) -> dict:
    """Returns what a record is compared with: the same compiled, or the first."""
    first = next(iter(records))
    return records[_compiled_name(name) if _compiled_name(name) in records else first]


def _compiled_name(name: str) -> str:
    return name.partition(', ')[0] + ', compiled'


def _rounds(records: dict) -> int:
    return max(
        (len(r['seconds']) - 1 for r in records.values() if 'seconds' in r), default=0
    )
