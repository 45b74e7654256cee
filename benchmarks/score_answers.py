"""What teachers and their pruned copies say about held-out images, each pass asked once and kept."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dlkd.data import CropFlip, DataOptions, DataSet, LabelNoise, Mixing, Samples, ViewFamily, load_data, plain_batches
from dlkd.difficulty import ProbeSpec
from dlkd.errors import UserError
from dlkd.files import write_atomic
from dlkd.models import LoadedModel, load_model
from dlkd.teacher import FrozenTeacher, fold_batch_norms
from dlkd.train.teach import label_digest

ROOT = Path(__file__).parents[1]
Bools = npt.NDArray[np.bool_]

TEACHERS = {
    "cifar100-clean": LabelNoise(),
    "cifar100-sym40": LabelNoise("symmetric", 0.4),
    "cifar100n": LabelNoise("human"),
}
"""Folder of ``results/teachers`` → the labels that it was trained on."""
SECOND = {
    "cifar100-clean": "cifar100-sym40",
    "cifar100-sym40": "cifar100-clean",
    "cifar100n": "cifar100-clean",
}
"""Whose errors are those of a second model."""
BATCH = 125
"""Divides 5,000: with statistics of the batch, every image is in company of the same size."""
RECALIBRATION_IMAGES = 2000
TEACHER = "teacher"
"""The name of the teacher itself among its probes."""


def add_places(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Options that say where images, labels, teachers and kept answers lie, and which images are held out."""
    parser.add_argument("--data", type=Path, required=required, help="folder that holds cifar-100-python/")
    parser.add_argument("--human", type=Path, required=required, help="labels of CIFAR-100N")
    parser.add_argument("--teachers", type=Path, default=ROOT / "results" / "teachers", help="their folder")
    parser.add_argument("--seed", type=int, default=0, help="of the split of the data, and of what is drawn")
    parser.add_argument("--cache", type=Path, help="folder to keep the logits in")
    parser.add_argument("--out", type=Path, required=True)


class Images(NamedTuple):
    """The held-out images of one teacher, with the labels that somebody has of them."""

    data: DataSet
    samples: Samples
    """With the clean labels."""
    given: Tensor
    """``[N]``: as the teacher's own training labels would have been."""
    wrong: Bools
    """``[N]``: where the given label is not the clean one."""


class View(NamedTuple):
    """One way to show all images, by its name."""

    kind: Literal["plain", "crop_flip", "cutmix", "mixup"]
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}" if self.kind == "crop_flip" else self.kind


def read_images(teacher: str, root: Path, human: Path, seed: int) -> Images:
    """The held-out images as this teacher's data options carve them."""
    noise = TEACHERS[teacher]
    options = DataOptions(
        name="cifar100",
        root=root,
        seed=seed,
        held_out=0.1,
        noise=noise.rate,
        noise_kind=noise.kind,
        noise_file=human if noise.kind == "human" else None,
    )
    data = load_data(options)
    held_out = data.part("held_out")
    clean = data.clean_of(held_out)
    wrong = (held_out.labels != clean).numpy()
    return Images(data, held_out.relabelled(clean.numpy(), np.zeros_like(wrong)), held_out.labels, wrong)


def check_unseen(teacher: LoadedModel, data: DataSet) -> None:
    """Refuse a teacher that was trained on other images or labels than those beside the held-out ones.

    Raises:
        UserError: its card names others, or none.
    """
    card = teacher.card.get("trained_on")
    expected = {"images": data.train.digest(), "labels": label_digest(data.train)}
    if not isinstance(card, dict) or {name: card.get(name) for name in expected} != expected:
        raise UserError(
            "expected a teacher trained on the images and labels beside the held-out ones, but its card names others; "
            "give the --seed of its data"
        )


class Answers:
    """Logits ``[N, C]`` of a teacher and its probes on a view, computed on demand.

    Args:
        name: of the teacher; its folder lies in ``folder``.
        cache: where answers of an earlier start are found and new ones are left, if anywhere.
    """

    def __init__(self, name: str, images: Images, folder: Path, cache: Path | None) -> None:
        self.name, self.images, self.cache = name, images, cache
        classes, channels = len(images.samples.class_names), images.samples.pixels.channels
        self.loaded = load_model(None, folder / name, classes, channels=channels)
        check_unseen(self.loaded, images.data)
        self.plain = [x for x, _ in plain_batches(images.samples, batch_size=BATCH)]
        self._kept: dict[tuple[str, str], Tensor] = {}

    def __call__(self, view: View, probe: ProbeSpec | None = None) -> Tensor:
        """Of the teacher itself without ``probe``."""
        key = (view.name, TEACHER if probe is None else probe.name)
        if key not in self._kept:
            self._kept[key] = self._from_cache(key, view, probe)
        return self._kept[key]

    def _from_cache(self, key: tuple[str, str], view: View, probe: ProbeSpec | None) -> Tensor:
        if self.cache is None:
            return self._ask(view, probe)
        file = self.cache / f"{self.name} {key[0]} {key[1]}.npy"
        if not file.is_file():
            self.cache.mkdir(parents=True, exist_ok=True)
            array = self._ask(view, probe).numpy()
            write_atomic(file, _npy(array))
        return torch.from_numpy(np.load(file, allow_pickle=False))

    def _ask(self, view: View, probe: ProbeSpec | None) -> Tensor:
        teacher = FrozenTeacher(self._model(probe), input_format=self.loaded.input_format, channels_last=True)
        return torch.cat([teacher(batch).logits for batch in self.shown(view)])

    def _model(self, probe: ProbeSpec | None) -> nn.Module:
        spec = ProbeSpec(0.0) if probe is None else probe  # nothing pruned: a copy that may be folded
        model = spec.make(self.loaded.module, self._recalibration() if spec.needs_images else None)
        fold_batch_norms(model, self.loaded.input_format(self.plain[0][:8]))
        return model

    def _recalibration(self) -> list[Tensor]:
        """Plain training images, drawn by seed, in the teacher's input format."""
        train = self.images.data.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        chosen = train.take(np.sort(order[:RECALIBRATION_IMAGES].numpy()))
        return [self.loaded.input_format(x) for x, _ in plain_batches(chosen, batch_size=BATCH)]

    def shown(self, view: View) -> Iterator[Tensor]:
        """All images of the view in the order of the samples, in batches."""
        if view.kind == "plain":
            yield from self.plain
            return
        for batch in family(self.images.samples, view).batches(np.arange(len(self.images.samples)), view.number, BATCH):
            yield batch.images


def family(samples: Samples, view: View) -> ViewFamily:
    """As a training shows them: crop and flip, then perhaps mixing with α = 1."""
    mixing = Mixing(view.kind) if view.kind in ("cutmix", "mixup") else Mixing()
    return ViewFamily(samples, CropFlip(4, True), mixing, seed=0)


class Mixed(NamedTuple):
    """What is true of mixed images."""

    label: Tensor
    """``[N]``: the clean label with the larger share."""
    target: Tensor
    """``[N, C]``: both clean labels by their shares."""
    pair: npt.NDArray[np.int64]
    """``[N]``: the number of the pair that shares its two images."""


def mixed(samples: Samples, view: View) -> Mixed:
    """Labels and pairs of a mixed view."""
    views = family(samples, view)
    positions = np.arange(len(samples))
    partners = views.partners(positions, np.full_like(positions, view.number))
    targets = [batch.target for batch in views.batches(positions, view.number, BATCH)]
    _, pair = np.unique(np.minimum(positions, partners), return_inverse=True)
    target = torch.cat(targets)
    return Mixed(target.argmax(dim=1), target, pair)


def errors(logits: Tensor, labels: Tensor) -> Bools:
    """``[N]``: where the largest logit is not that of the label."""
    wrong: Bools = (logits.argmax(dim=1) != labels).numpy()
    return wrong


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
