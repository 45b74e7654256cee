"""Every picture is drawn for the smallest runs and the strangest names, and shows what it should."""

import base64
import io
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from dlkd.report import pictures

NAMES = ["cat", "$\\frac{$", "100 $ a $x", "<b>&\"'", "a_very_long_class_name_of_somebodys_own_invention", "_x", ""]


@pytest.fixture(autouse=True)
def strict():
    """A warning of matplotlib is a picture that does not look as meant; and no figure stays open."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    still_open = plt.get_fignums()
    plt.close("all")
    assert not still_open


@pytest.fixture
def figure(monkeypatch):
    """The figure that was drawn, to look at before it is closed."""
    drawn = []
    save = pictures.png

    def keep(figure):
        figure.canvas.draw()
        drawn.append([(axes, [line.get_xydata() for line in axes.lines]) for axes in figure.axes])
        return save(figure)

    monkeypatch.setattr(pictures, "png", keep)
    return drawn


def opened(text):
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def row(epoch, **more):
    base = {"epoch": epoch, "loss": 2.0 / epoch, "ce": 1.0, "kd": 0.5, "accuracy": 10.0 * epoch, "agreement": 50.0}
    return {**base, **more}


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves(figure, epochs):
    history = [row(k + 1, held_out_accuracy=40.0 if k % 2 == 0 else None) for k in range(epochs)]
    opened(pictures.curves(history))
    left, right = figure[0]
    assert len(left[1]) == 3 and len(right[1]) == 3
    np.testing.assert_allclose(left[1][0], [[k + 1, 2.0 / (k + 1)] for k in range(epochs)])
    held = right[1][1]
    assert held[:, 0].tolist() == list(range(1, epochs + 1, 2)) and (held[:, 1] == 40).all()
    # One point without a marker would be an empty picture.
    assert epochs > 2 or all(line.get_marker() == "o" for axes, _ in figure[0] for line in axes.lines)
    assert all(float(t) == int(t) for t in left[0].get_xticks())


def test_curves_without_teacher_and_without_loss(figure):
    opened(pictures.curves([row(1, kd=0.0, agreement=0.0)]))
    assert [len(lines) for _, lines in figure[0]] == [2, 1]
    opened(pictures.curves([row(1, kd=0.0, agreement=0.0, loss=0.0, ce=0.0)]))


def test_curves_together(figure):
    """A line for each run in both halves; dotted where it is of training views."""
    held = [row(k + 1, held_out_accuracy=40.0 + k) for k in range(3)]
    first, odd = held[0], {k: v for k, v in held[1].items() if k != "held_out_accuracy"}
    opened(pictures.curves_together({"a": held, "b": [row(1), row(2)], "c": [first, odd]}))
    (_, above), (below, lines) = figure[0]
    assert above[0].tolist() == [[k + 1, 2.0 / (k + 1)] for k in range(3)]
    assert lines[0].tolist() == [[1, 40], [2, 41], [3, 42]] and lines[1].tolist() == [[1, 10], [2, 20]]
    assert lines[2].tolist() == [[1, 40]]
    assert [line.get_linestyle() for line in below.lines] == ["-", ":", "-"]
    opened(pictures.curves_together({"nothing to lose": [row(1, loss=0.0)]}))


def test_many_lines_are_told_apart_and_have_their_names_as_they_are(monkeypatch):
    names = [*NAMES, *(f"run {k}" for k in range(23))]
    seen = []
    save = pictures.png

    def look(figure):
        figure.canvas.draw()
        (legend,) = figure.legends
        seen.append([text.get_text().strip() for text in legend.get_texts()])
        styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
        assert len(styles) >= len(names)
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width
        return save(figure)

    monkeypatch.setattr(pictures, "png", look)
    bins = [{"confidence": 0.5, "accuracy": 0.5, "decile": 1, "epoch": 1, "loss": 1.0}]
    for draw in (pictures.reliability_diagram, pictures.accuracy_by_level, pictures.curves_together):
        opened(draw(dict.fromkeys(names, bins)))
    cut = [name if len(name) <= 22 else f"{name[:21]}…" for name in names]
    assert seen == [cut] * 3


def test_names_in_other_letters_are_no_warning():
    opened(pictures.reliability_diagram({"数字": [{"confidence": 1.0, "accuracy": 1.0}], "б": []}))


def test_means(figure):
    opened(pictures.means(NAMES, np.linspace(5, 95, len(NAMES)), [0.0, *[2.0] * (len(NAMES) - 1)]))
    (axes, lines), *_ = figure[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == NAMES
    np.testing.assert_allclose(lines[0], np.c_[np.linspace(5, 95, len(NAMES)), np.arange(len(NAMES))])
    assert axes.yaxis_inverted()
    opened(pictures.means(["one"], [50.0], [0.0]))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_reliability_diagram(figure, count):
    bins = [{"confidence": 0.25, "accuracy": 0.5}, {"confidence": 0.75, "accuracy": 1.0}]
    opened(pictures.reliability_diagram({f"run {k}": bins for k in range(count)}))
    (_, lines), *_ = figure[0]
    assert len(lines) == 1 + count and all((line == [[0.25, 0.5], [0.75, 1.0]]).all() for line in lines[1:])


def test_reliability_diagram_of_one_bin_or_none():
    opened(pictures.reliability_diagram({"sure": [{"confidence": 1.0, "accuracy": 1.0}], "empty": []}))


def test_difficulty_shows_the_temperature_at_the_quantiles(figure):
    distance, reference = np.linspace(0.1, 0.9, 300), np.linspace(0, 1, 257) ** 2
    opened(pictures.difficulty(distance, reference, np.linspace(2, 6, 101)))
    (left, _), (_, (line,)) = figure[0]
    # With quantiles u² the rank of d is √d.
    np.testing.assert_allclose(line[:, 1], 2 + 4 * np.sqrt(line[:, 0]), atol=1e-9)
    assert sum(p.get_height() for p in left.patches) == 300
    opened(pictures.difficulty(distance, reference, None))
    np.testing.assert_allclose(figure[1][1][1][0][:, 1], np.sqrt(reference), atol=1e-9)


@pytest.mark.parametrize("temperature", [None, np.full(101, 4.0)])
def test_axes_name_the_score(figure, temperature):
    score = np.linspace(0.1, 0.9, 30)
    for of in ((), ("entropy of the teacher's answer",)):
        opened(pictures.difficulty(score, score, temperature, *of))
        named = {axes.get_xlabel() for axes, _ in figure[-1]}
        assert named == ({of[0]} if of else {"distance of teacher and probe"})


def test_skewed_distances_get_a_logarithmic_axis_and_lose_no_image(figure):
    distance = np.r_[0.0, 1e-30, np.geomspace(1e-6, 1.4, 500)]
    opened(pictures.difficulty(distance, np.quantile(distance[:-1], np.linspace(0, 1, 257)), None))
    (left, _), (right, _) = figure[0]
    assert left.get_xscale() == right.get_xscale() == "log"
    assert sum(p.get_height() for p in left.patches) == distance.size


@pytest.mark.parametrize("distance", [[0.0], [0.3], [0.3] * 20, [0.0] * 30 + [1.2]])
def test_difficulty_of_few_or_equal_distances(distance):
    reference = np.quantile(distance, np.linspace(0, 1, 257))
    for temperature in (None, np.full(101, 4.0)):
        opened(pictures.difficulty(distance, reference, temperature))


def test_memorisation_is_a_whole_bar_for_each_part(monkeypatch):
    drawn = []
    save = pictures.png
    monkeypatch.setattr(
        pictures, "png", lambda f: drawn.extend((p.get_x(), p.get_width()) for p in f.axes[0].patches) or save(f)
    )
    pictures.memorisation(
        {
            "training, 7 $": {"wrong_label": 25.0, "true_label": 60.0, "neither": 15.0},
            "held out, 1": {"wrong_label": 0.0, "true_label": 100.0, "neither": 0.0},
        }
    )
    assert drawn == [(0, 25), (0, 0), (25, 60), (0, 100), (85, 15), (100, 0)]


@pytest.mark.parametrize("rows", [[], [1], [10], list(range(1, 11))])
def test_accuracy_by_level(figure, rows):
    values = [{"decile": k, "accuracy": 10.0 * k} for k in rows]
    opened(pictures.accuracy_by_level({"student": values, "teacher": values}))
    (axes, lines), *_ = figure[0]
    assert [line[:, 0].tolist() for line in lines] == [rows, rows]
    assert axes.get_xlim() == (0.5, 10.5) and axes.get_xticks().tolist() == list(range(1, 11))


@pytest.mark.parametrize(("epochs", "shown"), [([], []), ([1], [1]), ([3], [3]), ([1, 2, 3], [1, 3])])
def test_by_level_over_epochs(figure, epochs, shown):
    rows = [
        {"epoch": e, "decile": d, "temperature": d + e, "gradient_weight": 1.0, "agreement": 9.0}
        for e in epochs
        for d in (1, 10)
    ]
    opened(pictures.by_level_over_epochs(rows))
    assert [[line.get_label() for line in axes.lines] for axes, _ in figure[0]] == [[f"epoch {e}" for e in shown]] * 3
    for line, e in zip(figure[0][0][1], shown, strict=True):
        assert line.tolist() == [[1, 1 + e], [10, 10 + e]]


@pytest.mark.parametrize(("count", "shape"), [(1, (8, 8)), (16, (8, 6, 3)), (9, (5, 9, 3))])
def test_gallery(count, shape):
    images = [np.random.default_rng(k).random(shape) for k in range(count)]
    captions = [f"given {NAMES[k % len(NAMES)]}\nteacher {NAMES[-k % len(NAMES)]}\nd 0.123" for k in range(count)]
    opened(pictures.gallery(images, captions))


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        (f"given {NAMES[-3]}\nteacher $1 and $2", "given a_very_long_cla…\nteacher $1 and $2"),
        ("given 0, teacher 0\nprobe 1, d 1.2e-05", "given 0, teacher 0\nprobe 1, d 1.2e-05"),
    ],
)
def test_captions_are_words_and_do_not_run_into_each_other(monkeypatch, caption, shown):
    boxes = []
    save = pictures.png

    def measure(figure):
        figure.canvas.draw()
        assert {axes.get_title() for axes in figure.axes} == {shown}
        boxes.extend(axes.title.get_window_extent() for axes in figure.axes)
        return save(figure)

    monkeypatch.setattr(pictures, "png", measure)
    opened(pictures.gallery([np.zeros((8, 8))] * 8, [caption] * 8))
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    assert boxes[0].x0 >= 0


def test_grey_images_are_dark_on_white():
    page = opened(pictures.gallery([np.ones((8, 8))], [""]))
    assert page.min() < 30 and (page == 255).mean() > 0.5
    colour = opened(pictures.gallery([np.broadcast_to([1.0, 0, 0], (8, 8, 3))], [""]))
    assert (colour == [255, 0, 0]).all(axis=2).any()
