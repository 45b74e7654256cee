"""What is compared: methods × conditions × pairs × seeds, each cell a `dlkd distill` run."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dlkd.compare.names import MANY, ONE, check_name, check_seeds
from dlkd.data.cleaned import leaves_images_out
from dlkd.difficulty import PROBE_SCORES, SHARED_TEMPERATURES
from dlkd.errors import UserError
from dlkd.jobs.card import plain
from dlkd.methods import resolve_loss
from dlkd.methods.registry import find_method, parse_method
from dlkd.pages.explain import known_options
from dlkd.pages.merge import Page, merged, nested
from dlkd.pages.plain_yaml import read_plain
from dlkd.pages.recipes import resolve_config
from dlkd.pages.typed import TypedOptions
from dlkd.train.options import DistillOptions
from dlkd.train.teacher_options import StorageOptions

GROUPS = [name for name, hint in known_options(DistillOptions).items() if is_dataclass(hint)]
"""Options of a run that hold options."""
WHERE = ("root", "noise_file", "download", "verify", "workers", "timeout")
"""Options of the data that say where they lie and how they are read: of a machine, not of a study."""
QUICK: Page = {
    "engine": {"tensorboard": False, "track": None, "report": False, "evaluate_every": 0},
    "score_on": "held_out",
}
"""What cells have unless the study says otherwise: only what the comparison reads."""


@dataclass(frozen=True)
class StudyOptions:
    """Methods × conditions × pairs × seeds under one recipe.

    Attributes:
        out: folder of the study; the same command goes on with what is there, and adds to it.
        recipe: name or file of the recipe that all cells share.
        run: options of ``dlkd distill`` for all cells, as ``--run.data.root DATA``; they win over the recipe.
        methods: names as for --method, or a group: name → options of its cells, as ``{kd-2: {method: kd, loss:
            {temperature: 2}}}``. A name that is a method needs no ``method:``.
        conditions: name → options, as ``{noisy: {data: {noise: 0.4}}}``; all combine with all methods.
        pairs: name → options of teacher and student.
        seeds: how many, counted from 0, or a list.
        workers: processes that share the cells; the command may run on several machines at once as well.
        collect: run nothing, but write the tables of what is there.
    """

    out: Path
    recipe: str | None = None
    run: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, dict[str, Any] | None] | list[str] = field(default_factory=lambda: ["ce", "kd", "dlkd"])
    conditions: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    pairs: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    seeds: list[int] | int = 3
    workers: int = 1
    collect: bool = False

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if isinstance(self.seeds, int) and not 1 <= self.seeds <= MANY:
            raise UserError(f"expected --seeds to be a number of 1 to {MANY} or a list of seeds, but got {self.seeds}")
        check_seeds(self.seed_list)
        if not self.methods:
            raise UserError("expected at least one of --methods, but got none; give --methods '[kd, dlkd]'")
        if isinstance(self.methods, list) and len(set(self.methods)) < len(self.methods):
            raise UserError(f"expected each of --methods once, but got {self.methods}")
        for option in ("methods", "conditions", "pairs"):
            given = getattr(self, option)
            for name in given:
                check_name(f"--{option}", name)
                if isinstance(given, dict) and not isinstance(given[name], (dict, type(None))):
                    raise UserError(f"expected options as --{option}.{name}, but got {given[name]!r:.80}")
        if self.workers < 1:
            raise UserError(f"expected --workers to be at least 1, but got {self.workers}")

    @property
    def seed_list(self) -> list[int]:
        """The seeds."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def page_of_file(self) -> Page:
        """The options that the recipe names."""
        if self.recipe is None:
            return {}
        return nested(read_plain(resolve_config(self.recipe, GROUPS, option="--recipe")))

    @property
    def pages(self) -> dict[str, Page]:
        """The options of each method's cells."""
        given = self.methods if isinstance(self.methods, dict) else dict.fromkeys(self.methods, None)
        return {name: {"method": name, **nested(of or {})} for name, of in given.items()}


@dataclass(frozen=True)
class CompareOptions(StudyOptions):
    """Compare methods under one recipe, on the same views, over several seeds.

    Attributes:
        baseline: the method that the others are held against.
        ours: methods that are held against the best of the others; by default those that dlkd is part of.
        final: read the test images for every finished cell, and note it in the ledger.
        ledger: file to which each reading of the test images is added.
    """

    out: Path = Path("runs/compare")
    baseline: str = "kd"
    ours: list[str] | None = None
    final: bool = False
    ledger: Path | None = None

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        super().check()
        if self.baseline not in self.methods and self.baseline != CompareOptions.baseline:
            raise UserError(f"expected --baseline to be one of --methods, but got {self.baseline}")
        for name in self.ours or []:
            if name not in self.methods:
                raise UserError(f"expected --ours to be some of --methods, but got {name}")

    @property
    def our_methods(self) -> list[str]:
        """Names of the methods that are held against the best of the others."""
        if self.ours is not None:
            return self.ours
        return [name for name, page in self.pages.items() if _is_ours(str(page["method"]))]


def _is_ours(method: str) -> bool:
    return any(part in ("dlkd", "dlkd-robust") for part in method.split("+"))


class Cell(NamedTuple):
    """One run of the comparison."""

    pair: str
    condition: str
    method: str
    seed: int
    options: DistillOptions
    """Complete: folder, seed and store included."""

    @property
    def group(self) -> tuple[str, str, int]:
        """Cells that share views, and mostly a store."""
        return self.pair, self.condition, self.seed

    @property
    def place(self) -> str:
        """Pair and condition in one name, only where there are several."""
        return row_name(self.pair, self.condition, ONE) or ONE

    @property
    def row(self) -> str:
        """Pair, condition and method in one name; the pair and the condition only where there are several."""
        return row_name(self.pair, self.condition, self.method)


def plan(options: StudyOptions) -> list[Cell]:
    """All cells, seed by seed; those that share views stand together.

    Raises:
        UserError: an option that no run would take, with the cell that it is of.
    """
    options.check()
    shared, read = merged(QUICK, options.page_of_file, nested(options.run)), reader()
    runs: list[tuple[tuple[str, str, str], DistillOptions]] = []
    for pair, of_pair in (options.pairs or {ONE: None}).items():
        for condition, of_condition in (options.conditions or {ONE: None}).items():
            for method, of_method in options.pages.items():
                page = merged(shared, *(nested(part or {}) for part in (of_pair, of_condition, of_method)))
                runs.append(((pair, condition, method), checked(read, page, row_name(pair, condition, method))))
    if any(find_method(part).uses_probe for _, run in runs for part in parse_method(run.method)):
        # One store then serves all: what the probes say is kept for those that do not look at it as well.
        runs = [(name, replace(run, storage=replace(run.storage, probe_logits=True))) for name, run in runs]
    return [cell(options.out, name, run, seed) for seed in options.seed_list for name, run in runs]


@functools.cache
def reader() -> TypedOptions[DistillOptions]:
    """Reads the options of a cell. Its parser takes longer to make than a page to read, and a search plans often."""
    return TypedOptions(DistillOptions)


def checked(read: TypedOptions[DistillOptions], page: Page, row: str) -> DistillOptions:
    """The options of a cell, but for what the study gives to each.

    Raises:
        UserError: no run would take them.
    """
    try:
        run = read(page)
        resolve_loss(run.method, run.loss)
        for name, default in (("out", DistillOptions.out), ("seed", 0), ("store", None)):
            if getattr(run, name) != default:
                raise UserError(f"expected no --{name}, which the comparison gives to each cell")
        if run.with_baseline:
            raise UserError("expected no --with_baseline: the student alone is the method ce of a comparison")
        if run.score_on != "held_out":
            raise UserError(f"expected no --score_on {run.score_on}: dlkd compare --final reads the test images")
        replace(run, store=Path("store")).check()
    except UserError as error:
        raise UserError(f"{error} (cells {row})") from error
    return run


def row_name(pair: str, condition: str, method: str) -> str:
    """All three in one name, but for those of which there is only one."""
    return "/".join(part for part in (pair, condition, method) if part != ONE)


def cell(out: Path, name: tuple[str, str, str], run: DistillOptions, seed: int) -> Cell:
    """One run of a study in ``out``: its folder, its seed, and the store that it shares."""
    parts = [find_method(part) for part in parse_method(run.method)]
    stored = parts[0].teacher and run.probe.norm != "batch" and not any(part.feature for part in parts)
    store = out / "stores" / f"{_views(run)}-seed{seed}" if stored else None
    storage = run.storage if stored else StorageOptions()
    folder = out / "cells" / row_name(*name) / f"seed{seed}"
    return Cell(*name, seed, replace(run, out=folder, seed=seed, store=store, storage=storage))


def _views(run: DistillOptions) -> str:
    """Names what a store holds: runs of one name and seed can share theirs."""
    settings = resolve_loss(run.method, run.loss)
    tau = settings.get("distance_temperature", 1.0) if settings.get("score") in PROBE_SCORES else 1.0
    data = plain(run.data) | {"verify": False}  # nothing to what a store holds
    if run.data.cleaned is None or not leaves_images_out(run.data.cleaned):
        del data["cleaned"]
    if run.probe.sparsity != "auto":  # which looks at labels
        data = {key: value for key, value in data.items() if not key.startswith("noise") and key != "labelled"}
    known = {
        "teacher": plain(run.teacher),
        "probe": {k: v for k, v in plain(run.probe).items() if k not in ("reference", "level_views")},
        "tau": None if tau in SHARED_TEMPERATURES else tau,
        "data": data,
        "views": plain(run.views),
        "storage": plain(run.storage),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
