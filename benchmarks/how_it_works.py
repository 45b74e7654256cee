"""The pictures of `docs/how-dlkd-works.md`: a small teacher and its pruned copy look at a few digits.

    python benchmarks/how_it_works.py

trains the teacher on the bundled digits and writes the pictures, every figure in them (`docs/how/figures.json`) and the
table of the page.
The digits are held-out ones, which the teacher has not seen; they stand at fixed ranks of difficulty among those, so
nobody has picked them.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import dlkd
from dlkd import DataOptions, DifficultyLevel, DifficultyTemperature, ModelOptions, TrainOptions
from dlkd.data import DataSet, Samples, ViewOptions, load_data, plain_batches, view_family
from dlkd.difficulty import ProbeSpec
from dlkd.models import load_model
from dlkd.teacher import FrozenTeacher, TeacherOutput
from dlkd.train.engine import EngineOptions

SEED, FIXED = 0, 4.0
QUANTILES = ("10 %", "50 %", "90 %")
RANKS = (0.05, 0.35, 0.65, 0.95)
"""Of the digits shown, in difficulty among the held-out ones."""
HEAD = ("image", "its label", "d", "ℓ", "T", "p of the label: teacher", "probe", "target at T", "target at 4")
TEACHER, PROBE, SOFT = "#4053a5", "#e07a3f", "#2a8c6a"


class Asked(NamedTuple):
    """What teacher and probe say, and what follows."""

    data: DataSet
    reference: Tensor
    """``[N]``: distances of the training views that the rank is calibrated on."""
    level: DifficultyLevel
    out: TeacherOutput
    """Of the held-out images, like what follows."""
    levels: Tensor
    temperature: Tensor
    accuracy: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/how"))
    parser.add_argument("--page", type=Path, default=Path("docs/how-dlkd-works.md"), help="whose table is renewed")
    parser.add_argument("--epochs", type=int, default=5, help="of the teacher")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asked = ask(Path(folder) / "teacher", options.epochs)
    found = figures(asked, options.epochs)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (options.out / "figures.json").write_text(text, encoding="utf-8")
    options.page.write_text(renewed(options.page.read_text(encoding="utf-8"), found), encoding="utf-8")
    with matplotlib.rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "how", "font.size": 8, "axes.spines.top": False}
    ):
        for name, picture in (("predictions", predictions), ("levels", levels), ("targets", targets)):
            picture(asked, found).savefig(options.out / f"{name}.svg", metadata={"Date": None, "Creator": None})


def ask(folder: Path, epochs: int) -> Asked:
    """Train the teacher, prune a copy, show both the held-out digits and a calibration view of every training digit."""
    options = DataOptions("digits")
    dlkd.run(
        TrainOptions(
            out=folder,
            seed=SEED,
            data=options,
            epochs=epochs,
            model=ModelOptions("resnet14"),
            device="cpu",
            engine=EngineOptions(threads=1, tensorboard=False, report=False),
        ),
        quiet=True,
    )
    data = load_data(options)
    assert data.held_out is not None
    model = load_model(None, folder, len(data.test.class_names), channels=1)
    teacher = FrozenTeacher(
        model.module, {"global-0.3": ProbeSpec(0.3).make(model.module)}, input_format=model.input_format
    )
    views = view_family(ViewOptions(), data, SEED, 8)
    order = views.order(0)
    level = DifficultyLevel("rank")
    level.calibrate(reference := teacher(views.batch(order, np.zeros_like(order)).images).distance())
    out = teacher(plain(data.held_out))
    levels_of = level(out.distance())
    test = teacher(plain(data.test))
    said = {"teacher": test.logits, "probe": test.probe_logits[0]}
    accuracy = {who: 100 * (z.argmax(1) == data.test.labels).float().mean().item() for who, z in said.items()}
    return Asked(data, reference, level, out, levels_of, DifficultyTemperature()(levels_of), accuracy)


def plain(samples: Samples) -> Tensor:
    """Images without augmentation, in [0, 1]."""
    return torch.cat([images for images, _ in plain_batches(samples)])


def figures(asked: Asked, epochs: int) -> dict[str, Any]:
    """Every figure that the page and the pictures show."""
    held_out = asked.data.held_out
    assert held_out is not None
    distance, order = asked.out.distance(), asked.levels.argsort()
    true = asked.data.clean_of(held_out)
    shown = []
    for rank in RANKS:
        k = int(order[int(rank * len(order))])
        z, probe, t = asked.out.logits[k].double(), asked.out.probe_logits[0][k].double(), float(asked.temperature[k])
        shown.append(
            {
                "id": int(held_out.ids[k]),
                "true": int(true[k]),
                "teacher": z.softmax(0).tolist(),
                "probe": probe.softmax(0).tolist(),
                "distance": float(distance[k]),
                "level": float(asked.levels[k]),
                "temperature": t,
                "target": (z / t).softmax(0).tolist(),
                "target_at_fixed": (z / FIXED).softmax(0).tolist(),
            }
        )
    shares = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    quantiles = dict(zip(QUANTILES, asked.reference.double().quantile(shares).tolist(), strict=True))
    return {
        "command": "python benchmarks/how_it_works.py",
        "settings": {"seed": SEED, "epochs": epochs, "teacher": "resnet14", "probe": "global-0.3"},
        "fixed_temperature": FIXED,
        "test_accuracy": asked.accuracy,
        "reference": {
            "views": len(asked.reference),
            "distance_quantiles": quantiles,
        },
        "digits": shown,
        "versions": {"dlkd": dlkd.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def renewed(page: str, found: dict[str, Any]) -> str:
    """The page with the table of the digits between its marks."""
    rows = [
        [
            *map(str, (d["id"], d["true"])),
            *(f"{d[name]:.{places}f}" for name, places in (("distance", 4), ("level", 2), ("temperature", 1))),
            *(f"{d[name][d['true']]:.2f}" for name in ("teacher", "probe", "target", "target_at_fixed")),
        ]
        for d in found["digits"]
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (HEAD, ["--:"] * len(HEAD), *rows)]
    before, rest = page.split("<!-- how -->\n")
    return f"{before}<!-- how -->\n" + "\n".join(lines) + "\n<!-- end -->" + rest.split("<!-- end -->", 1)[1]


def predictions(asked: Asked, found: dict[str, Any]) -> Figure:
    """Each digit over what teacher and probe say of it."""

    def title(digit: dict[str, Any]) -> str:
        return f"d = {digit['distance']:.3g}\nlevel {digit['level']:.2f}, T = {digit['temperature']:.1f}"

    shown = {"teacher": "teacher", "probe (pruned teacher)": "probe"}
    return over_bars(asked, found, title, shown, (TEACHER, PROBE))


def levels(asked: Asked, found: dict[str, Any]) -> Figure:
    """How distances lie, and how they become levels and temperatures."""
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    d = np.linspace(0, float(asked.reference.max()), 2000)
    left.hist(asked.reference.numpy(), bins=40, color=TEACHER)
    left.set(xlabel="distance d", ylabel="training views")
    middle.plot(d, asked.level(torch.tensor(d, dtype=torch.float32)).numpy(), color=TEACHER)
    middle.set(xlabel="distance d", ylabel="level: its rank")
    level = np.linspace(0, 1, 50)
    right.plot(level, DifficultyTemperature()(torch.tensor(level)).numpy(), color=TEACHER, label="difficulty")
    right.axhline(FIXED, color="0.5", ls="--", lw=1, label=f"KD, T = {FIXED:g}")
    right.set(xlabel="level", ylabel="temperature T")
    for digit in found["digits"]:
        middle.plot(digit["distance"], digit["level"], "o", color=PROBE)
        right.plot(digit["level"], digit["temperature"], "o", color=PROBE)
    right.legend(frameon=False)
    return figure


def targets(asked: Asked, found: dict[str, Any]) -> Figure:
    """What the student is asked to say, beside what KD with one temperature asks for."""

    def title(digit: dict[str, Any]) -> str:
        return f"level {digit['level']:.2f}, T = {digit['temperature']:.1f}"

    shown = {f"KD, T = {FIXED:g}": "target_at_fixed", "DLKD, T by difficulty": "target"}
    return over_bars(asked, found, title, shown, ("0.65", SOFT))


def over_bars(
    asked: Asked,
    found: dict[str, Any],
    title: Callable[[dict[str, Any]], str],
    shown: dict[str, str],
    colours: tuple[str, str],
) -> Figure:
    """Each digit over two distributions; ``shown`` is legend → which of its figures."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots(2, len(RANKS), height_ratios=(1.2, 1))
    for (above, below), digit in zip(axes.T, found["digits"], strict=True):
        image(above, asked, digit)
        above.set_title(title(digit))
        bars(below, {legend: digit[name] for legend, name in shown.items()}, colours)
    finish(figure, axes[1])
    return figure


def image(axis: Axes, asked: Asked, digit: dict[str, Any]) -> None:
    held_out = asked.data.held_out
    assert held_out is not None
    position = int(np.flatnonzero(held_out.ids == digit["id"])[0])
    axis.imshow(plain(held_out)[position, 0].numpy(), cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()


def bars(axis: Axes, shown: dict[str, list[float]], colours: tuple[str, str]) -> None:
    """Two distributions over the ten digits, side by side."""
    for side, (name, values), colour in zip((-0.2, 0.2), shown.items(), colours, strict=True):
        axis.bar(np.arange(10) + side, values, 0.4, color=colour, label=name)
    axis.set(ylim=(0, 1), xticks=range(10))


def finish(figure: Figure, row: Any) -> None:
    """One legend for all, and what the axes are."""
    row[0].set_ylabel("probability")
    for axis in row[1:]:
        axis.set_yticklabels([])
    handles, names = row[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)


if __name__ == "__main__":
    main()
