"""Classifiers of the parts on one pretrained network: what it says of an image is computed once, whatever the part."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor, nn

from dlkd.arrays import read_arrays, write_arrays
from dlkd.audit.answers import Answers, ask, shown
from dlkd.audit.folds import out_of_fold, say_agreement
from dlkd.audit.judged import Judged, everything
from dlkd.audit.options import AuditOptions
from dlkd.audit.seen import seen_by_network
from dlkd.data import DataSet, load_data, stratified_split, view_family
from dlkd.data.samples import Indices
from dlkd.difficulty import ProbeSpec
from dlkd.errors import UserError, first_line
from dlkd.models.trained import STUDENT_FILE
from dlkd.teacher import FrozenTeacher, fold_batch_norms
from dlkd.train.device import pick_device
from dlkd.train.setup import input_format_of, make_student
from dlkd.train.teach import some_ids
from dlkd.train.teacher_options import ProbeOptions

Floats = npt.NDArray[np.floating]
PENALTIES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""λ of mean cross-entropy + λ/2·‖W‖², the strongest first: wrong labels want a strong one."""
STEPS = 60
"""Of L-BFGS. The penalty chooses the optimum, and nothing after so many steps changes a score by a hundredth."""


class Features(NamedTuple):
    """What a network and its pruned copies say of all images, before the classifier."""

    teacher: Floats
    """``[V, N, D]``, the plain images first."""
    probes: Floats
    """``[V, K, N, D]``."""


class Head(NamedTuple):
    """A classifier of standardised features."""

    mean: Floats
    std: Floats
    weight: Floats
    """``[C, D]``."""
    bias: Floats
    """``[C]``; −∞ of a class that it has not met."""

    def __call__(self, features: Floats) -> Tensor:
        """Logits ``[N, C]``."""
        return torch.from_numpy(((features - self.mean) / self.std) @ self.weight.T + self.bias)


def by_heads(options: AuditOptions) -> Judged:
    """Train the classifiers of all parts, and ask each about its own.

    Raises:
        UserError: a network that :func:`seen_by_network` or :func:`features` refuses, or data that cannot be cut into
            parts.
    """
    assert options.folds is not None
    whole = everything(options.data)
    parts = parts_of(options, whole)
    file = options.out / "features.npz"
    remarks: tuple[str, ...] = ()
    images, weights = whole.train.digest(), _hash_of(options.model.weights)
    if (kept := _kept(file, images, weights)) is None:
        # The network is loaded with its classifier first: what does not fit is told before it has seen all images.
        seen, remarks = seen_by_network(options, whole)
        found = features(options, whole)
        about = {"seen": seen, "images": np.array(images), "weights": np.array(weights)}
        write_arrays(file, found._asdict() | about)
    else:
        found, seen = kept
    judged = judge(whole, parts, found, options.distance_temperature)
    return replace(judged, seen=seen, remarks=(*judged.remarks, *remarks))


class Part(NamedTuple):
    """Positions in the whole set."""

    learnt: Indices
    asked: Indices


def parts_of(options: AuditOptions, whole: DataSet) -> list[Part]:
    """Which images the classifier of each part learns from, and is asked about; no part keeps images of its own.

    Raises:
        UserError: data that cannot be cut into parts.
    """
    found = []
    for k in range(options.folds or 0):
        data = load_data(options.fold(k).data)
        found.append(Part(*(np.searchsorted(whole.train.ids, s.ids) for s in (data.train, data.part("held_out")))))
    return found


def judge(whole: DataSet, parts: Sequence[Part], found: Features, tau: float) -> Judged:
    """Train the classifier of each part, and put together what they say; see :func:`by_parts`.

    Args:
        tau: softmax temperature of the distance.
    """
    answers, labels = [], whole.train.labels.numpy()
    for k, (part, views) in enumerate(zip(parts, by_parts(whole, parts, found), strict=True)):
        answers.append(Answers.of_logits(whole.train.ids[part.asked], views, tau))
        say_agreement(k, len(parts), answers[-1], labels[part.asked])
    return out_of_fold(whole, answers)


def by_parts(whole: DataSet, parts: Sequence[Part], found: Features) -> Iterator[list[tuple[Tensor, list[Tensor]]]]:
    """Of each part the logits of its teacher and of each probe, ``[N, C]`` each, for every view.

    Args:
        whole: all images.
        parts: see :func:`parts_of`.
        found: of the images of ``whole``, in their order.
    """
    penalty: float | None = None
    classes, labels = len(whole.train.class_names), whole.train.labels.numpy()
    for learnt, asked in parts:
        x, y = found.teacher[0][learnt], labels[learnt]
        if penalty is None:
            penalty = choose_penalty(x, y, classes)
        head = fit_head(x, y, classes, penalty)
        yield [
            (head(teacher[asked]), [head(probe[asked]) for probe in probes])
            for teacher, probes in zip(found.teacher, found.probes, strict=True)
        ]


def features(options: AuditOptions, whole: DataSet) -> Features:
    """Ask the network and its pruned copies about all views of all images.

    Raises:
        UserError: a network without a linear classifier at its end, or with nothing to prune before it, or features
            that are not finite.
    """
    device, channels = pick_device(options.device), whole.train.pixels.channels
    module, _ = make_student(options.model, whole, channels, options.seed, "--model.")
    form = input_format_of(options.model, whole, channels)
    size = options.data.image_size or form.resolution or 224
    images = next(iter(shown(whole.train.take(np.arange(1)), view_family(options.views, whole, 0, size), 0, size)))
    example = form(next(iter(images)))
    network, example = without_head(module.eval(), options.model.name, example).to(device), example.to(device)
    try:
        probes = {spec.name: spec.make(network) for spec in _specs(options.probe)}
    except ValueError as error:
        raise UserError(
            f"could not make the probe of --model.name {options.model.name}: {first_line(error)}"
        ) from error
    for model in (network, *probes.values()):
        fold_batch_norms(model, example)
    last = options.engine.uses_channels_last(channels, device)
    teacher = FrozenTeacher(network, probes, input_format=form, channels_last=last)
    family = view_family(options.views, whole, options.seed, size)
    rows = [ask(teacher, view, device) for view in shown(whole.train, family, options.augmented, size)]
    of_teacher = np.stack([row[0].numpy() for row in rows])
    found = Features(of_teacher, np.stack([np.stack([p.numpy() for p in row[1]]) for row in rows]))
    _check_finite(found, whole.train.ids, options.model.name)
    return found


def _check_finite(found: Features, ids: Indices, name: str) -> None:
    good = np.isfinite(found.teacher).all(axis=(0, 2)) & np.isfinite(found.probes).all(axis=(0, 1, 3))
    if not good.all():
        raise UserError(
            f"what --model.name {name} or its pruned copy says is not finite for sample ids {some_ids(ids[~good])}; "
            "use other weights"
        )


def _specs(probe: ProbeOptions) -> list[ProbeSpec]:
    if probe.norm != "eval" or probe.criterion == "channels":
        raise UserError("expected --probe.norm eval and --probe.criterion l1 or random with --heads_only")
    sparsities = probe.sparsity if isinstance(probe.sparsity, list) else [probe.sparsity]
    return [ProbeSpec(float(s), probe.scope, probe.criterion, mask) for s in sparsities for mask in range(probe.masks)]


def without_head(module: nn.Module, name: str, example: Tensor) -> nn.Module:
    """A copy of a classifier that gives what the linear layer at its end is shown.

    Args:
        module: in eval mode.
        name: of it, for people.
        example: images in its input format.

    Raises:
        UserError: no linear layer gives what it gives.
    """
    network = copy.deepcopy(module)
    linear = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    given: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda _layer, _shown, gives, path=path: given.update({path: gives}))
        for path, layer in linear.items()
    ]
    with torch.no_grad():
        logits = network(example)
    for hook in hooks:
        hook.remove()
    # The last to be called may be one in the middle, of a network whose classifier is a convolution.
    last_called = next(reversed(given), None)
    if last_called is None or not torch.equal(given[last_called], logits):
        raise UserError(
            f"expected a linear classifier at the end of --model.name {name} with --heads_only, but found none"
        )
    parent, _, last = last_called.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity().eval())
    return network


def choose_penalty(x: Floats, y: npt.NDArray[np.int64], classes: int) -> float:
    """The penalty with the least log-loss on a tenth of the images, by the labels as given; the strongest where they
    are too few for that."""
    rest, chosen = stratified_split(y, 0.1, 0)
    if not chosen.size:
        return PENALTIES[0]
    best, least = PENALTIES[0], np.inf
    for penalty in PENALTIES:
        head = fit_head(x[rest], y[rest], classes, penalty)
        loss = log_loss(y[chosen], torch.softmax(head(x[chosen]), dim=1).numpy(), labels=np.arange(classes))
        if loss >= least:
            break
        best, least = penalty, loss
    return best


def fit_head(x: Floats, y: npt.NDArray[np.int64], classes: int, penalty: float) -> Head:
    """Multinomial logistic regression on standardised features."""
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    model = LogisticRegression(C=1 / (penalty * len(y)), max_iter=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((x - mean) / std, y)
    weight, bias = np.zeros((classes, x.shape[1]), x.dtype), np.full(classes, -np.inf, x.dtype)
    of = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row stands for both
        of = np.concatenate([-of[0] / 2, of[0] / 2]), np.concatenate([-of[1] / 2, of[1] / 2])
    weight[model.classes_], bias[model.classes_] = of
    return Head(mean, std, weight, bias)


def _hash_of(weights: Path | None) -> str:
    """SHA-256 of the file of weights, or of that in a run folder; empty where there is none that can be read."""
    if weights is not None:
        file = weights / STUDENT_FILE if weights.is_dir() else weights
        with contextlib.suppress(OSError):
            return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return ""


def _kept(file: Path, images: str, weights: str) -> tuple[Features, npt.NDArray[np.str_]] | None:
    """What an earlier process found of the same images by the same weights, and which of them the network had seen.

    Args:
        file: where.
        images: names them.
        weights: :func:`_hash_of` those that are there now; where there are none any more, what was found counts.
    """
    try:
        kept = read_arrays(file)
        same = str(kept["images"]) == images and weights in ("", str(kept["weights"]))
        return (Features(kept["teacher"], kept["probes"]), kept["seen"]) if same else None
    except (ValueError, KeyError):
        return None
