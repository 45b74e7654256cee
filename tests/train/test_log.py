"""TensorBoard reads what the board wrote; an earlier process leaves nothing twice; a full disk is one line."""

import subprocess

import pytest

from dlkd.errors import UserError
from dlkd.train.log import Board, Waits, write_csv

ROWS = [{"epoch": k, "step": 4 * k, "loss": 1 / k, "held_out_accuracy": None if k == 1 else 50.0} for k in (1, 2, 3)]


def read(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_it(tmp_path):
    board = Board(tmp_path, [])
    for row in ROWS:
        board.add(row)
    found = read(tmp_path)
    assert found["loss"] == [(4 * k, pytest.approx(1 / k)) for k in (1, 2, 3)]
    assert found["held_out_accuracy"] == [(8, 50.0), (12, 50.0)]


def test_resumed_board_has_every_epoch_once(tmp_path):
    board = Board(tmp_path, [])
    for row in ROWS:
        board.add(row)  # killed before the checkpoint of the third epoch
    resumed = Board(tmp_path, ROWS[:2])
    resumed.add({**ROWS[2], "loss": 7.0})
    assert [step for step, _ in read(tmp_path)["loss"]] == [4, 8, 12] and read(tmp_path)["loss"][2][1] == 7
    assert [p.name for p in (tmp_path / "tensorboard").iterdir()] == ["events.out.tfevents.dlkd"]


def test_no_board_writes_nothing(tmp_path):
    Board(None, ROWS).add(ROWS[0])
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with pytest.raises(UserError, match=r"could not write .*tensorboard.*; is the disk full"):
            board = Board(tmp_path, [])
            for _ in range(1000):
                board.add(ROWS[0])
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_csv_has_every_name_once_and_gaps_are_empty(tmp_path):
    write_csv(tmp_path / "m.csv", [{"a": 1}, {"a": 2, "b": 3.5}])
    assert (tmp_path / "m.csv").read_text() == "a,b\n1,\n2,3.5\n"
    write_csv(tmp_path / "none.csv", [])
    assert not (tmp_path / "none.csv").exists()


def test_waits_pass_everything_on():
    waits = Waits()
    assert list(waits.over([1, 2, 3])) == [1, 2, 3]
    waits.images = 6
    figures = waits.figures()
    assert figures["images_per_second"] > 0 and 0 <= figures["data_wait"] <= 1
