"""``dlkd difficulty``: how hard is each image of a data set for its teacher?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dlkd.data import (
    DataOptions,
    FilePixels,
    Samples,
    ViewFamily,
    ViewOptions,
    load_data,
    plain_batches,
    view_family,
)
from dlkd.difficulty import DifficultyLevel, DifficultyScore, ScoreName
from dlkd.errors import UserError
from dlkd.files import check_new_file, write_atomic
from dlkd.report import Page, Picture, pictures
from dlkd.report.table import check_table, table_bytes
from dlkd.report.words import SCORE_WORDS
from dlkd.teacher import TeacherOutput
from dlkd.train.device import pick_device
from dlkd.train.engine import EngineOptions
from dlkd.train.teach import Teaching, check_distances, make_teaching
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions
from dlkd.train.teachers import image_side, load_teacher

BATCH = 256
SCORES: tuple[ScoreName, ...] = get_args(ScoreName)


@dataclass(frozen=True)
class DifficultyOptions:
    """Score every image of a data set: by the distance of a teacher and its pruned copy, and by the cheaper scores.

    Attributes:
        out: table to write, .csv or .parquet; a page with a histogram is written beside it.
        split: which images.
        augmented: average over so many augmented views of each training image; 0 scores the plain image.
        seed: of the augmented views.
        score: the one that the level ranks and the page shows; the table has all of them.
        distance_temperature: softmax temperature of the scores.
        device: auto, cpu, cuda, cuda:1, mps.
        overwrite: replace an earlier table.
        data: images and labels.
        views: augmentation, where views are averaged.
        teacher: whose difficulty.
        probe: the pruned copy.
    """

    out: Path = Path("difficulty.csv")
    split: Literal["train", "held_out", "test"] = "train"
    augmented: int = 0
    seed: int = 0
    score: ScoreName = "distance"
    distance_temperature: float = 1.0
    device: str = "auto"
    overwrite: bool = False
    data: DataOptions = field(default_factory=lambda: DataOptions(held_out=0.0))
    views: ViewOptions = field(default_factory=ViewOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.out.suffix not in (".csv", ".parquet"):
            raise UserError(f"expected --out to end with .csv or .parquet, but got {self.out}")
        for path in (self.out, self.out.with_suffix(".html")):
            check_new_file(path, overwrite=self.overwrite)
        if self.augmented < 0 or not 0 <= self.seed < 2**63:
            raise UserError("expected --augmented and --seed to be at least 0")
        if self.augmented and self.split != "train":
            raise UserError("expected --split train with --augmented: other images have no augmented views")
        if not 0 < self.distance_temperature < float("inf"):
            raise UserError(f"expected --distance_temperature to be positive, but got {self.distance_temperature}")
        self.probe.check()
        check_table(self.out.suffix[1:])


def difficulty(options: DifficultyOptions, *, page: bool = True) -> dict[str, np.ndarray]:
    """Write the table and, unless told not to, the page; returns the columns.

    Raises:
        UserError: whatever the user can mend, in one line.
    """
    options.check()
    device = pick_device(options.device)
    data = load_data(options.data)
    samples = data.part(options.split)
    if samples.unlabelled and DifficultyScore(options.score).needs == "label":
        raise UserError(f"expected another --score than {options.score}: {samples.unlabelled} images have no label")
    loaded = load_teacher(options.teacher, data, samples.pixels.channels)
    size = image_side(options.data, *loaded.members) or 224
    teaching = make_teaching(
        options.teacher, options.probe, EngineOptions(), data, loaded, size=size, with_probes=True, device=device
    )
    for remark in (*data.remarks, *teaching.remarks) if page else ():
        print(f"note: {remark}")
    if options.augmented:
        family = view_family(options.views, data, options.seed, size)
        asked = [_ask(teaching, _views(family, v), samples, device, options) for v in range(options.augmented)]
    else:
        asked = [_ask(teaching, plain_batches(samples, size=size), samples, device, options)]
    columns = _columns(samples, asked, options.score)
    write_atomic(options.out, table_bytes(columns, options.out.suffix[1:]))
    if page:
        write_atomic(options.out.with_suffix(".html"), _page(options, columns, teaching, samples))
        print(f"{len(samples)} images scored: {options.out}, {options.out.with_suffix('.html')}")
    return columns


def _views(family: ViewFamily, view: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of one view number with their labels, in the order of the samples."""
    return ((batch.images, batch.target) for batch in family.batches(np.arange(len(family.samples)), view, BATCH))


def _ask(
    teaching: Teaching,
    batches: Iterable[tuple[Tensor, Tensor]],
    samples: Samples,
    device: torch.device,
    options: DifficultyOptions,
) -> dict[str, Tensor]:
    """Teacher's and probe's answers and every score, ``[N]`` each."""
    scores = [DifficultyScore(name, options.distance_temperature) for name in SCORES]
    rows: list[tuple[Tensor, ...]] = []
    for images, target in batches:
        out = teaching.teacher(images.to(device))
        confidence, label = torch.softmax(out.logits, dim=1).max(dim=1)
        measured = [_measure(out, score, target.to(device)) for score in scores]
        rows.append((label, out.probe_logits[0].argmax(dim=1), confidence, *measured))
    names = ("teacher_label", "probe_label", "teacher_confidence", *SCORES)
    found = {name: torch.cat([row[k] for row in rows]).cpu() for k, name in enumerate(names)}
    check_distances(found["distance"], samples.ids)
    return found


def _measure(out: TeacherOutput, score: DifficultyScore, target: Tensor) -> Tensor:
    """Difficulty ``[B]``; NaN for an image without a label, by a score that needs one."""
    if score.needs != "label":
        return out.difficulty(score)
    if target.is_floating_point():
        return out.difficulty(score, target).where(target.sum(dim=1) > 0.999, torch.nan)
    return out.difficulty(score, target.clamp(min=0)).where(target >= 0, torch.nan)


def _columns(samples: Samples, asked: list[dict[str, Tensor]], score: ScoreName) -> dict[str, np.ndarray]:
    views = {name: torch.stack([a[name] for a in asked]) for name in SCORES}
    level = DifficultyLevel()
    level.calibrate(views[score].flatten())
    names = np.array([*samples.class_names, ""])  # the last, −1, is none
    columns: dict[str, np.ndarray] = {"id": samples.ids}
    if isinstance(samples.pixels, FilePixels):
        columns["path"] = np.array([samples.pixels.name(k) for k in range(len(samples))])
    first = asked[0]
    columns |= {
        "given_label": names[samples.labels.numpy()],
        "teacher_label": names[first["teacher_label"].numpy()],
        "probe_label": names[first["probe_label"].numpy()],
        "teacher_confidence": first["teacher_confidence"].numpy(),
        **{str(name): values.mean(dim=0).numpy() for name, values in views.items()},
        "level": level.over_views(views[score]).numpy(),
    }
    return columns


def _page(options: DifficultyOptions, columns: dict[str, np.ndarray], teaching: Teaching, samples: Samples) -> str:
    distance, short = columns[options.score], options.score.replace("_", " ")
    quantiles = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    order = np.argsort(distance, kind="stable")
    shown = [*order[:8], *order[-8:]] if len(order) >= 16 else list(order)
    images = [_image(samples, int(i)) for i in shown]
    captions = [
        f"given {columns['given_label'][i]}\nteacher {columns['teacher_label'][i]}\n{short} {distance[i]:.3f}"
        for i in shown
    ]
    reference = np.quantile(distance, np.linspace(0, 1, 257))
    return Page(
        title="Difficulty",
        lead=f"{len(distance)} {options.split} images by {short}; "
        f"pruned copy of the teacher: {', '.join(s.name for s in teaching.specs)}.",
        columns=[f"{100 * q:.0f} % of the images are below" for q in quantiles],
        rows=[[f"{v:.4f}" for v in np.quantile(distance, quantiles)]],
        sentences=[
            "On images that the teacher was trained on, it is surer than it should be; such a score is no "
            "evidence about wrong labels."
        ]
        if teaching.seen != "none"
        else [],
        pictures=[
            Picture("Histogram", pictures.difficulty(distance, reference, None, SCORE_WORDS[options.score])),
            Picture("Easiest and hardest images", pictures.gallery(images, captions)),
        ],
    ).render()


def _image(samples: Samples, position: int) -> np.ndarray:
    pixels = samples.pixels
    if isinstance(pixels, FilePixels):
        image = pixels.load(position)
        image.thumbnail((128, 128))
        return np.asarray(image) / 255
    array = pixels.array[position].permute(1, 2, 0).numpy() / 255
    return array[..., 0] if array.shape[2] == 1 else array
