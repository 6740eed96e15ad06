"""The one exception for what a user can mend, and how it quotes others."""


class UserError(ValueError):
    """Something the user gave is wrong.

    The message is one line: what is wrong, where, and what to do. The command
    line prints it after `error: ` and ends with exit code 2.
    """


def one_line(error: BaseException) -> str:
    """Returns what another library's exception says, on one line of at most 200."""
    return ' '.join(str(error).split())[:200] or type(error).__name__
