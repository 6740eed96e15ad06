"""Errors inside computations: one line that TensorFlow's own class catches too."""

import functools

import tensorflow as tf

from tff_transfer.errors import UserError

# How lines begin that TensorFlow puts before an error's own words.
_TRACEBACK = ('Graph execution error', 'Detected at', 'File "', '<stack')


def failure(
    line: str,
    kind: type[tf.errors.OpError],
    node_def: tf.compat.v1.NodeDef | None = None,
) -> UserError:
    """Returns an error of TensorFlow's class that is a `UserError` too.

    Args:
      line: What it says, which is its `message` as well.
      kind: TensorFlow's class, such as `tf.errors.InvalidArgumentError`.
      node_def: The node that failed, if it is known.
    """
    return _both(kind)(node_def, None, line)


@functools.cache
def _both(kind: type[tf.errors.OpError]) -> type[UserError]:
    class Failure(UserError, kind):
        # ValueError's would come first.
        __init__ = kind.__init__

        def __str__(self) -> str:
            return self.message

        def __reduce__(self):
            return failure, (self.message, kind, self.node_def)

    Failure.__name__ = Failure.__qualname__ = kind.__name__
    return Failure


def cannot_run(name: str, why: str) -> UserError:
    """Returns what is raised when the computation of this name cannot run here."""
    return UserError(
        f'{name}: the compiled runtime cannot run it: {why}; use'
        f' tff_transfer.runtime.use_stock() for it'
    )


def words(message: str) -> str:
    """Returns what an error of TensorFlow's itself says, in one line, or nothing."""
    lines = [line.strip() for line in message.splitlines()]
    noise = [i for i, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    said = lines[max(noise, default=-1) + 1 :]
    return ' '.join(line for line in said if line and not line.startswith('[['))[:300]
