"""Files are written whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from dlkd.errors import UserError
from dlkd.files import TEMPORARY, clean_temporaries, held, held_by_file, write_atomic, write_json, writing


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_text_bytes_and_json(tmp_path):
    write_atomic(tmp_path / "a", "größe\n")
    write_atomic(tmp_path / "b", b"\0\xff")
    write_atomic(tmp_path / "b", b"new")
    write_json(tmp_path / "c", {"b": [1, None], "a": 0.1})
    assert (tmp_path / "a").read_bytes() == "größe\n".encode() and (tmp_path / "b").read_bytes() == b"new"
    assert (tmp_path / "c").read_text() == '{\n  "a": 0.1,\n  "b": [\n    1,\n    null\n  ]\n}\n'
    assert names(tmp_path) == ["a", "b", "c"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "a", "x")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_the_old_file_can_be_kept(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for k in range(3):
        write_atomic(new, str(k), keep=old)
        assert new.read_text() == str(k) and (old.read_text() == str(k - 1) if k else not old.exists())


def test_a_full_disk_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a"
    write_atomic(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"could not write .*is the disk full"):
            write_atomic(path, bytes(2000), keep=tmp_path / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["a"] and path.read_text() == "old"


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder" / "x").mkdir(parents=True)
    for path in (tmp_path / "nowhere" / "a", tmp_path / "folder"):
        with pytest.raises(UserError, match=r"could not write .*can this folder be written to"):
            write_atomic(path, "x")
    assert names(tmp_path) == ["folder"]


def test_written_in_parts(tmp_path):
    with writing(tmp_path / "a") as file:
        file.write("größe ")
        file.write(b"\xff")
        assert names(tmp_path) != ["a"] and len(names(tmp_path)) == 1
    assert (tmp_path / "a").read_bytes() == "größe ".encode() + b"\xff" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [OSError(13, "no picture"), KeyboardInterrupt(), ValueError("x")])
def test_what_else_fails_is_none_of_the_file(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)) as found, writing(tmp_path / "a") as file:
        file.write("new")
        raise error
    assert found.value is error and names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_full_disk_is_told_whatever_is_left_to_write(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"could not write .*is the disk full"), writing(tmp_path / "a") as file:
            for _ in range(100_000):
                file.write("row\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_leftovers_of_one_name_alone(tmp_path):
    left, others = ".a[1].csv.ab_d3fgh.tmp", [".a[1].csv.b.csv.ab_d3fgh.tmp", ".a1.csv.ab_d3fgh.tmp", ".a[1].csv.x.tmp"]
    for name in (left, *others):
        (tmp_path / name).touch()
    clean_temporaries(tmp_path, "a[1].csv", alone=True)
    assert names(tmp_path) == sorted(others)


def test_no_lock_is_waited_for_where_there_can_be_none():
    with pytest.raises(OSError), held(Path("/proc/.run.lock"), wait=True):
        pass
    with held_by_file(Path("/proc/.run.lock"), wait=True) as mine:
        assert mine


def test_leftovers_of_killed_writers_are_known_by_name(tmp_path):
    for name in ("a", "view-00000.safetensors", "run.json"):
        for _ in range(50):  # as write_atomic names them
            handle, path = tempfile.mkstemp(dir=tmp_path, prefix=f".{name}.", suffix=".tmp")
            os.close(handle)
            assert TEMPORARY.fullmatch(os.path.basename(path))
    for name in ("a.tmp", ".a.tmp", ".hidden", "run.json", ".a.tooshort.tmp.x"):
        assert not TEMPORARY.fullmatch(name)
