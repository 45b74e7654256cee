"""A folder as the Hugging Face Hub likes it: weights, config and a model card that says how good and of what."""

from __future__ import annotations

import json
from typing import Any

import yaml

import dlkd
from dlkd.errors import UserError, first_line
from dlkd.export.student import Student
from dlkd.models.registry import resolve_name
from dlkd.models.trained import DESCRIPTION_BYTES
from dlkd.regular import read_regular
from dlkd.run_folder import MARKER, RESULTS

FIGURES = {
    "accuracy": "accuracy, %",
    "balanced_accuracy": "balanced accuracy, %",
    "ece": "calibration error, %",
    "nll": "negative log-likelihood",
}
"""Those of a run that the card has."""


def config(student: Student) -> dict[str, Any]:
    """``config.json``: what builds the model again; in timm's form too, where it is timm's."""
    form, names = student.preprocessing.input_format, list(student.class_names)
    found: dict[str, Any] = {
        "library": f"dlkd {dlkd.__version__}",
        "model": student.name,
        "num_classes": len(names),
        "channels": student.channels,
        "input": form.to_dict(),
        "id2label": {str(k): name for k, name in enumerate(names)},
    }
    source, short = resolve_name(student.name)
    if source != "timm":
        return found
    height, width = student.preprocessing.input_sides
    kept = [student.preprocessing.crop[0] / side for side in student.preprocessing.resize[:1]]
    timm = {
        "input_size": [student.channels, height, width],
        "mean": list(form.mean or (0.0,) * student.channels),
        "std": list(form.std or (1.0,) * student.channels),
        "interpolation": "bilinear",
        "crop_pct": kept[0],
        "num_classes": len(names),
    }
    return {
        **found,
        "architecture": short,
        "label_names": names,
        "model_args": {} if student.channels == 3 else {"in_chans": student.channels},
        "pretrained_cfg": timm,
    }


def model_card(student: Student, licence: str | None, check: dict[str, Any] | None) -> str:
    """``README.md``: what the model is, how good it is on which images, what it learnt from, and how it is loaded."""
    results, card = _of_run(student, RESULTS), _of_run(student, MARKER)
    split = "test" if "test" in results else "held_out"
    trained_on: dict[str, Any] = dict(student.loaded.card.get("trained_on") or {})  # type: ignore[call-overload]
    data = str(trained_on.get("data", "unknown"))
    source = resolve_name(student.name).source
    head: dict[str, Any] = {} if licence is None else {"license": licence}
    head |= {
        "library_name": "timm" if source == "timm" else "dlkd",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "knowledge-distillation", "dlkd"],
        "metrics": ["accuracy"],
    }
    if split in results:
        head["model-index"] = [_index(student.name, data, split, results[split]["accuracy"])]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(student.name)} on {_plain(data)}",
        _what(student, results),
        f"## Figures\n\n{_figures(results, split, check)}",
        f"## What it learnt from\n\n{_data(data, trained_on, results, card)}",
        f"## How to load it\n\n{_loading(student, source)}",
        f"## Licence\n\n{_licence(licence)}",
    ]
    return "\n\n".join(parts) + "\n"


def _of_run(student: Student, name: str) -> dict[str, Any]:
    """A JSON file of the run; empty where the weights lie alone."""
    file = student.folder / name
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(read_regular(file, DESCRIPTION_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {first_line(error)}; run it again, or export --to safetensors") from error


def _index(name: str, data: str, split: str, accuracy: float) -> dict[str, Any]:
    return {
        "name": name,
        "results": [
            {
                "task": {"type": "image-classification"},
                "dataset": {"name": data, "type": data, "split": split},
                "metrics": [{"type": "accuracy", "value": round(accuracy / 100, 6)}],
            }
        ],
    }


def _what(student: Student, results: dict[str, Any]) -> str:
    height, width = student.preprocessing.input_sides
    method = results.get("method", {}).get("name")
    how = f" by `{_plain(method)}`" if method else ""
    verb = "distilled" if results.get("command") == "distill" else "trained"
    parameters = sum(p.numel() for p in student.loaded.module.parameters())
    return (
        f"A classifier of images into {len(student.class_names)} classes, {verb}{how} with dlkd {dlkd.__version__}: "
        f"`{_plain(student.name)}`, {parameters / 1e6:.3g} million parameters, images of {student.channels} × {height} "
        f"× {width}. The teacher is not in it. `config.json` names the classes; `preprocessing.json` says what is done "
        "to a picture before the model sees it."
    )


def _figures(results: dict[str, Any], split: str, check: dict[str, Any] | None) -> str:
    if split not in results:
        return "The figures of its run did not lie beside the weights."
    words = {"test": "test", "held_out": "held-out"}[split]
    lines = [f"On the {words} images, seed {results.get('seed')}, weights of the {results.get('weights')}:", ""]
    lines += ["| figure | value |", "|---|---|"]
    lines += [f"| {label} | {results[split][key]:.4g} |" for key, label in FIGURES.items() if key in results[split]]
    if "teacher" in results and split in results["teacher"]:
        lines.append(f"| accuracy of the teacher, % | {results['teacher'][split]['accuracy']:.4g} |")
    if check is not None:
        lines += ["", f"These weights were read back and asked about {check['images']} of these images:"]
        lines[-1] += f" accuracy {check['exported_accuracy']:.4g} %, largest difference of a logit"
        lines[-1] += f" {check['max_difference']:.2g}."
    return "\n".join(lines)


def _data(data: str, trained_on: dict[str, Any], results: dict[str, Any], card: dict[str, Any]) -> str:
    lines = [f"`{_plain(data)}`: {trained_on.get('samples', 'an unknown number of')} training images."]
    lines += _labels(trained_on, results, card)
    teacher = results.get("teacher")
    if teacher:
        seen = {
            "train": "all training images",
            "kept": "the training images but for held-out ones",
            "none": "none of these images",
        }
        labels = {"clean": "clean labels", "given": "the labels as given", "unknown": "nobody knows which labels"}
        lines.append(
            f"Its teacher had seen {seen.get(teacher.get('seen'), 'nobody knows which images')}, with "
            f"{labels.get(teacher.get('labels'), 'nobody knows which labels')}."
        )
        if teacher.get("oracle"):
            lines.append("That teacher is an oracle: it learnt true labels where those of the student are noisy.")
    return "\n".join(lines)


def _labels(trained_on: dict[str, Any], results: dict[str, Any], card: dict[str, Any]) -> list[str]:
    """Which labels were wrong, hidden or cleaned, in sentences; what the run does not say is not claimed."""
    settings, found = card.get("settings"), card.get("data")
    told = settings.get("data") if isinstance(settings, dict) else None
    cleaned = isinstance(told, dict) and told.get("cleaned") is not None
    bare, wrong = (found.get(k) if isinstance(found, dict) else None for k in ("unlabelled", "wrong_labels"))
    rate = trained_on.get("noise")
    lines = [f"{_plain(bare)} of them had no label."] if bare else []
    if results.get("noise") or rate:
        kind = trained_on.get("noise_kind") or "unknown"
        how = f"Wrong labels were put among them on purpose: {_plain(kind)} noise,"
        if kind == "human":
            how = "Their labels are those that people gave: wrong is"
        counted = "" if wrong is None or bare or cleaned else f" ({_plain(wrong)} of them)"
        lines.append(f"{how} a share of {_plain(rate)}{counted}. Test labels are as the data set has them.")
    if cleaned:
        others = "" if results.get("noise") or rate else "; the others are as the data set has them"
        lines.append(f"After an audit some labels were changed, weighted or taken away, or images left out{others}.")
    elif rate == 0 and not results.get("noise"):
        as_they_are = "Labels are as the data set has them; none" if isinstance(told, dict) else "No label"
        lines.append(f"{as_they_are} was made wrong.")
    if (bare or cleaned) and wrong is not None:
        lines.append(f"Of the labels that were learnt from, {_plain(wrong)} are known to be wrong.")
    return lines


def _loading(student: Student, source: str) -> str:
    height, width = student.preprocessing.crop
    lines = LOADING.replace("HEIGHT", str(height)).replace("WIDTH", str(width))
    text = "In this folder, with `pip install dlkd`:\n\n```python\n" + lines + "```\n\n"
    text += "Of pictures, as lines of JSON: `dlkd predict . --images PICTURE`."
    if source == "factory":
        text = f"Its architecture is made by `{_plain(student.name)}`, which has to be installed. " + text
    if source == "timm":
        text += " With timm alone:\n\n```python\n" + TIMM_LOADING + "```"
    return text


LOADING = """\
import json
from pathlib import Path

import torch
from dlkd.models import InputFormat, load_model

config = json.loads(Path("config.json").read_text())
form = InputFormat.from_dict(config["input"])
student = load_model(
    config["model"], Path("model.safetensors"), config["num_classes"], channels=config["channels"], input_format=form
)
images = torch.rand(2, config["channels"], HEIGHT, WIDTH)  # [B, channels, H, W] in [0, 1]; see preprocessing.json
logits = student.module(student.input_format(images))
print([config["id2label"][str(k)] for k in logits.argmax(dim=1).tolist()])
"""
TIMM_LOADING = """\
import timm

student = timm.create_model("local-dir:.", pretrained=True).eval()
"""


def _licence(licence: str | None) -> str:
    if licence is None:
        return "None was stated. Ask whoever made it before you use it."
    return (
        f"`{_plain(licence)}`, as stated by whoever exported it; the data and the teacher have licences of their own."
    )


def _plain(text: object) -> str:
    """A stranger's name without what Markdown would take for more than text."""
    return "".join(c if c.isprintable() and c not in "`<>[]|" else "?" for c in str(text))
