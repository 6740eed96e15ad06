"""Imports within the package point one way (docs/architecture.md)."""

import ast
import pathlib

import pytest

import tff_transfer

ROOT = pathlib.Path(tff_transfer.__file__).parent
# What each folder may know, besides the modules at top level.
KNOWS = {
    'graphs': (),
    'networks': ('graphs',),
    'data': (),
    'backbones': ('networks', 'graphs', 'data'),
    'features': ('backbones', 'data'),
    'models': ('features', 'backbones', 'networks', 'data'),
    'compression': (),
    'algorithms': ('models', 'compression', 'aggregation', 'networks', 'data'),
    'cluster': (),
    'runtime': ('cluster', 'graphs', 'data'),
    'privacy': (),
    'secure_aggregation': (),
    'aggregation': ('secure_aggregation',),
    'boosting': ('secure_aggregation', 'privacy', 'data'),
    'audit': (),
    'generation': (),
    'simulation': ('data',),
    'attacks': ('data',),
    'records': ('models', 'features', 'backbones', 'networks', 'data'),
    'training': (
        *('algorithms', 'models', 'features', 'backbones', 'networks', 'data'),
        *('records', 'runtime', 'privacy', 'compression', 'aggregation'),
        *('simulation', 'attacks', 'generation'),
    ),
}
# Of the modules at top level only what the doctor asks knows any folder.
ASKS = {'probes.py': ('data', 'runtime')}


def known(path: pathlib.Path) -> set[str]:
    """Returns the folders of the package that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith('tff_transfer'):
            for alias in node.names:
                found.update(f'{node.module}.{alias.name}'.split('.')[1:2])
    return {name for name in found if (ROOT / name).is_dir()}


@pytest.mark.parametrize('folder', KNOWS)
def test_a_folder_knows_only_what_is_below_it(folder):
    wrong = {
        str(path.relative_to(ROOT)): sorted(above)
        for path in (ROOT / folder).rglob('*.py')
        if (above := known(path) - {folder, *KNOWS[folder]})
    }
    assert wrong == {}


def test_every_folder_has_its_place():
    folders = {path.parent.name for path in ROOT.glob('*/__init__.py')}
    assert folders == set(KNOWS)


def test_what_is_at_top_level_knows_no_folder():
    found = {path.name: known(path) for path in ROOT.glob('*.py')}
    assert {name: tuple(sorted(it)) for name, it in found.items() if it} == ASKS
