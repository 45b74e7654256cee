"""The report of a run: what it says and shows for runs with and without teacher, level and held-out images."""

import base64
import copy
import html
import re

import pytest

from dlkd.report import pictures, run_page

FIGURES = {"accuracy": 81.234, "top5_accuracy": 99.9, "nll": 0.5, "brier": 0.25, "ece": 3.21}
BASE = {
    "epochs": 2,
    "seed": 7,
    "weights": "last epoch",
    "test": FIGURES,
    "reliability": [{"confidence": 0.9, "accuracy": 0.8, "size": 10}],
    "training": {"samples": 100},
    "remarks": [],
}
TAUGHT = {
    "teacher": {
        "test": {**FIGURES, "accuracy": 93.0},
        "seen": "kept",
        "labels": "given",
        "probes": ["global-0.3"],
    },
    "agreement": 88.84,
    "by_level": [
        {"decile": 1, "samples": 5, "accuracy": 100.0, "teacher_accuracy": 100.0, "agreement": 90.0},
        {"decile": 10, "samples": 5, "accuracy": 40.0, "teacher_accuracy": 60.0, "agreement": 50.0},
    ],
}
# Two pictures instead of five, where only words are looked at.
PLAIN = {k: v for k, v in TAUGHT.items() if k != "by_level"}
FEW = {"levels": [], "difficulty": None}
HISTORY = [
    {"epoch": k, "loss": 1.0, "ce": 1.0, "kd": 0.5, "accuracy": 50.0, "agreement": 60.0, "held_out_accuracy": None}
    for k in (1, 2)
]
LEVELS = [
    {"epoch": e, "decile": d, "temperature": 2.0, "gradient_weight": 1.0, "agreement": 50.0}
    for e in (1, 2)
    for d in (1, 10)
]
DIFFICULTY = {"distance": [0.1, 0.2, 0.3], "reference": [0.0, 0.2, 0.5], "temperature": [2.0, 4.0, 6.0]}


def page(more=(), history=HISTORY, levels=LEVELS, difficulty=DIFFICULTY, title="dlkd → resnet8", **changes):
    results = copy.deepcopy({**BASE, **dict(more), **changes})
    return run_page(title, results, history, levels, difficulty)


def headings(text):
    return re.findall("<h2>(.*?)</h2>", text)


def sentences(text):
    return [html.unescape(line) for line in re.findall("<li>(.*?)</li>", text)]


def test_a_taught_run_has_every_picture():
    text = page(TAUGHT)
    assert headings(text) == [
        "Training",
        "By difficulty, while training",
        "Accuracy by difficulty",
        "Calibration",
        "Difficulty",
    ]
    assert text.count("data:image/png;base64,") == 5
    for image in re.findall(r"base64,([^\"]+)\"", text):
        assert base64.b64decode(image).startswith(b"\x89PNG")
    assert "2 epochs, seed 7, last epoch" in text
    assert sentences(text) == [
        "The teacher has seen the training images.",
        "Student and teacher agree on 88.8 % of the test images.",
    ]
    cells = re.findall("<td>(.*?)(?=<td>|</tr>|</td>)", text)
    assert cells[:3] == ["accuracy, %", "81.23", "93.00"] and "calibration error, %" in cells


def test_score_and_level_are_those_of_the_run(monkeypatch):
    drawn = []
    draw = pictures.difficulty
    monkeypatch.setattr(pictures, "difficulty", lambda *a, of: drawn.append(of) or draw(*a, of=of))
    text = page(TAUGHT)
    assert "difficulty level: the distance of teacher and probe, by its rank among the training views." in text
    text = html.unescape(page(TAUGHT, method={"name": "dlkd", "score": "entropy", "level": "absolute"}))
    assert "difficulty level: the entropy of the teacher's answer, as a share of the largest that there can be." in text
    assert "what each value means, as a share of the largest that there can be." in text
    assert "rank" not in (said := text.split("<details>")[0]) and "probe" not in said
    assert drawn == ["distance of teacher and probe", "entropy of the teacher's answer"]


def test_what_was_memorised_is_told_and_shown():
    of = {"images": 50, "wrong_label": 12.0, "true_label": 70.0, "neither": 18.0}
    text = page(levels=[], difficulty=None, memorisation={"train": of, "held_out": {**of, "images": 5}})
    assert headings(text) == ["Training", "Calibration", "Memorised wrong labels"]
    assert sentences(text) == [
        "Of 50 mislabelled training images the student gives 12.0 % their wrong label and 70.0 % the true one."
    ]
    only = page(levels=[], difficulty=None, memorisation={"held_out": of})
    assert headings(only)[-1] == "Memorised wrong labels" and sentences(only) == []


def test_a_run_alone_of_one_epoch():
    alone = [{**HISTORY[0], "kd": 0.0, "agreement": 0.0}]
    text = page(history=alone, levels=[], difficulty=None, epochs=1)
    assert headings(text) == ["Training", "Calibration"] and sentences(text) == []
    assert "1 epoch, seed 7" in text and "teacher, test" not in text


def test_columns_only_where_there_are_figures():
    few = {"accuracy": 75.0, "nll": 0.5, "brier": 0.25, "ece": 3.0}
    text = page(PLAIN, test=few, held_out={"accuracy": 70.0}, **FEW)
    head = re.findall('<th scope="col">(.*?)(?=<th|</tr>)', text)
    assert head == ["", "student, test", "student, held out (labels as given)", "teacher, test"]
    assert "top-5" not in text.split("<ul>")[0]


@pytest.mark.parametrize(
    ("seen", "held_out", "words"),
    [
        ("train", True, "has seen all training images, held-out ones included."),
        ("train", False, "has seen all training images."),
        ("kept", True, "has seen the training images, but not the held-out ones."),
        ("kept", False, "has seen the training images."),
        ("none", True, "has seen none of the training images."),
        ("unknown", False, "may have seen the training images: nobody said."),
    ],
)
def test_what_the_teacher_has_seen(seen, held_out, words):
    taught = copy.deepcopy(PLAIN)
    taught["teacher"]["seen"] = seen
    text = page(taught, **({"held_out": FIGURES} if held_out else {}), **FEW)
    assert sentences(text)[0] == f"The teacher {words}"


@pytest.mark.parametrize(
    ("labels", "noise", "words"),
    [
        ("clean", {"kind": "symmetric"}, "The teacher was trained on the true labels: it is an oracle, and proves"),
        ("given", {"kind": "human"}, "The teacher was trained on the same noisy labels."),
        ("unknown", {"kind": "pair"}, "nobody said: it would be an oracle."),
        ("clean", None, ""),
    ],
)
def test_an_oracle_is_called_one(labels, noise, words):
    taught = copy.deepcopy(PLAIN)
    taught["teacher"]["labels"] = labels
    said = sentences(page(taught, remarks=["nothing of note"], noise=noise, **FEW))
    assert said[-1] == "nothing of note" and len(said) == (4 if noise else 3)
    assert words in said[2] and any("oracle" in line for line in said) == (noise is not None and labels != "given")


def test_nothing_from_outside_is_markup():
    evil = "<script>alert(1)</script>\"'$"
    text = page(PLAIN, title=f"dlkd → {evil}", remarks=[evil], student=evil, **FEW)
    assert "<script" not in text and "http" not in text
    assert text.count(html.escape(evil, quote=False).replace('"', "&#34;").replace("'", "&#39;")) >= 3
