import io
import struct
import zipfile

import numpy as np
import pytest

from tff_transfer.data import npz_archive

X = np.arange(60, dtype=np.int32).reshape(5, 12)


def header(shape, descr='<i4'):
    """Returns the start of an array's file that claims to have a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {'descr': descr, 'fortran_order': False, 'shape': shape}
    )
    return file.getvalue()


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


GOOD = header(X.shape) + X.tobytes()


def test_arrays_of_all_dtypes_are_read(tmp_path):
    arrays = {
        'f': np.asfortranarray(X),
        'big': X.astype('>f8'),
        'text': np.array(['a', 'é', '']),
        'bytes': np.array([b'a', b'\xff']),
        'one': np.array(3.5),
        'none': np.zeros((0, 3)),
        'records': np.zeros(3, [('a', 'i4'), ('b', 'U3')]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / 'a.npz', **arrays)
        found = npz_archive.read(tmp_path / 'a.npz')
        assert list(found) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype


@pytest.mark.parametrize('compression', [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_that_python_knows_are_read(tmp_path, compression):
    content = header((10**5,)) + bytes(4 * 10**5)
    path = archive(tmp_path / 'a.npz', [('x.npy', content)], compression)
    np.testing.assert_array_equal(npz_archive.read(path)['x'], np.zeros(10**5))


@pytest.mark.parametrize(
    ('members', 'words'),
    [
        ([('x.npy', GOOD), ('notes.txt', b'hello')], ["'notes.txt' is no array"]),
        ([('x.npy', b'hello, this is no array')], ['magic']),
        ([('x.npy', b'')], ['no .npz']),
        ([('folder/', b'')], ["'folder/' is no array"]),
        ([('a\nb.npy', GOOD)], [r"'a\nb.npy'"]),
        ([('x.npy', GOOD), ('x.npy', GOOD)], ["'x.npy' is no array"]),
        ([('x.npy', GOOD[:-1])], ['x.npy', 'not what its header says']),
        ([('x.npy', GOOD + b'1')], ['not what its header says']),
        ([('x.npy', header((10**13,)) + X.tobytes())], ['not what its header']),
        ([('x.npy', header((-5, -12)) + X.tobytes())], ['no .npz']),
        ([('x.npy', header((2**70, 0), '<i4'))], ['no .npz']),
        ([('x.npy', header((10**13,), '<U0'))], ['not what its header says']),
        ([('x.npy', header((1,), '<U1') + b'\xff' * 4)], ['no Unicode']),
        ([('x.npy', header((1,), '<U1') + b'\0\xd8\0\0')], ['no Unicode']),
        ([('x.npy', header((1,), '|O') + b'\x80\x04K\x01.')], ['Python objects']),
        ([('x.npy', header((1,), [('a', '|O')]) + b'1' * 8)], ['Python objects']),
        ([('x.npy', GOOD[:6] + b'\x03' + GOOD[7:])], ['format version (3, 0)']),
        ([('x.npy', GOOD[:6] + b'\x09' + GOOD[7:])], ['format version (9, 0)']),
        ([('x.npy', GOOD[:10] + b'(' * 64 + GOOD[74:])], ['no .npz']),
    ],
)
def test_members_that_are_no_arrays_are_refused(tmp_path, refused, members, words):
    path = tmp_path / 'a.npz'
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning, 'Duplicate name')
        archive(path, members)
    with refused(path, *words):
        npz_archive.read(path)


def changed(path, signature, offset, value):
    """Overwrites two bytes of the first record with a signature."""
    content = bytearray(path.read_bytes())
    start = content.index(signature) + offset
    content[start : start + 2] = struct.pack('<H', value)
    path.write_bytes(content)


def test_encryption_and_unknown_compression_are_refused(tmp_path, refused):
    for offset, value, word in ((8, 1, 'encrypted'), (10, 77, 'compression')):
        path = archive(tmp_path / 'a.npz', [('x.npy', GOOD)])
        changed(path, b'PK\1\2', offset, value)
        changed(path, b'PK\3\4', offset - 2, value)
        with refused(path, word, 'numpy.savez'):
            npz_archive.read(path)


def test_sizes_that_cannot_be_are_refused_before_memory_is_taken(tmp_path, refused):
    # The archive says what the header says, but holds a thousandth of it.
    path = tmp_path / 'a.npz'
    archive(path, [('x.npy', header((10**9,)) + b'0' * 10**6)], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    size = content.index(b'PK\1\2') + 24
    content[size : size + 4] = struct.pack('<I', len(header((10**9,))) + 4 * 10**9)
    path.write_bytes(content)
    with refused(path, 'not what its header says'):
        npz_archive.read(path)


def test_a_header_that_claims_less_is_refused(tmp_path, refused):
    # `numpy.load` gives four rows of it and says nothing.
    path = tmp_path / 'a.npz'
    np.savez(path, x=np.zeros((5, 5000)))
    path.write_bytes(path.read_bytes().replace(b'(5, 5000)', b'(4, 5000)'))
    assert np.load(path)['x'].shape == (4, 5000)
    with refused(path, 'not what its header says'):
        npz_archive.read(path)


def test_a_member_that_is_lost_is_refused(tmp_path, refused):
    # The first entry's comment is as long as the second entry.
    path = archive(tmp_path / 'a.npz', [('x.npy', GOOD), ('y.npy', GOOD)])
    entry = 46 + len('y.npy')
    changed(path, b'PK\1\2', 32, entry)
    assert zipfile.ZipFile(path).namelist() == ['x.npy']
    with refused(path, '1 of 2 members'):
        npz_archive.read(path)


def test_another_dtype_of_the_same_size_is_refused(tmp_path, refused):
    path = archive(tmp_path / 'a.npz', [('x.npy', GOOD)])
    path.write_bytes(path.read_bytes().replace(b'<i4', b'<f4'))
    with refused(path, 'CRC'):
        npz_archive.read(path)
