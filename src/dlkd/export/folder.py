"""The folder of an export: one process at a time, every file whole, nothing of anybody else's deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlkd.errors import UserError
from dlkd.files import TEMPORARY, clean_temporaries, write_json
from dlkd.run_folder import LOCK, busy_folder

RECORD, REJECTED_RECORD = "export.json", "export.rejected.json"
"""What was found of an export, and of one that disagrees with its student."""
STAGING, REJECTED = ".export", ".rejected"
"""The folder in which files are made before they are checked; what is put after the name of one that was not right."""


@dataclass(frozen=True)
class ExportFolder:
    """``--out`` while this process alone works in it.

    Args:
        path: the folder.
        staging: where files are made.
    """

    path: Path
    staging: Path

    def publish(self, record: dict[str, object]) -> None:
        """Put the files that were made in place of an earlier export, the record last."""
        made = sorted(self.staging.iterdir())
        self._forget_earlier({file.name for file in made})
        for file in made:
            _sync(file)
            os.replace(file, self.path / file.name)
        write_json(self.path / RECORD, record)

    def reject(self, model: str, record: dict[str, object]) -> Path:
        """Keep ``model`` aside under another name, and nothing under its own; returns where it is."""
        self._forget_earlier(set())
        aside = self.path / f"{model}{REJECTED}"
        os.replace(self.staging / model, aside)
        write_json(self.path / REJECTED_RECORD, record)
        return aside

    def _forget_earlier(self, kept: set[str]) -> None:
        for name in _OURS - kept:
            (self.path / name).unlink(missing_ok=True)


MODELS = ("model.onnx", "model.int8.onnx", "model.pt2", "student.safetensors", "model.safetensors")
_OURS = {
    *(RECORD, REJECTED_RECORD, "preprocessing.json", "student.json", "config.json", "README.md"),
    *(name + end for name in MODELS for end in ("", REJECTED)),
}
"""Every file that an export writes."""


def _sync(file: Path) -> None:
    """Bytes before the name: a rename that outlives a power cut must not lead to an empty file."""
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())


@contextlib.contextmanager
def export_folder(path: Path, source: Path, *, overwrite: bool) -> Iterator[ExportFolder]:
    """Hold ``--out`` for the block, made if it is not there; where the block leaves nothing, it goes again.

    Args:
        path: the folder.
        source: the weights that are exported.
        overwrite: may an earlier export be replaced?

    Raises:
        UserError: another process is at work there, it is not empty, holds ``source``, or cannot be written.
    """
    found = path.is_dir()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"could not write to --out {path}: {error.strerror}; choose another folder") from error
    staging = path / STAGING
    try:
        with busy_folder(path):
            _check_apart(path, source)
            _check_replaceable(path, overwrite=overwrite)
            try:
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir()
                clean_temporaries(path)
            except OSError as error:
                raise UserError(f"could not write to --out {path}: {error.strerror}; choose another folder") from error
            try:
                yield ExportFolder(path, staging)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    finally:
        if not found:
            with contextlib.suppress(OSError):  # not empty: there is an export in it
                path.rmdir()


def _check_apart(path: Path, source: Path) -> None:
    """An earlier export goes before the new one has its name, and with it would go what the new one is made of."""
    if any(path.samefile(folder) for folder in (source.parent, source.resolve().parent)):
        raise UserError(f"expected --out to be another folder than that of {source}, which is exported; give another")


def _check_replaceable(path: Path, *, overwrite: bool) -> None:
    there = {p.name for p in path.iterdir() if p.name != LOCK and not TEMPORARY.fullmatch(p.name)}
    if not there - {STAGING}:  # of an export that was killed
        return
    if not there & {RECORD, REJECTED_RECORD, STAGING}:
        raise UserError(
            f"expected --out {path} to be a new or empty folder, but found files that are no export of dlkd; "
            "choose another folder"
        )
    if not overwrite:
        raise UserError(f"{path} holds an export already; give --overwrite to replace it, or another --out")
