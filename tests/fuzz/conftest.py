import pytest
from mutations import Fuzz

_FUZZ = pytest.StashKey[Fuzz]()


@pytest.fixture(scope='session')
def fuzz(request):
    """Damages files, and counts what comes of it over all tests."""
    return request.config.stash.setdefault(_FUZZ, Fuzz())


def pytest_terminal_summary(terminalreporter, config):
    done = config.stash.get(_FUZZ, None)
    if done is not None:
        terminalreporter.section('damaged files, and what came of reading them')
        for line in done.table():
            terminalreporter.write_line(line)
