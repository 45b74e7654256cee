"""A command of ``soak.py`` in a process of its own that dies as it is told.

What it does stands in its log, a line for each event, so that it is known after SIGKILL too. Nothing of this is in
``src``: the child watches its own steps and files.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkd.cli import main
from dlkd.files import TEMPORARY
from dlkd.store import StoredLessons
from dlkd.train import fit
from dlkd.train.checkpoint import CURRENT, PREVIOUS


@dataclass
class Death:
    """When a process gets its signal, and what came of it."""

    job: str
    kind: str
    signal: str
    event: str
    after: int = -1
    """The step, or the shard where a store is built, from which on the event counts."""
    delay: float = 0.0
    """After the event, as a share of a step, of a shard, or of a start."""
    seconds: float = 0.0
    """The same in seconds of computing, whatever else the machine does."""
    damage: str | None = None
    """What is done to the checkpoint afterwards."""
    found: dict[str, Any] = field(default_factory=dict)


for module in ("dlkd.jobs.run", "dlkd.jobs.store", "dlkd.compare.job"):
    importlib.import_module(module)  # once, and not in every child

SHARD = re.compile(r"(view|plain)-.*\.safetensors")


class Child:
    """Notes what the command does, and sends it its signal when the moment has come.

    Args:
        log: where events are written.
        death: when and how, or None to live.
    """

    def __init__(self, log: Path, death: Death | None) -> None:
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self.death, self.progress = death, -1

    def note(self, *event: object) -> None:
        """Unbuffered: the next moment may be the last."""
        os.write(self.log, (json.dumps([time.monotonic(), time.process_time(), *event]) + "\n").encode())

    def advance(self, unit: str, progress: int) -> None:
        """A step or shard begins."""
        self.progress = progress
        self.note(unit, progress)
        self.reach(unit)

    def reach(self, event: str) -> None:
        """Die here, if this was the moment."""
        death = self.death
        if death is None or event != death.event or self.progress < death.after:
            return
        self.death = None

        def send() -> None:
            self.note("signal", event)
            os.kill(os.getpid(), signal.Signals[death.signal])

        def wait() -> None:
            until = time.process_time() + death.seconds
            while time.process_time() < until:
                time.sleep(0.0005)
            send()

        if death.seconds:
            threading.Thread(target=wait, daemon=True).start()
        else:
            send()

    def watch_steps(self, builds: bool) -> None:
        """Steps count as progress, those of a comparison through all its runs, or the shards of a command that makes
        nothing else."""
        step, ask = fit.train_step, StoredLessons.ask

        def train_step(session: Any, batch: Any, number: int) -> None:
            cells = session.folder.parents[1]
            before = len(list(cells.glob("*/*/results.json"))) if cells.name == "cells" else 0
            self.advance("step", before * session.options.epochs * session.steps.per_epoch + number)
            step(session, batch, number)

        def asked(store: StoredLessons, shard: Any) -> Any:
            if builds:
                self.advance("shard", shard.view)  # there is one part of each view
            return ask(store, shard)

        fit.train_step = train_step  # type: ignore[assignment]
        StoredLessons.ask = asked  # type: ignore[method-assign,assignment]

    def watch_files(self) -> None:
        """Half of a file written, before its renaming, and after; "between" the two renamings of a checkpoint."""
        names: dict[int, str] = {}
        mkstemp, fdopen, replace = tempfile.mkstemp, os.fdopen, os.replace
        reach = self.reach

        class Halves(io.BufferedWriter):
            def __init__(self, handle: int) -> None:
                self.of = kind(names.pop(handle))
                super().__init__(io.FileIO(handle, "wb"))

            def write(self, data: Any) -> int:
                middle = len(data) // 2
                super().write(data[:middle])
                self.flush()
                reach(f"{self.of} half written")
                super().write(data[middle:])
                return len(data)

        def named(*arguments: Any, **options: Any) -> tuple[int, str]:
            handle, name = mkstemp(*arguments, **options)
            if TEMPORARY.fullmatch(Path(name).name):
                names[handle] = Path(name).name[1:].rsplit(".", 2)[0]
            return handle, name

        def opened(handle: int, *arguments: Any, **options: Any) -> Any:
            return Halves(handle) if handle in names else fdopen(handle, *arguments, **options)

        def renamed(source: Any, goal: Any) -> None:
            name = Path(goal).name
            reach(f"{kind(name)} before its renaming")
            replace(source, goal)
            reach("checkpoint between its renamings" if name == PREVIOUS else f"{kind(name)} just renamed")

        patches: list[tuple[Any, str, Callable[..., Any]]] = [
            (tempfile, "mkstemp", named),
            (os, "fdopen", opened),
            (os, "replace", renamed),
        ]
        for module, name, patched in patches:
            setattr(module, name, patched)


def kind(name: str) -> str:
    """What a file is, in the words of an event."""
    return "checkpoint" if name == CURRENT else "shard" if SHARD.fullmatch(name) else name


def run(arguments: list[str], log: Path, output: Path, death: Death | None) -> int:
    """One command in this process; its exit status."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    child = Child(log, death)
    child.watch_steps(builds=arguments[0] == "store")
    child.watch_files()
    child.note("start")
    child.reach("start")
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_apart(arguments: list[str], log: Path, output: Path, death: Death | None = None) -> int:
    """The same in a child, which starts with everything imported; minus the signal where one ended it."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = run(arguments, log, output, death)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
