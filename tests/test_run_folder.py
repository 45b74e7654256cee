"""Nobody's folder is emptied by accident, and a run that is replaced comes back if the new one never begins."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from dlkd.errors import UserError
from dlkd.files import write_json
from dlkd.run_folder import check_outside, check_run_folder, new_run_folder


def names(path):
    return sorted(p.name for p in path.iterdir())


def make(path, card, *, overwrite=False, fails=False, begun=False):
    with new_run_folder(path, overwrite=overwrite, card=card, begun=lambda: begun):
        if fails:
            (path / "half").write_text("x")
            raise UserError("expected to fail")


def test_a_run_folder_is_new_or_ours(tmp_path):
    card = {"command": "distill"}
    make(tmp_path / "deep" / "run", card)
    assert json.loads((tmp_path / "deep" / "run" / "run.json").read_text()) == card
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", card)
    (tmp_path / "empty" / "student").write_text("x")
    with pytest.raises(UserError, match="holds a run already; give --resume"):
        make(tmp_path / "empty", card)
    assert names(tmp_path / "empty") == ["run.json", "student"]
    make(tmp_path / "empty", card, overwrite=True)
    assert names(tmp_path / "empty") == ["run.json"] and names(tmp_path) == ["deep", "empty"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    path = tmp_path / "run"
    with new_run_folder(path, overwrite=False, card={"a": 1}, begun=lambda: False):
        (path / "student").write_text("half")
        for overwrite in (False, True):
            with (
                pytest.raises(UserError, match="already" if not overwrite else "another process is at work"),
                new_run_folder(path, overwrite=overwrite, card={"b": 1}, begun=lambda: False),
            ):
                pass
        assert (path / "student").read_text() == "half" and [p.name for p in tmp_path.iterdir()] == ["run"]
    assert sorted(p.name for p in path.iterdir()) == ["run.json", "student"]


def test_a_run_that_fails_before_it_began_leaves_everything_as_it_was(tmp_path):
    with pytest.raises(UserError, match="to fail"):
        make(tmp_path / "new", {}, fails=True)
    (tmp_path / "mounted").mkdir()
    with pytest.raises(UserError, match="to fail"):
        make(tmp_path / "mounted", {}, fails=True)
    assert names(tmp_path) == ["mounted"] and names(tmp_path / "mounted") == []
    make(tmp_path / "old", {"first": 1})
    with pytest.raises(UserError, match="to fail"):
        make(tmp_path / "old", {"second": 2}, overwrite=True, fails=True)
    assert names(tmp_path) == ["mounted", "old"]
    assert json.loads((tmp_path / "old" / "run.json").read_text()) == {"first": 1}
    with pytest.raises(UserError, match="to fail"):
        make(tmp_path / "old", {"second": 2}, overwrite=True, fails=True, begun=True)
    assert names(tmp_path / "old") == ["half", "run.json"] and names(tmp_path) == ["mounted", "old"]


@pytest.fixture
def replaced(tmp_path):
    """A folder with a run, and the ``--overwrite`` of it that fails before it has begun."""
    path = tmp_path / "run"
    make(path, {"command": "train", "first": 1})
    (path / "student").write_text("precious")
    return path, lambda **more: make(path, {"command": "train"}, overwrite=True, **more)


def is_back(path):
    return names(path.parent) == ["run"] and names(path) == ["run.json", "student"] and "first" in card_of(path)


def card_of(path):
    return json.loads((path / "run.json").read_text())


def test_a_run_that_cannot_be_brought_back_is_not_deleted(replaced, monkeypatch):
    """The message says where it is. The next one that fails brings it back."""
    path, again = replaced

    def rmdir(_):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rmdir", rmdir)
        aside = path.with_name(".run.replaced")
        with pytest.raises(UserError, match=r"^expected to fail; the run .* \(Directory not empty\)") as said:
            again(fails=True)
    assert str(said.value).endswith(f"it is in {aside}") and (aside / "student").read_text() == "precious"
    with pytest.raises(UserError, match=r"^expected to fail$"):
        again(fails=True)
    assert is_back(path)


@pytest.mark.parametrize("last", ["half", "run.json"])
def test_a_second_interruption_while_a_run_is_brought_back(replaced, monkeypatch, last):
    """What is left of the new one is still known to be ours; the next brings the old one back, or deletes it."""
    path, again = replaced
    unlink = Path.unlink

    def interrupted(file, **more):
        if file == path / last:
            raise KeyboardInterrupt
        unlink(file, **more)

    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Path, "unlink", interrupted)
            again(fails=True)
        assert (path.with_name(".run.replaced") / "student").read_text() == "precious" and card_of(path)
    with pytest.raises(UserError, match="to fail"):
        again(fails=True)
    assert is_back(path)
    again()
    assert names(path.parent) == ["run"] and names(path) == ["run.json"]


def test_a_killed_run_that_had_not_begun_is_not_worth_the_one_aside(replaced):
    """One that had begun is, and so is one of another command, of which nobody knows that here."""
    path, again = replaced
    path.rename(path.with_name(".run.replaced"))
    path.mkdir()
    write_json(path / "run.json", {"command": "train"})
    with pytest.raises(UserError, match="to fail"):
        again(fails=True)
    assert is_back(path)
    for card, more in (({"command": "train"}, ["results.json"]), ({"command": "audit"}, [])):
        path.rename(path.with_name(".run.replaced"))
        path.mkdir()
        for name in more:
            (path / name).touch()
        write_json(path / "run.json", card)
        with pytest.raises(UserError, match="to fail"):
            again(fails=True)
        assert names(path.parent) == ["run"] and names(path) == sorted([*more, "run.json"]) and card_of(path) == card
        (path / "run.json").write_text('{"command": "train", "first": 1}')
        (path / "student").write_text("precious")
        for name in more:
            (path / name).unlink()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at the open files of this process")
def test_a_folder_is_removed_once_no_file_in_it_is_open(replaced, monkeypatch):
    """Over a network, one that is deleted while it is open stays under another name, and so does its folder."""
    path, again = replaced
    rmdir = Path.rmdir

    def over_a_network(folder):
        opened = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        if any(os.readlink(file).startswith(f"{folder}/") for file in opened if file.is_symlink()):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", over_a_network)
    with pytest.raises(UserError, match=r"^expected to fail$"):
        again(fails=True)
    assert is_back(path)


def test_nobody_begins_while_a_run_is_put_aside(replaced, monkeypatch):
    """For a moment there is no folder, and no lock in it."""
    path, again = replaced
    mkdir, refusals, others = Path.mkdir, [], []

    def other():
        try:
            make(path, {"command": "train"})
        except UserError as error:
            refusals.append(str(error))

    def in_between(folder, **more):
        if folder == path and not path.exists() and not others:
            others.append(threading.Thread(target=other))
            others[0].start()
            others[0].join(0.5)
        mkdir(folder, **more)

    monkeypatch.setattr(Path, "mkdir", in_between)
    with pytest.raises(UserError, match=r"^expected to fail$"):
        again(fails=True)
    others[0].join(10)
    assert len(refusals) == 1 and is_back(path)


def test_a_run_comes_back_where_the_new_folder_cannot_be_made(replaced, monkeypatch):
    path, again = replaced

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UserError, match=r"could not write to --out .*: No space left"):
        again()
    assert is_back(path)


def test_inputs_inside_the_run_are_refused(tmp_path):
    check_outside(tmp_path / "run", {"store": tmp_path / "store", "teacher.weights": None})
    for inside in (tmp_path / "run", tmp_path / "run" / "deep" / "w", tmp_path / "x" / ".." / "run"):
        with pytest.raises(UserError, match=r"expected --teacher\.weights outside"):
            check_outside(tmp_path / "run", {"teacher.weights": inside})


def test_other_peoples_files_are_never_deleted(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("thesis", "file"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="found files that are no run of dlkd"):
                make(tmp_path / name, {}, overwrite=overwrite)
    with pytest.raises(UserError, match="no folder to write to"):
        check_run_folder(tmp_path / "file" / "run", overwrite=False)
    check_run_folder(tmp_path / "new", overwrite=False)
    assert names(tmp_path) == ["file", "thesis"] and (tmp_path / "thesis" / "chapter").read_text() == "mine"
