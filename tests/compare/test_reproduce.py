import json
import shutil

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def published(tmp_path_factory, good, small):
    """The file of a comparison on three seeds, in a folder of its own."""
    out = tmp_path_factory.mktemp("published")
    good(*small(out / "run", "--conditions", "{noisy: {data.noise: 0.4}}", "--seeds", 3, methods="[ce, kd]"))
    folder = out / "results"
    folder.mkdir()
    shutil.copy(out / "run" / "results.json", folder / "toy.json")
    return folder


@pytest.fixture
def again(dlkd, published, teacher, tmp_path):
    def run(row, *more):
        found = dlkd("reproduce", row, "--results", published, "--out", tmp_path / "again", *more)
        file = tmp_path / "again" / row / "results.json"
        return found, json.loads(file.read_text())["figures"] if file.is_file() else None

    return run


def test_a_new_seed_and_the_band(again, published):
    done, figures = again("toy/noisy/ce")
    rows = json.loads((published / "toy.json").read_text())["rows"]
    before = [of["held_out"] for row in rows if row["row"] == "noisy/ce" for of in row["seeds"].values()]
    half = stats.t.ppf(0.975, 2) * np.std(before, ddof=1) * np.sqrt(1 + 1 / 3)
    found = figures["held_out"]
    assert list(found["found"]) == ["3"]
    assert found["band"] == pytest.approx([np.mean(before) - half, np.mean(before) + half])
    inside = all(of["band"][0] <= of["mean_of_new"] <= of["band"][1] for of in figures.values())
    assert done.status == (0 if inside else 1) and ("OUTSIDE" in done.out) == (not inside)


def test_a_published_seed_gives_its_figure(again):
    done, figures = again("toy/noisy/kd", "--seeds", "[1]")
    assert done.status == 0 and figures["held_out"]["difference"] == {"1": 0.0}
    assert "the published figure" in done.out and "OUTSIDE" not in done.out


def test_a_published_seed_that_gives_another_figure(again, published):
    found = json.loads((published / "toy.json").read_text())
    for row in found["rows"]:
        for seed, of in row["seeds"].items():
            of |= {"held_out": 99 + int(seed) / 1000, "held_out_clean": 99 + int(seed) / 1000}
    (published / "other.json").write_text(json.dumps(found))
    done, figures = again("other/noisy/ce", "--seeds", "[1]")
    assert done.status == 1 and "OUTSIDE" in done.out and figures["held_out"]["difference"]["1"] < 0


def test_another_setting_falls_outside(again, published):
    rows = json.loads((published / "toy.json").read_text())
    for row in rows["rows"]:  # as if each seed had been right everywhere
        for seed, of in row["seeds"].items():
            of |= {"held_out": 99 + int(seed) / 1000, "held_out_clean": 99 + int(seed) / 1000}
    (published / "better.json").write_text(json.dumps(rows))
    done, figures = again("better/noisy/ce")
    assert done.status == 1 and "OUTSIDE" in done.out and figures["held_out"]["inside"] is False


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("toy/noisy/dk", "did you mean noisy/kd?"),
        ("tony/noisy/kd", "FILE.json"),
        ("toy", "FILE/ROW"),
        ("broken/x", "results.json of dlkd compare"),
    ],
)
def test_no_such_row(again, published, refused, row, words):
    (published / "broken.json").write_text("[1]")
    refused(again(row)[0], words)


def test_a_row_is_needed(dlkd, refused):
    refused(dlkd("reproduce"), "--row")


def test_options_that_no_run_would_take(again, refused):
    refused(again("toy/noisy/kd", "--run.data.roo", "x")[0], "did you mean --data.root?")


def changed(published, name, **of):
    found = json.loads((published / "toy.json").read_text())
    found["rows"][0] |= of
    (published / f"{name}.json").write_text(json.dumps(found))
    return f"{name}/{found['rows'][0]['row']}"


def test_code_that_only_the_file_names_is_not_run(again, published, refused):
    options = json.loads((published / "toy.json").read_text())["rows"][0]["options"]
    row = changed(published, "evil", options={**options, "student": {"name": "os:getcwd"}})
    refused(again(row)[0], "student.name os:getcwd on the command line")


@pytest.mark.parametrize(
    "of",
    [
        {"pair": "../../up"},
        {"method": "/tmp/x"},
        {"condition": 3},
        {"seeds": [1, 2]},
        {"seeds": {"a": {}}},
        {"seeds": {"0": {"held_out": "x"}}},
        {"options": 5},
    ],
)
def test_rows_of_a_stranger(again, published, refused, of):
    refused(again(changed(published, "strange", **of))[0])


def test_a_file_without_rows_of_a_method(again, published, refused):
    (published / "rows.json").write_text('{"rows": [{"row": "x"}, 3]}')
    refused(again("rows/x")[0], "results.json of dlkd compare")
