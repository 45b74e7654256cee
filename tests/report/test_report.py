"""``dlkd report``: what the page says, derived again from the files of the runs."""

import base64
import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, recall_score


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


@pytest.fixture(scope="module")
def page(runs, page_of, tmp_path_factory):
    """Student and baseline, all sections."""
    return page_of(tmp_path_factory.mktemp("page") / "p.html", "--runs", runs / "student", runs / "baseline")


def cards(page):
    """Pictures of images, decoded, with what stands below them."""
    return [a for tag, a in page.elements if tag == "img" and a.get("class") == "small"]


def test_every_section(page):
    assert list(page.words)[1:] == [
        *("Figures", "Learning curves", "Worst class pairs", "Accuracy by class", "Images", "Calibration"),
        *("Accuracy by difficulty", "Cost"),
    ]
    assert "compared with baseline. Figures are of 359 test images." in page.words[""]
    assert "One image is worth 0.28 points" in page.words["Figures"]
    charts = [a["alt"] for tag, a in page.elements if tag == "img" and a.get("class") == "chart"]
    assert len(charts) == 3 and all("student, baseline" in alt for alt in charts)
    assert all("teacher of student" in alt for alt in charts[1:])


def test_figures_are_those_of_the_runs(page, runs):
    rows = {row["run"]: row for row in page.rows("Figures")}
    for name in ("student", "baseline"):
        results = read(runs / name)
        figures, row = results["test"], rows[name]
        assert (row["accuracy, %"], row["calibration error, %"]) == (
            f"{figures['accuracy']:.2f}",
            f"{figures['ece']:.2f}",
        )
        assert row["method"] == results["method"]["name"] and row["seed"] == "0" and row["student"] == "resnet8x0.5"
        assert row["parameters"] == f"{results['parameters']:,}"
        assert row["file, MB"] == f"{(runs / name / 'student.safetensors').stat().st_size / 1e6:.2f}"
    change = read(runs / "student")["test"]["accuracy"] - read(runs / "baseline")["test"]["accuracy"]
    assert float(rows["student"]["against baseline, points"].replace("−", "-")) == pytest.approx(change, abs=0.006)
    assert rows["baseline"]["against baseline, points"] == "–" == rows["baseline"]["teacher: accuracy, %"]
    taught = read(runs / "student")["teacher"]["test"]
    assert rows["student"]["teacher: accuracy, %"] == f"{taught['accuracy']:.2f}"
    assert rows["student"]["teacher: calibration error, %"] == f"{taught['ece']:.2f}"


def test_pairs_and_classes_follow_from_the_answers(page, runs, arrays):
    recall = {}
    for name in ("student", "baseline"):
        kept = arrays(runs / name)
        labels, predicted = kept["test_labels"], kept["test_predicted"]
        matrix = confusion_matrix(labels, predicted)
        wrong = matrix - np.diag(np.diag(matrix))
        rows = [row for row in page.rows("Worst class pairs") if row["run"] == name]
        told = [(int(r["class"]), int(r["taken for"]), *map(int, r["images"].split(" of "))) for r in rows]
        assert len(told) == 5 and all((wrong[t, p], matrix[t].sum()) == (n, of) for t, p, n, of in told)
        assert [n for *_, n, _ in told] == sorted(wrong.flatten(), reverse=True)[:5]
        recall[name] = 100 * recall_score(labels, predicted, average=None)
    rows = page.rows("Accuracy by class")
    assert sorted(int(row["class"]) for row in rows) == list(range(10))
    changes = [float(row["student, points"].replace("−", "-")) for row in rows]
    for row, change in zip(rows, changes, strict=True):
        k = int(row["class"])
        assert float(row["baseline, %"]) == pytest.approx(recall["baseline"][k], abs=0.051)
        assert change == pytest.approx(recall["student"][k] - recall["baseline"][k], abs=0.051)
    assert np.abs(changes).tolist() == sorted(np.abs(changes), reverse=True)


def test_disagreements_are_counted(page, runs, arrays):
    student, baseline = (arrays(runs / name) for name in ("student", "baseline"))
    a, b = student["test_predicted"], baseline["test_predicted"]
    labels = student["test_labels"]
    counts = [((a != b) & each).sum() for each in (a == labels, b == labels, (a != labels) & (b != labels))]
    assert (
        f"give different answers on {sum(counts)} of 359 images: student alone is right on {counts[0]}, baseline alone "
        f"on {counts[1]}, neither on {counts[2]}." in page.words["Images"]
    )


def test_the_gallery_shows_the_images_with_what_was_said_of_them(page, runs, arrays):
    kept, other = arrays(runs / "student"), arrays(runs / "baseline")
    order = np.argsort(kept["test_level"], kind="stable")
    shown = cards(page)
    numbers = [int(a["alt"].split(",")[0].removeprefix("image ")) for a in shown]
    assert kept["test_level"][np.isin(kept["test_ids"], numbers[:8])].min() >= kept["test_level"][order[-8]]
    assert numbers[8:16] == kept["test_ids"][order[:8]].tolist()
    row = {number: k for k, number in enumerate(kept["test_ids"].tolist())}
    for a, number in zip(shown, numbers, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(a["src"].split(",")[1])))
        found = np.asarray(image.convert("L"), float) * 16 / 255
        assert np.abs(found - load_digits().images[number]).max() < 0.1
        assert a["alt"] == f"image {number}, label {load_digits().target[number]}"
    captions = page.words["Images"].replace("\n", "")
    for number in numbers:
        k = row[number]
        assert (
            f"label {kept['test_labels'][k]}level {kept['test_level'][k]:.2f}, T {kept['test_temperature'][k]:.1f}"
            f"teacher: {kept['test_teacher'][k]}student: {kept['test_predicted'][k]}"
            f"baseline: {other['test_predicted'][k]}" in captions
        )


def test_score_and_level_are_those_of_the_run(runs, copy_of, page_of, tmp_path):
    other = copy_of(runs / "student", "other")
    results = read(other)
    results["method"] |= {"score": "margin", "level": "absolute"}
    (other / "results.json").write_text(json.dumps(results))
    words = page_of(tmp_path / "p.html", "--runs", other, "--images", 0).words["Accuracy by difficulty"]
    margin = "the closeness of the teacher's two likeliest classes, as a share of the largest that there can be."
    assert f"The level of all images is that of other: {margin}" in words
    for run in (other, older := copy_of(runs / "student", "older")):
        (run / "predictions.npz").unlink()
    words = page_of(tmp_path / "q.html", "--runs", other, older, "--images", 0).words["Accuracy by difficulty"]
    rank = "the distance of teacher and probe, by its rank among the training views."
    assert f"The level is each run's own: {margin[:-1]}; or {rank}" in words


def test_cost(page, runs):
    for row in page.rows("Cost"):
        results, card = read(runs / row["run"]), read(runs / row["run"], "run.json")
        assert row["training, s"] == f"{results['seconds']:.1f}" and row["epochs"] == "12" and row["device"] == "cpu"
        assert (
            row["estimated before it, s"] == f"{card['preflight']['estimated_seconds']:.1f}" and row["threads"] == "1"
        )
        with (runs / row["run"] / "metrics.csv").open(newline="") as file:
            *_, last = csv.DictReader(file)
        assert row["images/s, last epoch"] == f"{float(last['images_per_second']):,.0f}"


def test_one_run_alone(runs, page_of, tmp_path):
    page = page_of(tmp_path / "p.html", "--runs", runs / "student", "--images", 2)
    assert "Report of student" in page.words[""] and "compared" not in page.words[""]
    assert "different answers" not in page.words["Images"] and len(cards(page)) == 4
    assert [*page.tables["Accuracy by class"][0]] == ["class", "images", "student, %"]
    lowest = [float(row["student, %"]) for row in page.rows("Accuracy by class")]
    assert lowest == sorted(lowest)
    without = page_of(tmp_path / "q.html", "--runs", runs / "student", "--images", 0)
    assert "Images" not in without.words and cards(without) == []


def test_another_baseline_need_not_be_among_the_runs(runs, teacher, page_of, tmp_path):
    page = page_of(tmp_path / "p.html", "--runs", runs / "student", runs / "student", "--baseline", teacher)
    assert [row["run"] for row in page.rows("Figures")] == ["student", "teacher"]
    assert "compared with teacher" in page.words[""]
    chosen = page_of(tmp_path / "q.html", "--baseline", runs / "student", "--runs", runs / "baseline")
    assert "compared with student" in chosen.words[""]


def test_words_after_the_command_are_runs(runs, good, tmp_path):
    words = (runs / "student", runs / "baseline")
    good("report", *words, "--images", 0, "--out", tmp_path / "p.html")
    good("report", "--out", tmp_path / "q.html", "--images", 0, "--runs", *words)
    assert (tmp_path / "p.html").read_bytes() == (tmp_path / "q.html").read_bytes()


def test_runs_of_one_name_are_told_apart(runs, page_of, tmp_path):
    for k in (0, 1):
        shutil.copytree(runs / "student", tmp_path / f"seed{k}" / "student")
    page = page_of(tmp_path / "p.html", "--runs", tmp_path / "seed0" / "student", tmp_path / "seed1" / "student")
    assert [row["run"] for row in page.rows("Figures")] == ["seed0/student", "seed1/student"]
    assert "give different answers on 0 of 359 images" in page.words["Images"]


def test_json_and_overwrite(runs, good, dlkd, tmp_path):
    words = ("report", "--runs", runs / "student", runs / "baseline", "--images", 0, "--out", tmp_path / "p.html")
    found = json.loads(good(*words, "--json").out)
    assert found["baseline"] == "baseline" and found["scored_on"] == "test" and found["remarks"] == []
    assert found["runs"]["student"] == read(runs / "student")["test"]
    before = (tmp_path / "p.html").read_bytes()
    done = dlkd(*words)
    assert done.status == 2 and "--overwrite" in done.err and (tmp_path / "p.html").read_bytes() == before
    good(*words, "--overwrite")
    assert (tmp_path / "p.html").read_bytes() == before


@pytest.fixture
def of_files(photos, good, tmp_path):
    """A run on pictures of 400 × 200 pixels, another that always says the opposite, and the folder of the pictures."""
    root, one, other = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "one", tmp_path / "other"
    for path in root.rglob("*.png"):
        Image.open(path).resize((400, 200)).save(path)
    good(
        *("train", "--out", one, "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "folder", "--data.root", root, "--data.image_size", 16, "--data.workers", 0),
        *("--optim.batch_size", 8, "--engine.threads", 1, "--engine.tensorboard", "false", "--engine.report", "false"),
    )
    shutil.copytree(one, other)
    with np.load(one / "predictions.npz") as kept:
        np.savez(other / "predictions.npz", **{**kept, "test_predicted": 1 - kept["test_predicted"]})
    return one, other, root


def sources(page):
    """The pictures of images that are not tiny."""
    return [a["src"] for tag, a in page.elements if tag == "img" and "class" not in a]


def test_images_of_files_are_made_small_and_a_damaged_one_stops_nothing(of_files, arrays, page_of, tmp_path):
    one, other, root = of_files
    count = len(arrays(one)["test_ids"])
    page = page_of(tmp_path / "p.html", "--runs", one, other)
    assert len(sources(page)) == count == 8 and f"different answers on {count} of {count}" in page.words["Images"]
    for src in sources(page):
        image = Image.open(io.BytesIO(base64.b64decode(src.removeprefix("data:image/webp;base64,"))))
        assert image.format == "WEBP" and image.size == (96, 48)
    assert "No run that is shown here measured how hard the images are." in page.words["Images"]
    for path in root.rglob("*.png"):  # the first 4 KiB and the size say which image it is; what is behind them is lost
        content = path.read_bytes()
        assert len(content) > 5000
        if path.name[:2] in ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09"):
            path.write_bytes(content[:4200] + bytes(len(content) - 4200))
    broken = page_of(tmp_path / "q.html", "--runs", one, other)
    lost = broken.words["Images"].count("could not be opened")
    assert lost == broken.words["Images"].count("no picture") and len(sources(broken)) == count - lost and lost > 0


@pytest.mark.parametrize("how", ["gone", "others"])
def test_without_the_images_a_line_says_so(of_files, good, page_of, tmp_path, how):
    one, other, root = of_files
    if how == "gone":
        shutil.rmtree(root)
    else:
        for path in root.rglob("*.png"):
            Image.open(path).rotate(180).save(path)
    page = page_of(tmp_path / "p.html", "--runs", one, other)
    (line,) = [each for each in page.words["Images"].splitlines() if "cannot be shown" in each]
    assert str(root) in line and sources(page) == [] and ("are not those" in line) == (how == "others")
    assert "different answers on 8 of 8" in page.words["Images"]
    said = good("report", "--runs", one, other, "--out", tmp_path / "q.html").out
    assert said.startswith("note: the images cannot be shown: ") and said.count("\n") == 2
