"""The tables that programs here write."""

from collections.abc import Sequence


def markdown(table: Sequence[Sequence[str]], texts: int) -> str:
    """Returns a table in Markdown.

    Args:
      table: Rows of cells, the first one the heading.
      texts: How many columns, from the left, hold text; the others hold numbers.
    """
    head, *rest = (f'| {" | ".join(cells)} |' for cells in table)
    rule = '|---' * texts + '|--:' * (len(table[0]) - texts) + '|'
    return '\n'.join([head, rule, *rest]) + '\n'
