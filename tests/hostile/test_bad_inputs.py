"""The figures that were committed, and a handful of the cases again."""

import json
import shutil
from pathlib import Path

import bad_inputs
import pytest
from bad_input_cases import CASES, Place

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "results" / "bad_inputs.json").read_text())
COMMANDS = {"train", "distill", "evaluate", "difficulty", "store build", "store verify", "store info", "store repair"}
AGAIN = (
    "null for a number",
    "a run whose weights are gone",
    "an alias of itself",
    "aliases that unfold to 10⁹ values",
    "deletion in place of a data set",
    "a command in place of a data set",
    "a command in place of the data, to be scored",
    "settings that name code",
    "settings that name code, to be repaired",
    "forged checkpoints that run code",
    "a pickle that runs code",
    "a .pth that runs code",
    "a .npy that runs code",
    "an archive that unpacks to 1,000 times its size",
    "10¹² classes",
    "a label of a terabyte that is not there",
    "a pipe under the name of an image",
    "a program in PostScript under another name",
    "a pipe in place of a shard",
    "a forged manifest: 10¹⁸ views",
    "a forged shard without logits",
    "locks that are links to another file",
)


def test_what_was_tried():
    cases = RESULTS["cases"]
    assert RESULTS["tried"] == len(cases) == sum(RESULTS["parts"].values()) >= 60
    assert [(row["part"], row["what"]) for row in cases] == [(case.part, case.what) for case in CASES]
    assert len({(row["part"], row["what"]) for row in cases}) == len(cases)
    for row in cases:
        assert row.keys() == {"part", "what", "command", "line", "verdict"}
        assert row["line"].isprintable() and "/tmp" not in row["line"], row
        assert row["line"].startswith("dlkd: error: "), row
    assert all(row["verdict"] == "as promised" for row in cases)
    assert RESULTS["as_promised"] == RESULTS["tried"] and {row["command"] for row in cases} >= COMMANDS


def test_the_page_has_them_all():
    page = (ROOT / "docs" / "hostile.md").read_text()
    assert bad_inputs.table(RESULTS["cases"]).strip() in page
    assert f"{RESULTS['tried']} bad inputs" in page and "all of them as promised" in page


@pytest.mark.parametrize("what", AGAIN)
@pytest.mark.filterwarnings("ignore")
def test_again(tmp_path, sound, what):
    (case,) = [case for case in CASES if case.what == what]
    row = bad_inputs.try_case(case, tmp_path, sound)
    assert row["verdict"] == "as promised", row


def test_what_is_not_as_promised_is_told(tmp_path, sound):
    """The judge itself: a status, lines, words, files."""
    case = bad_inputs.Case("x", "x", lambda _: [], "sense", leaves=("meant",))
    ended = bad_inputs.Ended(1, "Traceback\n  line\nError\n", 1.0, 5.0)
    (tmp_path / "old").write_text("x")
    (tmp_path / "gone").write_text("x")
    before = bad_inputs.state(tmp_path)
    (tmp_path / "old").write_text("y")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "meant").mkdir()
    (tmp_path / "meant" / "file").write_text("z")
    found = bad_inputs.faults(case, ended, before, bad_inputs.state(tmp_path), tmp_path)
    assert found == [
        "exit status 1",
        "3 lines",
        "no line that begins with 'dlkd: error: '",
        "not a word of 'sense'",
        "a character that moves the terminal",
        f"left behind: {tmp_path / 'new'}",
        "something lost",
        "something changed",
    ]
    shutil.rmtree(tmp_path / "new")
    fine = bad_inputs.Ended(2, "dlkd: error: it makes no sense\n", 1.0, 5.0)
    assert bad_inputs.faults(case, fine, bad_inputs.state(tmp_path), bad_inputs.state(tmp_path), tmp_path) == []
    place = Place(tmp_path, sound)
    done = bad_inputs.attempt(case, place.train("--epochs", 0), tmp_path)
    assert done.status == 2 and done.errors.count("\n") == 1
