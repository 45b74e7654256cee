"""Has a judge seen the images that it judges? Said by the user, known from its run, or guessed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from dlkd.audit.answers import ask
from dlkd.audit.options import AuditOptions
from dlkd.data import DataSet, Samples, load_data, plain_batches
from dlkd.errors import UserError
from dlkd.models import CheckpointError, LoadedModel, load_model
from dlkd.teacher import FrozenTeacher
from dlkd.train.device import pick_device
from dlkd.train.setup import input_format_of
from dlkd.train.teach import some_ids

Seen = npt.NDArray[np.str_]
"""``[N]`` out of :data:`dlkd.audit.judged.SEEN`."""
SURER = 0.6
"""AUROC of the confidence from which on a judge is taken to have been trained on the audited images: on images of one
kind that it has not seen it is 0.5, and a CIFAR-100 teacher reaches 0.8 and more on its own."""
COMPARED = 2000
"""So many images of each kind are looked at for that."""
READERS = ("folder", "npz", "table", "webdataset")
"""Names of data that tell how files are read, and nothing of what is in them."""


def as_said(seen: str, audited: Samples, held_out: Samples | None) -> Seen:
    """What a word for all images (``--teacher.seen``) says of each.

    Args:
        seen: ``train``, ``kept``, ``none`` or ``unknown``.
        audited: the images.
        held_out: those that ``kept`` excepts.
    """
    found = np.full(len(audited), {"train": "yes", "kept": "yes", "none": "no"}.get(seen, "unknown"), "<U8")
    if seen == "kept" and held_out is not None:
        found[np.isin(audited.ids, held_out.ids)] = "no"
    return found


def guessed(judge: FrozenTeacher, whole: DataSet, size: int, who: str) -> tuple[Seen, str]:
    """``probably`` of all images where the judge is much surer of them than of the test images, else ``unknown``; and
    a remark.

    Args:
        judge: images to logits of its own classes, whatever their order.
        whole: audited images and test images, whose labels are not looked at.
        size: side in pixels of images that come from files.
        who: names it to people.

    Raises:
        UserError: logits that are not finite.
    """

    def confidence(samples: Samples) -> npt.NDArray[np.floating]:
        some = samples.take(np.arange(0, len(samples), max(1, len(samples) // COMPARED)))
        logits, _ = ask(judge, (images for images, _ in plain_batches(some, size=size)), judge.device)
        found: npt.NDArray[np.floating] = torch.softmax(logits, dim=1).amax(dim=1).numpy()
        if (bad := ~np.isfinite(found)).any():
            raise UserError(
                f"what the {who} says is not finite for sample ids {some_ids(some.ids[bad])}; use other weights"
            )
        return found

    audited, unseen = confidence(whole.train), confidence(whole.test)
    surer = float(roc_auc_score(np.r_[np.ones(audited.size), np.zeros(unseen.size)], np.r_[audited, unseen]))
    seen = np.full(len(whole.train), "probably" if surer > SURER else "unknown")
    return seen, f"the {who} is surer of these images than of test images with AUROC {surer:.2f}"


def seen_by_network(options: AuditOptions, whole: DataSet) -> tuple[Seen, tuple[str, ...]]:
    """Was the network of ``--heads_only`` trained on an image, and on its label, before any part was left out?

    ``--teacher.seen`` says so; else its run does, by the images it names. Published weights, a classifier of other
    classes and a run on another data set are taken to be of other labels; of all else it is :func:`guessed`.

    Returns:
        ``[N]``, and remarks.

    Raises:
        UserError: weights that are damaged or of another model, logits that are not finite.
    """
    said, data = options.teacher.seen, load_data(options.data)
    if said in ("train", "kept", "none"):
        return as_said(said, whole.train, data.held_out), ()
    network = _with_its_classifier(options, whole)
    if said == "auto":
        seen = as_said("none", whole.train, None)
        images = None if network is None else _trained_on(network).get("images")
        for part in (whole.train, data.train, *data.earlier):
            if images is not None and images == part.digest():
                seen[np.isin(whole.train.ids, part.ids)] = "yes"
        if network is None or (seen == "yes").any() or not _may_know(network, whole):
            return seen, ()
    if network is None:
        return as_said("unknown", whole.train, None), ()
    device, channels = pick_device(options.device), whole.train.pixels.channels
    form = input_format_of(options.model, whole, channels)
    last = options.engine.uses_channels_last(channels, device)
    judge = FrozenTeacher(network.module.to(device), input_format=form, channels_last=last)
    seen, remark = guessed(judge, whole, options.data.image_size or form.resolution or 224, "network")
    return seen, (remark,)


def _with_its_classifier(options: AuditOptions, whole: DataSet) -> LoadedModel | None:
    """The network as it was trained; None for published weights, and for a classifier of another number of classes
    that says no more of itself."""
    model, classes = options.model, len(whole.train.class_names)
    if model.weights is None:
        return None
    channels = whole.train.pixels.channels
    try:
        return load_model(model.name, model.weights, classes, channels=channels, own_classes=True, prefix="--model.")
    except CheckpointError as error:
        if error.classes in (None, classes):
            raise UserError(str(error)) from error
        return None
    except ValueError as error:
        raise UserError(str(error)) from error


def _may_know(network: LoadedModel, whole: DataSet) -> bool:
    """Could it have learnt these labels, as far as its classes and the name of its data tell?"""
    if network.class_names is not None and set(network.class_names) != set(whole.train.class_names):
        return False
    names = {_trained_on(network).get("data"), whole.name} - {None, *READERS}
    return len(names) < 2


def _trained_on(network: LoadedModel) -> dict[str, object]:
    about = network.card.get("trained_on")
    return about if isinstance(about, dict) else {}
