"""The images themselves: the hardest, the easiest, and those on which two runs differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dlkd.data import Samples, load_data
from dlkd.errors import UserError, first_line
from dlkd.jobs.of_run import images_of_run
from dlkd.report.by_image import disagreement
from dlkd.report.page import Card, Section, Shelf
from dlkd.report.runs import Answers, Part, Run, readable
from dlkd.report.words import SCORE_WORDS

SIDE, SMALL = 96, 48
"""Of a thumbnail in pixels; what is smaller is kept as it is, and its pixels are shown."""


class Opened(NamedTuple):
    """The images that runs were scored on, or why they cannot be shown."""

    samples: Samples | None
    reason: str = ""


def open_images(runs: Sequence[Run], part: Part) -> Opened:
    """By the data options of the first run for which they are still there."""
    reasons: list[str] = []
    for run in (r for r in runs if part in r.answers):
        try:
            return Opened(_images_of(run, part))
        except (UserError, OSError, ValueError) as error:
            reasons.append(readable(first_line(error)))
    return Opened(None, reasons[0] if reasons else "no run keeps its answers image by image")


def _images_of(run: Run, part: Part) -> Samples:
    asked = images_of_run(run.folder)
    samples, answers = load_data(asked).part(part), run.answers[part]
    same = np.array_equal(samples.ids, answers.ids) and np.array_equal(samples.labels.numpy(), answers.labels)
    if not same or samples.digest() != run.images.get(part, samples.digest()):
        raise UserError(f"the images at {asked.root} are not those that {run.folder} was scored on")
    return samples


def gallery(lead: Run, baseline: Run, part: Part, opened: Opened, count: int) -> Section:
    """A section of at most ``count`` images of each kind.

    Args:
        lead: whose difficulty and teacher are shown.
        baseline: another run to differ from, or the same.
        part: which images.
        opened: the images.
        count: above 0.
    """
    first, second = lead.answers[part], baseline.answers[part]
    chosen: list[tuple[str, str, np.ndarray]] = []
    sentences = [] if opened.samples is not None else [f"The images cannot be shown: {opened.reason}."]
    if (hardness := first.hardness) is not None:
        order = np.argsort(hardness, kind="stable")
        words = f"By the difficulty that {lead.name} measured."
        chosen += [("Hardest", words, order[::-1]), ("Easiest", words, order)]
    else:
        sentences.append("No run that is shown here measured how hard the images are.")
    if lead is not baseline:
        parts = disagreement(first.labels, first.predicted, second.predicted, first.confidence)
        counts = [len(each) for each in parts]
        sentences.append(
            f"{lead.name} and {baseline.name} give different answers on {sum(counts)} of {len(first.ids)} images: "
            f"{lead.name} alone is right on {counts[0]}, {baseline.name} alone on {counts[1]}, neither on {counts[2]}."
        )
        titles = (f"Only {lead.name} is right", f"Only {baseline.name} is right", "They differ, and both are wrong")
        words = f"Those of which {lead.name} is surest."
        chosen += [(title, words, each) for title, each in zip(titles, parts, strict=True)]
    shelves = []
    if opened.samples is not None:
        shelves = [
            Shelf(title, [_card(lead, baseline, part, opened.samples, int(k)) for k in which[:count]], words)
            for title, words, which in chosen
            if len(which)
        ]
    return Section("Images", sentences, shelves=shelves)


def _card(lead: Run, baseline: Run, part: Part, samples: Samples, position: int) -> Card:
    answers, names = lead.answers[part], lead.class_names
    label, number = names[answers.labels[position]], int(answers.ids[position])
    lines = [f"label {label}", *_difficulty(lead, answers, position)]
    if answers.teacher is not None:
        lines.append(f"teacher: {names[answers.teacher[position]]}")
    for run in (lead, baseline) if lead is not baseline else (lead,):
        lines.append(f"{run.name}: {names[run.answers[part].predicted[position]]}")
    alt = f"image {number}, label {label}"
    try:
        src, small = thumbnail(samples, position)
    except (UserError, OSError, ValueError):  # its neighbours are shown all the same
        return Card([*lines, "could not be opened"], alt)
    return Card(lines, alt, src, small)


def _difficulty(run: Run, answers: Answers, position: int) -> Iterator[str]:
    if answers.level is not None:
        line = f"level {answers.level[position]:.2f}"
        yield line if answers.temperature is None else f"{line}, T {answers.temperature[position]:.1f}"
    elif answers.distance is not None:
        name = run.measure.score if run.measure.score in SCORE_WORDS else "difficulty"
        yield f"{name.replace('_', ' ')} {answers.distance[position]:.3g}"


def thumbnail(samples: Samples, position: int) -> tuple[str, bool]:
    """A data URL of one image, and whether its pixels are few.

    Raises:
        UserError: it is damaged or gone.
    """
    image = samples.pixels.load(position)
    image.thumbnail((SIDE, SIDE))
    small = max(image.size) <= SMALL
    kind = "png" if small else "webp"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small
