"""Enough was damaged: comes last, by its name."""

import pytest

FAMILIES = {
    'archive .tar',
    'archive .tar.gz',
    'checkpoint',
    'config.json',
    'CSV of pixels',
    'CSV of vectors',
    'data.json',
    'feature cache float16',
    'feature cache float32',
    'feature cache uint8',
    'image folder',
    'JPEG',
    'metrics.csv',
    'npz',
    'npz without clients',
    'PNG of colours',
    'PNG of greys',
    'run directory',
    'SavedModel',
    'SQLite',
}


@pytest.mark.slow
def test_two_thousand_files_were_damaged(fuzz):
    done = {family for family, _, _ in fuzz.outcomes}
    if missing := FAMILIES - done:
        pytest.skip(f'only a part of the tests ran, without {", ".join(missing)}')
    assert done == FAMILIES
    assert fuzz.outcomes.total() >= 2000
