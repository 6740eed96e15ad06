"""The page of `benchmarks.secure_aggregation`."""

from benchmarks import machine
from tff_transfer.secure_aggregation import messages


def _table(columns: tuple[str, ...], rows: list[tuple]) -> list[str]:
    rule = ['---', *['--:'] * (len(columns) - 1)]
    lines = [columns, rule, *rows]
    return ['', *(f'| {" | ".join(map(str, line))} |' for line in lines), '']


def _who(row: dict) -> str:
    graph = 'complete' if row['complete'] else 'k-regular'
    return f'{graph}, {row["clients"]:,} x {row["length"]:,}'


def _ms(seconds: float) -> str:
    return f'{seconds * 1e3:,.1f}'


def _kb(count: float) -> str:
    return f'{count * 1e-3:,.1f}'


def _whole(rows: list[dict]) -> list[str]:
    columns = (
        *('graph, clients x numbers', 'k', 't', 'a client, ms', 'the server, s'),
        *('all together, s', 'a client up, KB', 'down, KB', 'the server, MB'),
    )
    return _table(
        columns,
        [
            (
                *(_who(row), row['neighbours'], row['threshold']),
                _ms(sum(row['client'])),
                f'{sum(row["server"]):.2f}',
                f'{row["seconds"]:.1f}',
                *(_kb(row['up']), _kb(row['down'])),
                f'{row["server_bytes"] * 1e-6:,.1f}',
            )
            for row in rows
        ],
    )


def _by_round(rows: list[dict]) -> list[str]:
    columns = (
        'graph, clients x numbers',
        *(f'client: {name}' for name in messages.ROUNDS),
        *(f'server: {name}' for name in messages.ROUNDS),
    )
    return _table(
        columns,
        [
            (_who(row), *map(_ms, row['client']), *map(_ms, row['server']))
            for row in rows
        ],
    )


def _drop_outs(rows: list[dict]) -> list[str]:
    columns = (
        *('clients x numbers', 'drop out', 'in the round', 'a client, ms'),
        *('the server, s', 'all together, s', 'a client up, KB'),
    )
    return _table(
        columns,
        [
            (
                f'{row["clients"]:,} x {row["length"]:,}',
                f'{row["dropped"]:.0%}',
                messages.ROUNDS[row['round']] if row['dropped'] else '',
                _ms(sum(row['client'])),
                f'{sum(row["server"]):.2f}',
                f'{row["seconds"]:.1f}',
                _kb(row['up']),
            )
            for row in rows
        ],
    )


def _ckks(rows: list[dict]) -> list[str]:
    columns = (
        *('clients x numbers', 'a client encrypts, ms', 'the server adds, s'),
        *('a client decrypts, ms', 'a client up, KB', 'down, KB', 'largest error'),
    )
    return _table(
        columns,
        [
            (
                f'{row["clients"]:,} x {row["length"]:,}',
                _ms(row['encrypt']),
                f'{row["add"]:.2f}',
                _ms(row['decrypt']),
                *(_kb(row['up']), _kb(row['down']), f'{row["error"]:.0e}'),
            )
            for row in rows
        ],
    )


def _flower(rows: list[dict]) -> list[str]:
    columns = (
        *('clients x numbers', 'shares', 't', 'a client, ms', 'the server, s'),
        *('all together, s', 'largest error of the mean'),
    )
    return _table(
        columns,
        [
            (
                f'{row["clients"]:,} x {row["length"]:,}',
                *(row['shares'], row['threshold'], _ms(row['client'])),
                *(f'{row["server"]:.2f}', f'{row["seconds"]:.1f}'),
                f'{row["error"]:.0e}',
            )
            for row in rows
        ],
    )


def page(found: dict, described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    sums = found['sums']
    whole = [row for row in sums if not row['dropped']]
    longest = max(row['length'] for row in sums)
    dropping = {row['clients'] for row in sums if row['dropped']}
    drop_outs = [
        row
        for row in sorted(sums, key=lambda row: row['clients'])
        if row['clients'] in dropping
        and row['length'] == longest
        and not row['complete']
    ]
    lines = [
        '# secure aggregation',
        '',
        'Numbers of 32 bits. Times are of the processor; a client is the median client;'
        ' all clients and the server run one after another in one process. Every sum'
        ' is exact.',
        *_whole(whole),
        'Milliseconds by round of the protocol:',
        *_by_round([row for row in whole if row['length'] == longest]),
        'Clients that drop out, with the k-regular graph:',
        *_drop_outs(drop_outs),
        'A weighted mean under CKKS:',
        *_ckks(found['ckks']),
    ]
    if found['flower']:
        lines += [
            "Flower's SecAgg+, its workflow and its client in one process without"
            ' network:',
            *_flower(found['flower']),
        ]
    return '\n'.join([*lines, machine.sentence(described), ''])
