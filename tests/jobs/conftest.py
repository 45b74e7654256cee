"""A small store, and the command that makes it; ``store_files`` has what its tests look at."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def build(distill):
    """The arguments of a small ``dlkd store build``."""
    return lambda store, *more, what="build": ("store", what, "--store", store, *distill("")[3:], *more)


@pytest.fixture(scope="session")
def made(tmp_path_factory, good, build):
    """A store of two views of 245 images, and what was said about it; copy it to change it."""
    from store_files import EXACT

    store = tmp_path_factory.mktemp("made") / "store"
    done = good(*build(store, "--epochs", 2, *EXACT))
    return store, done


@pytest.fixture
def store(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "store"))
