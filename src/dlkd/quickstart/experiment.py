"""The quickstart's experiment: two teachers, then students of each under the same views."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dlkd.data import DataOptions, load_data
from dlkd.errors import UserError
from dlkd.files import write_atomic, write_json
from dlkd.jobs.card import machine, plain
from dlkd.jobs.difficulty import DifficultyOptions, difficulty
from dlkd.jobs.run import run as run_job
from dlkd.quickstart.page import render
from dlkd.quickstart.summary import print_table, summarise
from dlkd.run_folder import new_run_folder
from dlkd.train.engine import EngineOptions
from dlkd.train.interrupt import Interrupted
from dlkd.train.optim import OptimOptions
from dlkd.train.options import DistillOptions, ModelOptions, RunOptions, TrainOptions
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions

TEACHER, STUDENT = ModelOptions("resnet14"), ModelOptions("resnet8x0.5")
OPTIM = OptimOptions(lr=0.1, nesterov=True, schedule="one_cycle")
# One thread: on images of 8×8 more gain nothing, and the same number everywhere gives the same figures.
ENGINE = EngineOptions(threads=1, evaluate_every=0, tensorboard=False, report=False, checkpoint_every=10**9)


@dataclass(frozen=True)
class Quickstart:
    """Options of ``dlkd quickstart``.

    Attributes:
        out: new folder for the results.
        overwrite: replace an earlier run in that folder.
        seeds: number of students for each row of the table.
        seed: of the split, the noise, the teachers and the first student.
        epochs: of students and teachers.
        noise: share of wrong training labels in each class.
        sparsity: share of the teacher's weights that the probe lacks.
    """

    out: Path = Path("runs/quickstart")
    overwrite: bool = False
    seeds: int = 3
    seed: int = 0
    epochs: int = 15
    noise: float = 0.4
    sparsity: float = 0.3

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"expected --{name} to be at least 1, but got {getattr(self, name)}")
        if not 0 <= self.seed <= 2**63 - self.seeds:
            raise UserError(f"expected --seed to be at least 0 and below 2^63, but got {self.seed}")
        if not 0 < self.noise <= 1:
            raise UserError(f"expected --noise to be in (0, 1], but got {self.noise}")
        if not 0 <= self.sparsity < 1:
            raise UserError(f"expected --sparsity to be in [0, 1), but got {self.sparsity}")

    @property
    def given(self) -> DataOptions:
        """The digits with wrong training labels."""
        return DataOptions("digits", held_out=0.0, test_share=0.3, noise=self.noise, seed=self.seed)

    @property
    def clean(self) -> DataOptions:
        """The same images with their true labels."""
        return DataOptions("digits", held_out=0.0, test_share=0.3, seed=self.seed)


def run(options: Quickstart) -> dict[str, Any]:
    """Train everything, print the table, write ``results.json`` and ``report.html``."""
    options.check()
    card: dict[str, Any] = {"command": "quickstart", "settings": plain(options), **machine()}
    results = options.out / "results.json"
    with new_run_folder(options.out, overwrite=options.overwrite, card=card, begun=results.exists):
        try:
            return _run(options, card)
        except Interrupted as error:
            # A part could be resumed, the whole cannot: it takes two minutes.
            raise KeyboardInterrupt from error


def _run(options: Quickstart, card: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    console = Console(highlight=False, markup=False, emoji=False)
    rows: list[dict[str, Any]] = []
    seeds = range(options.seed, options.seed + options.seeds)

    def add(method: str, teacher: str, seed: int, results: dict[str, Any]) -> None:
        rows.append({"method": method, "teacher": teacher, "seed": seed, **_kept(results)})
        of = (
            ""
            if teacher == "none"
            else f", {teacher} labels"
            if method == "teacher"
            else f" from the {teacher} teacher"
        )
        console.print(f"  {method}{of}, seed {seed}: {results['test']['accuracy']:.2f} %")

    for seed in seeds:
        add("no teacher", "none", seed, _train(options, "alone", STUDENT, options.given, seed))
    scores: dict[str, dict[str, np.ndarray]] = {}
    for teacher, data in (("clean", options.clean), ("noisy", options.given)):
        trained = _train(options, f"teacher-{teacher}", TEACHER, data, options.seed)
        add("teacher", teacher, options.seed, trained)
        for seed in seeds:
            for method in ("kd", "dlkd"):
                add(method.upper(), teacher, seed, _distill(options, method, teacher, seed))
        scores[teacher] = _difficulty(options, teacher)

    given = load_data(options.given)
    summary = summarise(rows, len(given.test))
    seconds = time.monotonic() - started
    print_table(summary, seconds)
    results = {**card, "seconds": seconds, "rows": rows, "summary": summary}
    write_json(options.out / "results.json", results)
    write_atomic(options.out / "report.html", render(results, scores, given.train))
    console.print(f"Report: {options.out / 'report.html'}", soft_wrap=True)
    return results


def _kept(results: dict[str, Any]) -> dict[str, Any]:
    test = {name: results["test"][name] for name in ("accuracy", "ece")}
    return {**test, **{name: results[name] for name in ("by_level", "reliability") if name in results}}


def _train(options: Quickstart, name: str, model: ModelOptions, data: DataOptions, seed: int) -> dict[str, Any]:
    folder = options.out / "parts" / (f"{name}-{seed}" if name == "alone" else name)
    return run_job(TrainOptions(**_common(options, folder, data, seed), model=model), quiet=True)


def _distill(options: Quickstart, method: str, teacher: str, seed: int) -> dict[str, Any]:
    distill = DistillOptions(
        **_common(options, options.out / "parts" / f"{method}-{teacher}-{seed}", options.given, seed),
        method=method,
        student=STUDENT,
        teacher=TeacherOptions(weights=options.out / "parts" / f"teacher-{teacher}"),
        probe=ProbeOptions(sparsity=options.sparsity),
        # KD and DLKD of one seed see the same views: the teacher is asked once.
        store=options.out / "parts" / f"store-{teacher}-{seed}",
    )
    return run_job(distill, quiet=True)


def _common(options: Quickstart, folder: Path, data: DataOptions, seed: int) -> dict[str, Any]:
    run = RunOptions(
        out=folder, force=True, seed=seed, device="cpu", epochs=options.epochs, data=data, optim=OPTIM, engine=ENGINE
    )
    return {name: getattr(run, name) for name in run.__dataclass_fields__}


def _difficulty(options: Quickstart, teacher: str) -> dict[str, np.ndarray]:
    wanted = DifficultyOptions(
        out=options.out / f"difficulty-{teacher}.csv",
        device="cpu",
        data=options.given,
        teacher=TeacherOptions(weights=options.out / "parts" / f"teacher-{teacher}"),
        probe=ProbeOptions(sparsity=options.sparsity),
    )
    return difficulty(wanted, page=False)
