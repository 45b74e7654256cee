"""Every ``.npz`` is read by one reader, which looks at its size before it unpacks anything."""

import numpy as np
import pytest

from dlkd.arrays import read_arrays
from dlkd.data.noise.tables import read_columns
from dlkd.data.sources import npz
from dlkd.errors import UserError

READERS = {"arrays": (read_arrays, ValueError), "labels": (read_columns, UserError), "images": (npz, UserError)}


@pytest.fixture(params=READERS)
def refusal(request):
    """What a reader says of a file, in one line."""

    def said(path):
        read, kind = READERS[request.param]
        with pytest.raises(kind) as error:
            read(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    return said


def test_what_would_not_fit_into_memory_is_not_unpacked(tmp_path, monkeypatch, refusal):
    np.savez_compressed(tmp_path / "a.npz", labels=np.zeros(10_000_000, np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    monkeypatch.setattr("dlkd.regular.os.sysconf", lambda name: 4096 if "SIZE" in name else 4000)  # 16 MB
    assert "it would unpack to 0.0 GB, more than half of the memory of this machine" in refusal(tmp_path / "a.npz")


def test_one_array_without_a_name(tmp_path, refusal):
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert "it holds one array without a name" in refusal(tmp_path / "a.npz")


def test_objects_that_run_code(tmp_path, refusal):
    np.savez(tmp_path / "a.npz", labels=np.array([{"a": 1}], object))
    assert "allow_pickle=False" in refusal(tmp_path / "a.npz")


def test_no_file(tmp_path, refusal):
    assert str(tmp_path / "a.npz") in refusal(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"expected an .npz file at .*, but there is none; give it as --data.root"):
        npz(tmp_path / "a.npz")
