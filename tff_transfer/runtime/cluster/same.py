"""What must be the same on all machines, so that their bits are."""

import functools
import hashlib
import pathlib
import platform
from collections.abc import Mapping

from tff_transfer import versions

_PACKAGES = ('tensorflow', 'tensorflow-federated', 'numpy')


@functools.cache
def facts() -> dict[str, str]:
    """Returns the versions of Python and packages, and a hash of this package."""
    found = {'Python': platform.python_version()}
    found |= {name: str(versions.installed(name)) for name in _PACKAGES}
    root = pathlib.Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found | {'tff_transfer (its sources)': digest.hexdigest()[:12]}


def differences(theirs: Mapping[str, str]) -> list[str]:
    """Returns what of another machine's facts is not as here, in words."""
    return [
        f'{name} is {theirs.get(name)} there and {mine} here'
        for name, mine in facts().items()
        if theirs.get(name) != mine
    ]
