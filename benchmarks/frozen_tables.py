"""The measurements of `benchmarks.frozen` as a page with tables."""

import statistics

from benchmarks import machine, speed, workloads

OURS, STOCK = 'features once, compiled', 'tutorial, stock TFF'
CACHED, WHOLE = 'cached activations', 'raw images'


def median_run(records: list[dict]) -> dict:
    """Returns of several runs the one of the median whole time, or one that failed."""
    for record in records:
        if 'error' in record:
            return record
    in_order = sorted(records, key=whole_time)
    times = [whole_time(record) for record in in_order]
    return {**in_order[len(records) // 2], 'whole_times': times}


def whole_time(record: dict) -> float:
    """Returns the seconds of all rounds; of those not done, the median of the rest."""
    before, first, *rest = record['seconds']
    missing = record['rounds'] - 1 - len(rest)
    return before + first + sum(rest) + missing * statistics.median(rest)


def predicted(operations: tuple[int, int]) -> float:
    """Returns how many times the work of a step is less with cached activations.

    A backward pass computes gradients of weights and of activations, each of which
    costs what a forward pass costs.

    Args:
      operations: Those of the forward pass below and above the cut.
    """
    below, above = operations
    return (below + 3 * above) / (3 * above)


def head_table(records: list[dict]) -> list[str]:
    """Returns the lines of the heads' table."""
    titles = (
        '| clients | | whole time, s | to ours | before the first round | first round |'
        ' each further round | to ours | weights differ by | load before |'
    )
    columns = '|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|'
    rows = _rows(records, 'population', OURS, _head_cells)
    return [titles, columns, *rows]


def top_table(records: list[dict]) -> list[str]:
    """Returns the lines of the tops' table."""
    titles = (
        '| layers above the cut | | seconds a round | fastest, slowest | times the'
        ' cached | predicted | Mflop below, above | weights differ by | load before |'
        ' settings |'
    )
    columns = '|--:|---|--:|--:|--:|--:|--:|--:|--:|---|'
    return [titles, columns, *_rows(records, 'top_layers', CACHED, _top_cells)]


def _rows(records: list[dict], key: str, base: str, cells) -> list[str]:
    """Returns of each record `cells(record, the base's record)`, or its error."""
    bases = {r[key]: r for r in records if r['name'] == base}
    lines = []
    for r in records:
        filled = [r['error'], *[''] * 7] if 'error' in r else cells(r, bases[r[key]])
        lines.append(f'| {r[key]} | {r["name"]} | {" | ".join(filled)} |')
    return lines


def _head_cells(record: dict, ours: dict) -> list[str]:
    before, first, *rest = record['seconds']
    done = len(rest) + 1
    whole = f'{whole_time(record):.2f}'
    if len(times := record['whole_times']) > 1:
        whole += f' ({times[0]:.2f} to {times[-1]:.2f})'
    if done < record['rounds']:
        whole += f' (from {done} of {record["rounds"]} rounds)'
    ratios = ['', '']
    if 'seconds' in ours:
        further = _further(record) / _further(ours)
        ratios = [f'{whole_time(record) / whole_time(ours):.1f}', f'{further:.0f}']
    return [
        whole,
        ratios[0],
        f'{before:.2f}',
        f'{first:.2f}',
        f'{_further(record):.4f}',
        ratios[1],
        _apart(record),
        f'{record["load_before"]:.1f}',
    ]


def _top_cells(record: dict, cached: dict) -> list[str]:
    rest = record['seconds'][1:]
    compared = ['', '', '']
    if record is not cached:
        if 'seconds' in cached:
            compared[0] = f'{speed.median(record) / speed.median(cached):.2f}'
        operations = record['operations']
        compared[1] = f'{predicted(operations):.2f}'
        compared[2] = ', '.join(f'{count / 1e6:.1f}' for count in operations)
    return [
        f'{speed.median(record):.4f}',
        f'{min(rest):.4f}, {max(rest):.4f}',
        *compared,
        _apart(record),
        f'{record["load_before"]:.1f}',
        record['settings'],
    ]


def _further(record: dict) -> float:
    return statistics.median(record['seconds'][2:])


def _apart(record: dict) -> str:
    return f'{record["difference"]:.0e}' if 'difference' in record else ''


def page(measured: dict) -> str:
    """Returns a measurement as a page in Markdown."""
    head, top = measured['head'], measured['top']
    versions = {}
    for record in (*head, *top):
        versions |= record.get('versions', {})
    listed = ', '.join(f'{name} {version}' for name, version in versions.items())
    rounds = max(r['rounds'] for r in head)
    top_rounds = max(len(r.get('seconds', ())) for r in top)
    shared = (
        f'{measured["clients"]} clients a round with {measured["images"]} images each,'
        ' uint8 28 x 28, which the preprocessing makes as large as the backbone wants;'
        f' batches of 20, one epoch, {workloads.IMAGE_CLASSES} classes, SGD 0.01.'
    )
    return '\n'.join(
        [
            '# frozen',
            '',
            f'Backbone: {measured["backbone"]}. {shared}',
            '',
            '## head',
            '',
            f'A linear head on the frozen backbone, {rounds} rounds, from raw images in'
            ' memory to the last weights: loading the backbone, features (no cache'
            ' beforehand), building, tracing and compilation are counted, imports and'
            ' making the data are not. With 10 clients all take part in each round,'
            f' with 100 they are drawn. "{OURS}" extracts the features of the whole'
            f' population before the first round; "{STOCK}" is'
            ' `tff.learning.models.from_keras_model` of preprocessing, the module with'
            ' `trainable=False` and a dense layer, on lists of `tf.data.Dataset`.'
            ' Neither standardises features. Of several runs of ours, some'
            " before and some after TFF's, the one of the median time stands here with"
            ' the fastest and the slowest. "Weights differ by" compares the heads'
            ' after each round that both did.',
            '',
            *head_table(head),
            '',
            '## top',
            '',
            'The layers above a cut and a linear head are trained, on the compiled'
            ' runtime: on activations that were extracted once, and on raw images with'
            f' the same weights trained. Medians of {top_rounds - 1} rounds after the'
            f' first; weights after {top_rounds} rounds. Predicted: (below + 3 above) /'
            " (3 above), of one image's floating-point operations in the forward pass"
            " as TensorFlow's profiler counts them from the graphs (convolutions,"
            ' products and sums; it has no rule for BatchNorm, ReLU and resizing); a'
            ' backward pass counts as two forward.',
            '',
            *top_table(top),
            '',
            machine.sentence(measured['machine']),
            '',
            f'Versions: {listed}.',
            '',
        ]
    )
