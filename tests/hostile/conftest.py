"""What the fuzzers share lies in ``mutations``; the bad inputs themselves in ``benchmarks/bad_input_cases``."""

import resource
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path += [str(Path(__file__).parent), str(ROOT / "benchmarks")]
MEGABYTES = 700


@pytest.fixture(autouse=True)
def little_memory():
    """However large a stranger's file says it is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


@pytest.fixture(scope="session")
def sound(tmp_path_factory, teacher, photos, good):
    """The folder of sound things that the cases copy and spoil."""
    from bad_input_cases import Place

    folder = tmp_path_factory.mktemp("sound")
    place = Place(folder, folder)
    for name, made in (("teacher", teacher), ("photos", photos)):
        (folder / name).symlink_to(made)
    good(*place.build(folder / "store", "--storage.views", 1))
    good(*place.train("--out", folder / "stopped", "--epochs", 2))
    for name in ("results.json", "student.json", "student.safetensors"):
        (folder / "stopped" / name).unlink()
    return folder
