"""Runs to be put side by side, made once."""

import html.parser
import shutil

import numpy as np
import pytest
import refusals
from sklearn.datasets import load_digits

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</td></table><img src=x onerror=window.hacked=2>",
    """a "quoted" 'name' & &lt;b&gt; {{ 7*7 }}""",
    "$\\frac{$",
    "_a_very_long_name_of_a_class_without_any_space_in_it_that_fits_no_phone",
    *("five", "six", "seven", "eight", "nine"),
)
"""Classes that would like to be more than text."""


@pytest.fixture(scope="session")
def runs(tmp_path_factory, distill, train, good):
    """A folder of runs on digits: ``student`` and, from labels alone, ``baseline``."""
    folder = tmp_path_factory.mktemp("report")
    more = ("--epochs", 12, "--optim.batch_size", 16)
    good(*distill(folder / "student", *more, "--method", "dlkd"))
    good(*train(folder / "baseline", *more))
    return folder


@pytest.fixture(scope="session")
def evil(tmp_path_factory, good):
    """The same with strange names of classes and folders: a teacher and its student."""
    base = tmp_path_factory.mktemp("evil")
    digits = load_digits()
    images, labels = (digits.images * 255 / 16).astype(np.uint8)[:300], digits.target[:300]
    np.savez(base / "d.npz", train_images=images, train_labels=labels, class_names=np.array(HOSTILE))
    teacher, student = base / "\"'><svg onload=alert(1)>", base / "_student $\\frac{$"
    options = (
        *("--data.name", "npz", "--data.root", base / "d.npz", "--optim.batch_size", 16, "--device", "cpu"),
        *("--engine.threads", 1, "--engine.tensorboard", "false", "--engine.report", "false"),
    )
    good("train", "--out", teacher, "--model.name", "resnet8x0.5", "--epochs", 2, *options)
    good(
        *(
            "distill",
            "--out",
            student,
            "--student.name",
            "resnet8x0.5",
            "--teacher.weights",
            teacher,
            "--epochs",
            1,
            "--force",
        ),
        *options,
    )
    return student, teacher


@pytest.fixture(scope="session")
def arrays():
    """The answers that a run keeps."""

    def read(run):
        with np.load(run / "predictions.npz", allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}

    return read


class Reader(html.parser.HTMLParser):
    """A page as a browser would see it: elements, tables by the heading above them, and the text below it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.words = [], {}, {"": ""}
        self._inside, self._heading = "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "h2":
            self._heading += data
        elif self._inside in ("td", "th"):
            self.tables[self._heading][-1][-1] += data.strip()
        self.words[self._heading] = self.words.get(self._heading, "") + data

    def rows(self, heading):
        """The rows of the tables below a heading as dictionaries."""
        head, *rows = self.tables[heading]
        return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture(scope="session")
def page_of(good):
    """What ``dlkd report`` makes of runs."""

    def make(out, *words):
        good("report", "--out", out, *words)
        return Reader(out.read_text(encoding="utf-8"))

    return make


@pytest.fixture
def refused(dlkd, tmp_path):
    """``dlkd report`` of these words ends with one line that has all of ``said``, and writes nothing."""

    def check(words, *said):
        done = dlkd("report", "--out", tmp_path / "refused.html", *words)
        refusals.refused(done, *said)
        assert not list(tmp_path.glob("*refused*"))

    return check


@pytest.fixture
def copy_of(tmp_path):
    """A run folder to be changed."""
    return lambda run, name: shutil.copytree(run, tmp_path / name)
