"""The public namespace, as a notebook uses it."""

import inspect
import subprocess
import sys

import pytest

import tff_transfer as tt


@pytest.mark.parametrize('name', tt.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert inspect.getdoc(getattr(tt, name))


@pytest.mark.parametrize('name', tt.data.__all__)
def test_every_source_of_data_is_a_module(name):
    assert inspect.ismodule(getattr(tt.data, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match='no attribute'):
        _ = tt.nonsense
    with pytest.raises(AttributeError, match='no attribute'):
        _ = tt.data.nonsense


def test_importing_the_package_imports_no_tensorflow():
    code = 'import sys, tff_transfer; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
