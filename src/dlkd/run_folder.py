"""The folder of a run: nobody's folder is emptied by accident, and one process works in it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dlkd.errors import UserError, first_line
from dlkd.files import TEMPORARY, clean_temporaries, held_by_file, write_json
from dlkd.regular import read_regular

MARKER, RESULTS, LOCK = "run.json", "results.json", ".lock"
"""The files by which a folder is known to be a run of ours and finished, and by which one process works in it."""

CARD_BYTES = 1 << 26
"""A run card is smaller; a larger file is none of ours."""


def made_by(folder: Path) -> str:
    """The command whose run is in ``folder``; empty where nobody knows."""
    try:
        return str(json.loads(read_regular(folder / MARKER, CARD_BYTES))["command"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


def check_run_folder(path: Path, *, overwrite: bool) -> None:
    """Say at once why ``path`` cannot become a run folder; changes nothing.

    Raises:
        UserError: the folder is not empty and ``overwrite`` is not set, or it holds something that
            is no run of ours (never deleted), or it cannot be written.
    """
    try:
        if path.exists() and (not path.is_dir() or not _is_empty(path)):
            if not (path / MARKER).is_file():
                raise UserError(
                    f"expected --out {path} to be a new or empty folder, but found files that are no run "
                    "of dlkd; choose another folder"
                )
            if not overwrite:
                raise UserError(
                    f"{path} holds a run already; give --resume to go on with it, --overwrite to replace it, "
                    "or another --out"
                )
        parent = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"could not write to --out {path}: {parent} is no folder to write to; choose another")
    except OSError as error:
        raise UserError(f"could not write to --out {path}: {error.strerror}; choose another folder") from error


@contextlib.contextmanager
def busy_folder(path: Path) -> Iterator[None]:
    """Work in a run folder alone.

    Raises:
        UserError: another process is at work there.
    """
    with held_by_file(path.resolve() / LOCK, wait=False) as mine:
        if not mine:
            raise UserError(f"another process is at work in {path}; wait until it ends, or give another --out")
        yield


@contextlib.contextmanager
def new_run_folder(
    path: Path, *, overwrite: bool, card: dict[str, object], begun: Callable[[], bool]
) -> Iterator[None]:
    """Make an empty run folder with its card for the block; see :func:`check_run_folder`.

    A block that fails before it has ``begun`` leaves everything as it was: the new folder goes, and the run that it
    replaces comes back. That one is deleted when the block is through, or fails later; of a process that is killed it
    stays aside, and the next one does the same with it.

    Raises:
        UserError: as there, or another process is at work; a run that cannot come back lies where the message says.
    """
    check_run_folder(path, overwrite=overwrite)
    path = path.resolve()  # of a link, the folder that it leads to is replaced
    beside = path.parent / f".{path.name}.lock"  # for the moments in which the folder, and the lock in it, changes
    with contextlib.ExitStack() as stack:
        with held_by_file(beside, wait=True):
            check_run_folder(path, overwrite=overwrite)  # by now there may be a run of another process
            found = path.exists()
            try:
                if found and not _is_empty(path):
                    _put_aside(path, card, begun)
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                with contextlib.suppress(OSError):
                    _aside(path).rename(path)
                raise UserError(f"could not write to --out {path}: {error.strerror}; choose another folder") from error
            stack.enter_context(busy_folder(path))
        try:
            clean_temporaries(path)
            write_json(path / MARKER, card)
            yield
        except BaseException as error:
            if begun():
                forget_replaced(path)
            else:
                with held_by_file(beside, wait=True):
                    stack.close()  # over a network, a folder with an open file in it cannot be removed
                    _bring_back(path, error, found=found)
            raise
        forget_replaced(path)


def _put_aside(path: Path, card: Mapping[str, object], begun: Callable[[], bool]) -> None:
    with busy_folder(path):
        # What a killed process left that had not begun is worth less than the run that it has put aside.
        fruitless = made_by(path) == card.get("command") and not begun() and not (path / RESULTS).exists()
        if fruitless and _aside(path).exists():
            return _empty(path)
        forget_replaced(path)
        path.rename(_aside(path))
    (_aside(path) / LOCK).unlink(missing_ok=True)


def _bring_back(path: Path, failed: BaseException, *, found: bool) -> None:
    aside = _aside(path)
    try:
        _empty(path)
        if aside.exists() or not found:
            path.rmdir()
        if aside.exists():
            aside.rename(path)
    except OSError as error:
        if aside.exists():
            lost = f"the run that was in {path} could not be brought back ({error.strerror}): it is in {aside}"
            raise UserError(f"{first_line(failed)}; {lost}") from failed


def unfinished(path: Path) -> str | None:
    """What to do about a run of ``dlkd train`` or ``dlkd distill`` that has not ended; None for other folders."""
    if (path / RESULTS).is_file() or (command := made_by(path)) not in ("train", "distill"):
        return None
    return f"the run in {path} is not finished; go on with it: dlkd {command} --resume --out {shlex.quote(str(path))}"


def forget_replaced(path: Path) -> None:
    """Delete the run that the one at ``path`` replaces, which a killed process may have left aside."""
    shutil.rmtree(_aside(path.resolve()), ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _is_empty(folder: Path) -> bool:
    """Is nothing there but what a process that was killed at its first file leaves?"""
    return all(p.name == LOCK or TEMPORARY.fullmatch(p.name) for p in folder.iterdir())


def _empty(folder: Path) -> None:
    """Remove what is in ``folder``, which may be a mount point that has to stay; the card last: it says whose it is."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name == MARKER):
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)


def check_outside(folder: Path, paths: Mapping[str, Path | Sequence[Path | None] | None]) -> None:
    """Refuse inputs inside the run folder, which ``--overwrite`` would delete.

    Args:
        folder: ``--out``.
        paths: by the name of their option, which may have several.

    Raises:
        UserError: one of them is ``folder`` or lies in it.
    """
    try:
        whole = folder.resolve()
        each = [(k, path) for k, p in paths.items() for path in (p if isinstance(p, Sequence) else [p])]
        for option, path in each:
            if path is not None and whole in (path.resolve(), *path.resolve().parents):
                raise UserError(f"expected --{option} outside the folder of the run, but {path} is in --out {folder}")
    except (OSError, RuntimeError) as error:  # of a link to itself
        raise UserError(f"could not follow a link on the way to --out {folder} or an input: {error}") from error
    except ValueError as error:  # a zero byte, or half of a character
        raise UserError(f"expected paths in --out and the inputs, but one of them cannot be any: {error}") from error
