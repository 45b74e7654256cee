"""From options to a frozen teacher with its probes, and what is known about both."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlkd.data import DataSet, Samples, plain_batches
from dlkd.data.samples import Indices
from dlkd.difficulty import DifficultyScore, ProbeSpec, auto_sparsity
from dlkd.difficulty.probe import has_attention
from dlkd.errors import UserError, first_line
from dlkd.features.tap import find_layer
from dlkd.models import LoadedModel
from dlkd.store import Lesson
from dlkd.teacher import FrozenTeacher, fold_batch_norms
from dlkd.train.engine import EngineOptions
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions
from dlkd.train.teachers import LoadedTeacher

DEFAULT_SPARSITY = 0.3
RECALIBRATION_IMAGES = 2048
HALF = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Teaching(NamedTuple):
    """A teacher ready to teach."""

    teacher: FrozenTeacher
    specs: tuple[ProbeSpec, ...]
    seen: str
    """Which training images it was trained on: ``train``, ``kept``, ``none`` or ``unknown``; of several teachers, what
    is true of the one that has seen most."""
    labels: str
    """Which labels it was trained on: ``clean``, ``given`` or ``unknown``; clean where one of several had those."""
    identity: dict[str, object]
    """What its outputs depend on, as JSON values."""
    remarks: tuple[str, ...]

    def difficulty(
        self, lesson: Lesson, score: DifficultyScore, target: Tensor, ids: Indices, *, weighted: bool
    ) -> Tensor:
        """The difficulty ``[B]`` of the views of a lesson.

        Args:
            lesson: what the teacher says about them.
            score: what difficulty is.
            target: their labels, for a score that looks at them.
            ids: the samples' numbers, for messages.
            weighted: do some labels count less, so that rows of soft ones do not sum to 1?

        Raises:
            UserError: teacher or probe gave logits that are not finite.
        """
        if weighted and target.is_floating_point():
            target = target / target.sum(dim=1, keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)
        found = lesson.difficulty(score, [spec.name for spec in self.specs], target)
        check_distances(found, ids)
        return found


def check_distances(distances: Tensor, ids: Indices) -> None:
    """Refuse difficulties ``[B]`` that teacher or probe left not finite, naming the samples.

    Raises:
        UserError: some are not.
    """
    if bool((good := distances.isfinite()).all()):
        return
    raise UserError(
        "the distance between teacher and probe is not finite for sample ids "
        f"{some_ids(ids[(~good).cpu().numpy()])}; use other weights or --teacher.precision fp32"
    )


def some_ids(ids: Indices, shown: int = 5) -> str:
    """The first few of many sample numbers."""
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return f"{ids[:shown].tolist()}{more}"


def make_teaching(
    options: TeacherOptions,
    probe: ProbeOptions,
    engine: EngineOptions,
    data: DataSet,
    loaded: LoadedTeacher,
    *,
    size: int,
    with_probes: bool,
    device: torch.device,
    tapped: Sequence[str] = (),
) -> Teaching:
    """Prune the probes, then fold, then change the memory format: the order matters (folded weights rank
    differently).

    What the layers ``tapped`` of the first teacher return stays what it is.
    """
    module = loaded.module.to(device)
    seen, labels = _known(options, loaded.members, data)
    remarks = list(loaded.remarks)

    def batches(samples: Samples, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, given in plain_batches(samples, size=size):
            yield loaded.input_format(images.to(device)), given.to(device)
            limit -= len(given)
            if limit <= 0:
                return

    specs: tuple[ProbeSpec, ...] = ()
    if with_probes:
        sparsity = probe.sparsity
        if sparsity == "auto":
            sparsity = _auto(probe, seen, data, module, batches, remarks)
        sparsities = sparsity if isinstance(sparsity, list) else [sparsity]
        specs = tuple(
            ProbeSpec(float(s), probe.scope, probe.criterion, mask, probe.norm)
            for s in sparsities
            for mask in range(probe.masks)
        )
    wanted = RECALIBRATION_IMAGES if probe.norm == "recalibrated" else 1
    images = [x for x, _ in batches(data.train, wanted)] if any(spec.needs_images for spec in specs) else None
    with _in_one_line("make the probe"):
        probes = {spec.name: spec.make(module, images) for spec in specs}
    if options.fold:
        example = next(batches(data.train, 1))[0][:8]
        heard = [find_layer(loaded.members[0].module, path) for path in tapped]
        with _in_one_line("fold the batch norms"):
            for name, model in {"teacher": module, **probes}.items():
                remarks.append(f"{name}: {fold_batch_norms(model, example, heard).note}")
    teacher = FrozenTeacher(
        module,
        probes,
        input_format=loaded.input_format,
        channels_last=engine.uses_channels_last(data.train.pixels.channels, device),
        compiled=engine.compile,
        autocast=HALF[options.precision],
        at_once=options.batch_size,
    )
    identity: dict[str, object] = {
        **loaded.identity,
        "probes": [_about_probe(spec, module) for spec in specs],
        "fold": options.fold,
        "precision": options.precision,
    }
    return Teaching(teacher, specs, seen, labels, identity, tuple(remarks))


def _about_probe(spec: ProbeSpec, teacher: nn.Module) -> dict[str, object]:
    """What the outputs of a probe depend on besides the teacher, as JSON values."""
    # Stores and runs of the time when these projections were left alone are of other probes; all others stay theirs.
    attention = spec.criterion != "channels" and has_attention(teacher)
    return {**asdict(spec), **({"attention": True} if attention else {})}


@contextlib.contextmanager
def _in_one_line(doing: str) -> Iterator[None]:
    """Whatever comes out of a stranger's teacher is told as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"could not {doing} of the teacher: {reason}") from error


def _known(options: TeacherOptions, members: Sequence[LoadedModel], data: DataSet) -> tuple[str, str]:
    """What the teachers have seen, and which labels; unknown where it is of one of them."""
    cards: list[Any] = [member.card.get("trained_on") for member in members]
    trained = [card if isinstance(card, dict) else {} for card in cards]
    # A teacher of the labelled images was trained before others came to them, that of the whole set on more of them, or
    # before they were audited.
    parts = [data.train, *([data.train.labelled()] if data.train.unlabelled else [])]
    parts += data.earlier
    seen: str = options.seen
    if seen == "auto":
        images = {part.digest() for part in parts}
        seen = "kept" if all(t.get("images") in images for t in trained) else "unknown"
    labels: str = options.labels
    if labels == "auto":
        given = {label_digest(part) for part in parts}
        found = {_labels_of(t, given, data) for t in trained}
        labels = next(kind for kind in ("unknown", "clean", "given") if kind in found)
    return seen, labels


def _labels_of(trained: dict[str, Any], given: set[str], data: DataSet) -> str:
    if trained.get("labels") in given:
        return "given"
    return "clean" if trained.get("noise") == 0 and data.train.wrong is not None else "unknown"


def label_digest(samples: Samples) -> str:
    """Names a labelling, so that a student can tell whether its teacher had the same."""
    weights = b"" if samples.weights is None else samples.weights.numpy().tobytes()
    return hashlib.sha256(samples.ids.tobytes() + samples.labels.numpy().tobytes() + weights).hexdigest()


def _auto(probe: ProbeOptions, seen: str, data: DataSet, module: nn.Module, batches: Any, remarks: list[str]) -> float:
    if data.held_out is None or seen not in ("kept", "none"):
        why = "there is no held-out part" if data.held_out is None else "they are not known to be new to the teacher"
        remarks.append(
            f"sparsity auto: nothing to choose it on ({why}); the default {DEFAULT_SPARSITY} is used. "
            "Say --teacher.seen kept if the teacher was not trained on the held-out images"
        )
        return DEFAULT_SPARSITY
    held_out = partial(batches, data.held_out, len(data.held_out))
    with _in_one_line("choose --probe.sparsity"):
        found = auto_sparsity(module, held_out, keep=probe.keep, scope=probe.scope)
    kept = dict(found.table)[found.sparsity]
    remarks.append(
        f"sparsity auto: {found.sparsity:g} (probe {kept:.1f} %, teacher {found.teacher_accuracy:.1f} % "
        "of the held-out images)"
    )
    return found.sparsity
