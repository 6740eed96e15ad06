"""Files of cached features with damage: the right features, made anew if need be."""

import numpy as np
import pytest

from tff_transfer.features import cache, file_format

pytestmark = pytest.mark.slow

VALUES = np.random.default_rng(0).gamma(2, 30, (8, 3)).astype(np.float32)


@pytest.mark.parametrize('dtype', file_format.DTYPES)
def test_feature_cache(tmp_path, fuzz, dtype, capsys):
    made = 0

    def batches():
        nonlocal made
        made += 1
        yield from np.array_split(VALUES, 3)

    def get():
        what = {'backbone': 'net', 'data': 'noise'}
        return cache.get_or_make(
            'key', VALUES.shape, batches, dtype=dtype, what=what, cache_dir=tmp_path
        )

    whole = np.array(get())
    (entry,) = cache.entries(tmp_path)

    def read():
        for command in ('list', 'verify'):
            cache.main([f'--cache_dir={tmp_path}', command])
        listed = capsys.readouterr().out.splitlines()
        before = made
        return np.array(get()), made > before, listed

    def judge(found, _):
        values, anew, listed = found
        np.testing.assert_array_equal(values, whole)
        assert values.dtype == np.float32
        # One row and a total, twice.
        assert len(listed) == 4
        assert listed[2].startswith('broken' if anew else 'whole')
        return 'made anew' if anew else 'right'

    fuzz.damage(f'feature cache {dtype}', entry.path, read, judge, 100)
