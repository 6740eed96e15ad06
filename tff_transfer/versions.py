"""Which versions of other packages are needed, checked before they are imported."""

import dataclasses
import importlib.metadata
import importlib.util
import re
import sys

from tff_transfer.errors import UserError

REMEDY = (
    'install the versions of requirements.lock in an environment of their own'
    ' (`make test` in a clone does so), or see BUILD_NOTES.md'
)


@dataclasses.dataclass(frozen=True)
class Needed:
    """What is needed of one package.

    Attributes:
      name: The package's name on the index.
      locked: The version in requirements.lock, with which everything is tested.
      lowest: The lowest version that can work.
      below: The lowest version that cannot work any more, if there is one.
      why: Why not another one, to go into brackets.
    """

    name: str
    locked: str
    lowest: str
    below: str | None
    why: str

    def accepts(self, version: str) -> bool:
        """Returns whether this version can work."""
        found = _numbers(version)
        return _numbers(self.lowest) <= found and (
            self.below is None or found < _numbers(self.below)
        )


NEEDED = (
    Needed(
        'tensorflow-federated',
        locked='0.87.0',
        lowest='0.87',
        below='0.88',
        why='other releases have other interfaces',
    ),
    Needed(
        'tensorflow',
        locked='2.14.1',
        lowest='2.14',
        below='2.15',
        why='TensorFlow Federated 0.87.0 is built for 2.14',
    ),
    Needed(
        'keras',
        locked='2.14.0',
        lowest='2.14',
        below='2.15',
        why="it must be TensorFlow 2.14's own",
    ),
    Needed(
        'tensorflow-hub',
        locked='0.15.0',
        lowest='0.12',
        below='0.16',
        why='0.16 brings a second Keras, tf-keras',
    ),
    Needed(
        'tensorflow-privacy',
        locked='0.9.0',
        lowest='0.9',
        below=None,
        why='TensorFlow Federated imports it',
    ),
    Needed(
        'numpy',
        locked='1.25.2',
        lowest='1.23.5',
        below='2',
        why='TensorFlow 2.14 is built for NumPy 1',
    ),
    Needed(
        'protobuf',
        locked='4.25.9',
        lowest='3.20.3',
        below='5',
        why='TensorFlow 2.14 asks for less than 5',
    ),
    Needed(
        'jax',
        locked='0.4.18',
        lowest='0.4.14',
        below=None,
        why='TensorFlow Federated imports it',
    ),
    Needed(
        'jaxlib',
        locked='0.4.18',
        lowest='0.4.14',
        below=None,
        why='TensorFlow Federated imports it',
    ),
)


def _numbers(version: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version: (2, 14, 1) for 2.14.1rc0."""
    return tuple(int(part) for part in re.findall(r'\d+', version.split('+')[0])[:3])


def installed(name: str) -> str | None:
    """Returns the version of an installed package, None where it is absent."""
    # TensorFlow comes under several names with the same modules.
    names = (name, 'tensorflow-cpu') if name == 'tensorflow' else (name,)
    for each in names:
        try:
            return importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def problems() -> tuple[str, ...]:
    """Returns what would make an import fail or mislead, in words, if anything.

    Nothing is imported to find out: only the packages' metadata are read.
    """
    found = []
    if sys.version_info[:2] != (3, 11):
        running = '.'.join(map(str, sys.version_info[:2]))
        found.append(f'Python is {running}, 3.11 is needed')
    for needed in NEEDED:
        version = installed(needed.name)
        if version is None:
            found.append(f'{needed.name} is not installed ({needed.locked} is needed)')
        elif not needed.accepts(version):
            found.append(
                f'{needed.name} is {version}, {needed.locked} is needed ({needed.why})'
            )
    jax, jaxlib = installed('jax'), installed('jaxlib')
    if jax and jaxlib and _numbers(jaxlib) > _numbers(jax):
        found.append(
            f'jaxlib {jaxlib} is newer than jax {jax}, which jax refuses'
            ' (0.4.18 is needed of both)'
        )
    if importlib.util.find_spec('pkg_resources') is None:
        found.append(
            'setuptools has no pkg_resources, which TensorFlow Hub and TensorBoard'
            ' import (75.8.2 is needed, 82 has none)'
        )
    return tuple(found)


def check() -> None:
    """Stops an import that could only fail later, and less plainly.

    The doctor, which lies in this package, is let through: it says more.

    Raises:
      UserError: A package is absent or of a version that cannot work.
    """
    if 'tff_transfer.doctor' in sys.orig_argv:
        return
    if found := problems():
        raise UserError(f'{"; ".join(found)}: {REMEDY}')
