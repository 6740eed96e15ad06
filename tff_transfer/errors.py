"""The one exception for what a user can mend."""


class UserError(ValueError):
    """Something the user gave is wrong.

    The message is one line: what is wrong, where, and what to do. The command
    line prints it after `error: ` and ends with exit code 2.
    """
