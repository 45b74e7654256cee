"""What is installed, against what the package asks for."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata

from packaging.requirements import Requirement

import dlkd
from dlkd.doctor.line import Line
from dlkd.errors import first_line

EXTRAS = {
    "timm": "models of timm, and its trainer",
    "lightning": "the callback for Lightning",
    "transformers": "the trainer of Hugging Face",
    "pruning": "--probe.criterion channels",
    "tuning": "dlkd tune",
    "parquet": "tables as .parquet",
    "huggingface": "--data.name hf:NAME",
    "cleanlab": "dlkd audit with cleanlab's own judgement",
    "corruptions": "dlkd evaluate --corruptions imagenet-c",
    "onnx": "dlkd export --to onnx",
    "serve": "dlkd serve",
    "wandb": "--engine.track wandb",
    "mlflow": "--engine.track mlflow",
}
"""What each is for; an extra that is not named is for those who work on dlkd."""


def requirements() -> dict[str, list[Requirement]]:
    """What the package asks for, by the extra; that of every installation is under the empty name."""
    found: dict[str, list[Requirement]] = {"": [], **{extra: [] for extra in EXTRAS}}
    for text in metadata.requires("dlkd") or []:
        required = Requirement(text)
        for extra, of in found.items():
            # Without a marker it is for everybody, and no part of an extra.
            if required.marker is None:
                wanted = not extra
            else:
                wanted = required.marker.evaluate({"extra": extra}) and (
                    not extra or not required.marker.evaluate({"extra": ""})
                )
            if wanted:
                of.append(required)
    return found


def version_of(name: str) -> str | None:
    """Of an installed distribution; None where it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(required: Mapping[str, Sequence[Requirement]]) -> dict[str, str | None]:
    """Of everything that the package can use; None for what is missing."""
    names = dict.fromkeys(each.name for of in required.values() for each in of)
    return {"dlkd": dlkd.__version__, "python": platform.python_version(), **{n: version_of(n) for n in names}}


def look(required: Mapping[str, Sequence[Requirement]]) -> list[Line]:
    """The lines about versions and extras."""
    lines = [Line("version", f"dlkd {dlkd.__version__}, python {platform.python_version()}")]
    lines += [_imported(name) for name in ("torch", "torchvision")]
    bad = {each.name: fault for each in required[""] if (fault := _fault(each)) is not None}
    lines += [
        Line("version", fault, "problem", f"pip install --upgrade {name}, or install dlkd again")
        for name, fault in bad.items()
    ]
    others = [each for each in required[""] if each.name not in ("torch", "torchvision", *bad)]
    lines.append(Line("version", f"{len(others)} more libraries, new enough"))
    return [*lines, *(_extra(extra, what, required[extra]) for extra, what in EXTRAS.items())]


def _extra(extra: str, what: str, of: Sequence[Requirement]) -> Line:
    if not of:
        return Line("extra", f"{extra}: the installed package does not know it", "note", "install dlkd again")
    if faults := [fault for each in of if (fault := _fault(each)) is not None]:
        return Line("extra", f"{extra}: no {what}: {', '.join(faults)}", "note", f"pip install 'dlkd[{extra}]'")
    return Line("extra", f"{extra}: {what} ({', '.join(f'{each.name} {version_of(each.name)}' for each in of)})")


def _fault(required: Requirement) -> str | None:
    found = version_of(required.name)
    if found is None:
        return f"{required.name} is missing"
    if not required.specifier.contains(found, prereleases=True):
        return f"{required.name} is {found}, not {required.specifier}"
    return None


def _imported(name: str) -> Line:
    """Whether a library loads: torch and torchvision of builds that do not fit each other are installed all the
    same."""
    try:
        module = import_module(name)
    except Exception as error:  # a broken library raises whatever it likes
        advice = "install torch and torchvision of one release together: https://pytorch.org"
        return Line("version", f"{name} cannot be imported: {first_line(error)}", "problem", advice)
    return Line("version", f"{name} {module.__version__}")
