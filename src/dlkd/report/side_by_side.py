"""The page of runs side by side, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dlkd.evaluate.figures import NAMES
from dlkd.report import pictures
from dlkd.report.by_image import (
    accuracy_by_class,
    accuracy_by_tenth,
    reliability_bins,
    worst_pairs,
)
from dlkd.report.gallery import Opened, gallery
from dlkd.report.over_seeds import over_seeds
from dlkd.report.page import Section, Sections, Table, chart
from dlkd.report.runs import Part, Run, readable
from dlkd.report.same import WORDS, remarks

PAIRS, CLASSES = 5, 20
"""Pairs of each run, and classes before the rest is folded away."""
SHOWN = ("balanced_accuracy", "top5_accuracy", "nll", "ece", "aurc")
NONE = "–"


def side_by_side(runs: Sequence[Run], baseline: Run, part: Part, opened: Opened, images: int) -> str:
    """HTML of the runs.

    Args:
        runs: scored on the same images.
        baseline: one of them.
        part: those images.
        opened: the images themselves, if they are still there.
        images: so many of each kind are shown.
    """
    known = [run for run in runs if part in run.answers]
    sections = [_figures(runs, baseline, part), *over_seeds(runs, baseline, part), *_curves(runs)]
    sections += [*_pairs(known, part), *_classes(known, baseline, part)]
    if images and known:
        lead = lead_of(known, baseline, part)
        sections.append(gallery(lead, baseline if baseline in known else lead, part, opened, images))
    sections += [*_calibration(runs, part), *_by_difficulty(runs, part), _cost(runs)]
    beside = "" if len(runs) == 1 else f", compared with {baseline.name}"
    data = readable(str(runs[0].data.get("data")))
    return Sections(
        title="Runs side by side" if len(runs) > 1 else f"Report of {runs[0].name}",
        lead=f"{len(runs)} run{'s' * (len(runs) > 1)} on {data}{beside}. Figures are of "
        f"{_size(runs, part)}{WORDS[part]} images.",
        sections=sections,
        sentences=list(remarks(runs, baseline, part)),
    ).render()


def lead_of(known: Sequence[Run], baseline: Run, part: Part) -> Run:
    """The run whose difficulty and teacher are shown beside the baseline's answers."""
    others = [run for run in known if run is not baseline] or list(known)
    return next((run for run in others if run.answers[part].hardness is not None), others[0])


def _size(runs: Sequence[Run], part: Part) -> str:
    size = next((len(run.answers[part].ids) for run in runs if part in run.answers), runs[0].data.get(part))
    return f"{size} " if isinstance(size, int) else ""


def _figures(runs: Sequence[Run], baseline: Run, part: Part) -> Section:
    shown = [name for name in SHOWN if any(name in run.figures_of(part) for run in runs)]
    taught = any(part in run.teacher for run in runs)
    several = len(runs) > 1
    columns = ["run", "method", "student", "seed", NAMES["accuracy"]]
    columns += [f"against {baseline.name}, points"] if several else []
    columns += [NAMES[name] for name in shown]
    columns += ["teacher: accuracy, %", "teacher: calibration error, %"] if taught else []
    columns += ["parameters", "file, MB"]
    rows, base = [], baseline.figures_of(part)["accuracy"]
    for run in runs:
        figures, teacher = run.figures_of(part), run.teacher.get(part, {})
        row = [run.name, run.method, run.student, str(run.seed), _two(figures, "accuracy")]
        row += [NONE if run is baseline else _signed(figures["accuracy"] - base, 2)] if several else []
        row += [_two(figures, name) for name in shown]
        row += [_two(teacher, "accuracy"), _two(teacher, "ece")] if taught else []
        rows.append([*row, *_weight(run)])
    sentences = []
    if any(f"{part}_clean" in run.figures for run in runs):
        line = f"Figures of students on {WORDS[part]} images are by the true labels."
        sentences.append(f"{line} Those of teachers are by the labels as given." if taught else line)
    if (size := _size(runs, part)) and several:
        sentences.append(f"One image is worth {100 / int(size):.2f} points of accuracy.")
    return Section("Figures", sentences, Table(columns, rows))


def _two(figures: Mapping[str, float], name: str) -> str:
    return f"{figures[name]:.2f}" if name in figures else NONE


def _signed(change: float, digits: int) -> str:
    """With its sign, but for what is rounded to nothing."""
    text = f"{change:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def _weight(run: Run) -> list[str]:
    numbers = run.numbers
    return [
        f"{numbers['parameters']:,.0f}" if "parameters" in numbers else NONE,
        f"{numbers['file_bytes'] / 1e6:.2f}" if "file_bytes" in numbers else NONE,
    ]


def _curves(runs: Sequence[Run]) -> Iterator[Section]:
    known = {run.name: run.history for run in runs if run.history}
    if not known:
        return
    words = "Above, the loss, whose scale is each method's own. Below, accuracy on held-out images, labels as given"
    if any("held_out_accuracy" not in row for rows in known.values() for row in rows):
        words += "; dotted, of runs without such, on the training views"
    alt = f"Training loss and accuracy over the epochs of {', '.join(known)}"
    yield Section("Learning curves", [f"{words}."], picture=chart(pictures.curves_together(known), alt=alt))


def _pairs(known: Sequence[Run], part: Part) -> Iterator[Section]:
    rows = []
    for run in known:
        answers, names = run.answers[part], run.class_names
        for pair in worst_pairs(answers.labels, answers.predicted, PAIRS):
            how = [f"{pair.times} of {pair.out_of}", f"{100 * pair.times / pair.out_of:.1f}"]
            rows.append([run.name, names[pair.true], names[pair.predicted], *how])
    if rows:
        words = f"The {PAIRS} most frequent mistakes of each run: images of one class that were taken for another."
        yield Section(
            "Worst class pairs", [words], Table(["run", "class", "taken for", "images", "of the class, %"], rows)
        )
    elif known:
        yield Section("Worst class pairs", ["No run made a mistake."])


def _classes(known: Sequence[Run], baseline: Run, part: Part) -> Iterator[Section]:
    """Accuracy of each class, and how the other runs differ from the baseline."""
    if not known:
        return
    names, labels = known[0].class_names, known[0].answers[part].labels
    sizes = np.bincount(labels, minlength=len(names))
    columns = {run.name: accuracy_by_class(labels, run.answers[part].right, len(names)) for run in known}
    head = [f"{name}, %" for name in columns]
    if len(known) > 1 and baseline in known:
        base = columns.pop(baseline.name)
        columns = {name: values - base for name, values in columns.items()}
        order = np.argsort(-np.abs(np.stack(list(columns.values()))).max(axis=0), kind="stable")
        head = [f"{baseline.name}, %", *(f"{name}, points" for name in columns)]
        words = f"Accuracy of {baseline.name}, and how many points others are above or below; largest change first."
    else:
        base, words = None, "Lowest accuracy first."
        order = np.argsort(np.stack(list(columns.values())).min(axis=0), kind="stable")
    rows = [
        [
            names[c],
            str(sizes[c]),
            *([] if base is None else [f"{base[c]:.1f}"]),
            *(f"{v[c]:.1f}" if base is None else _signed(v[c], 1) for v in columns.values()),
        ]
        for c in order
        if sizes[c]
    ]
    head = ["class", "images", *head]
    rest = Table(head, rows[CLASSES:], f"{len(rows) - CLASSES} more classes") if len(rows) > CLASSES else None
    yield Section("Accuracy by class", [words], Table(head, rows[:CLASSES]), more=rest)


def _calibration(runs: Sequence[Run], part: Part) -> Iterator[Section]:
    bins: dict[str, Sequence[Mapping[str, float]]] = {}
    for run in runs:
        if part in run.answers:
            bins[run.name] = reliability_bins(run.answers[part].right, run.answers[part].confidence)
        elif run.scored_on == part and run.reliability:
            bins[run.name] = run.reliability
    for run in runs:
        answers = run.answers.get(part)
        if answers is not None and answers.teacher is not None and answers.teacher_confidence is not None:
            teacher = answers.teacher == answers.labels
            bins[f"teacher of {run.name}"] = reliability_bins(teacher, answers.teacher_confidence)
            break
    if bins:
        words = "Above the diagonal a model is right more often than it is sure, below it less often."
        alt = f"Accuracy against confidence of {', '.join(bins)}"
        yield Section("Calibration", [words], picture=chart(pictures.reliability_diagram(bins), alt=alt))


def _by_difficulty(runs: Sequence[Run], part: Part) -> Iterator[Section]:
    """By the level of one run for all where there is one; else by each run's own."""
    tenths: dict[str, Sequence[Mapping[str, float]]] = {}
    levels = {run.name: run.answers[part] for run in runs if part in run.answers}
    measured = next(((name, a) for name, a in levels.items() if a.level is not None), None)
    if measured is not None and (level := measured[1].level) is not None:
        name, answers = measured
        tenths = {run.name: accuracy_by_tenth(run.answers[part].right, level) for run in runs if run.name in levels}
        if answers.teacher is not None:
            tenths[f"teacher of {name}"] = accuracy_by_tenth(answers.teacher == answers.labels, level)
        measure = next(run.measure for run in runs if run.name == name)
        words = f"The level of all images is that of {name}: {measure.level_of_image}."
    else:
        tenths = {run.name: run.by_level for run in runs if run.scored_on == part and run.by_level}
        means = dict.fromkeys(run.measure.level_of_image for run in runs if run.name in tenths)
        words = f"The level is each run's own: {'; or '.join(means)}."
    if tenths:
        alt = f"Accuracy in tenths of the difficulty level of {', '.join(tenths)}"
        words += " Tenths without images are left out."
        yield Section("Accuracy by difficulty", [words], picture=chart(pictures.accuracy_by_level(tenths), alt=alt))


def _cost(runs: Sequence[Run]) -> Section:
    rows = []
    for run in runs:
        numbers, speed = run.numbers, run.history[-1].get("images_per_second") if run.history else None
        rows.append(
            [
                run.name,
                f"{numbers['seconds']:.1f}" if "seconds" in numbers else NONE,
                f"{numbers['estimated_seconds']:.1f}" if "estimated_seconds" in numbers else NONE,
                str(run.epochs),
                NONE if speed is None else f"{speed:,.0f}",
                *_weight(run),
                run.device,
                f"{numbers['threads']:.0f}" if "threads" in numbers else NONE,
            ]
        )
    columns = ["run", "training, s", "estimated before it, s", "epochs", "images/s, last epoch", "parameters"]
    columns += ["file, MB", "device", "threads"]
    words = "Seconds of training alone; what the teacher cost, and what a store had ready, is not in them."
    return Section("Cost", [words], Table(columns, rows))
