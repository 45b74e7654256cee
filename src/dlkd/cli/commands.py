"""The commands of ``dlkd``: what each is for, its options, and the function that does the work."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A sub-command: its options and what is done with them, named so that only what is used is imported."""

    help: str
    options: str
    """``module:Dataclass``."""
    run: str
    """``module:function`` of the options."""
    example: str
    """What stands after ``dlkd``."""
    flags: dict[str, str]
    word: str = ""
    """The option that a word after the command stands for."""
    many: str = ""
    """The option that takes every word after it: paths, which are not read as YAML."""
    says: bool = True
    """Does it say how far it is? Then it can be told to be quiet."""
    json: bool = True
    """Has it a result that can be one JSON object?"""
    lines_without: str = ""
    """The option without which the result is lines on standard output."""
    beside: tuple[str, ...] = ("",)
    """Suffixes of what it writes at --out, where its function returns columns: the table itself, a page beside it."""

    @property
    def screen(self) -> dict[str, str]:
        """What can be said of the screen, with what it does; of one call of the command, and no part of its options."""
        quiet = {"quiet": "say nothing but warnings and errors"} if self.says else {}
        json = {"json": "print the result as one JSON object, and nothing else on standard output"} if self.json else {}
        return {**quiet, **json}


RUN_FLAGS = {
    "resume": "go on with the run in --out, with its own settings",
    "overwrite": "replace the run in --out",
    "force": "go on although the preflight says stop",
}
DISTILL_FLAGS = {
    **RUN_FLAGS,
    "with_baseline": "train the student alone as well, in OUT-baseline, and compare",
}
COLLECT = {"collect": "run nothing, but write the tables of what is there"}
TEST = {"final": "read the test images for every finished cell, and note it in the ledger", **COLLECT}
REPLACE = {"overwrite": "replace what is there"}
AUDIT_FLAGS = {
    "heads_only": "train the classifiers of the folds alone, on a pretrained network (--model)",
    **REPLACE,
}
EXPORT_FLAGS = {
    "int8": "write model.int8.onnx as well, calibrated on training images",
    "benchmark": "measure latency and size of student and teacher",
    **REPLACE,
}
TRAIN, DISTILL = "dlkd.train.options:TrainOptions", "dlkd.train.options:DistillOptions"
EVALUATE, DIFFICULTY = "dlkd.jobs.evaluate:EvaluateOptions", "dlkd.jobs.difficulty:DifficultyOptions"
STORE, METHODS = "dlkd.jobs.store:StoreFolder", "dlkd.jobs.methods:MethodsOptions"
COMPARE, TUNE = "dlkd.compare.study:CompareOptions", "dlkd.compare.tune:TuneOptions"
REPRODUCE = "dlkd.compare.reproduce:ReproduceOptions"
AUDIT, CLEAN = "dlkd.audit.options:AuditOptions", "dlkd.audit.clean:CleanOptions"
EXPORT, PREDICT = "dlkd.export.options:ExportOptions", "dlkd.export.predict:PredictOptions"
REPORT = "dlkd.report.job:ReportOptions"
SERVE = "dlkd.serve.job:ServeOptions"

GROUPS = {"store": "keep what the teacher says: build, verify, repair, info"}
"""First words of commands of two."""
COMMANDS = {
    "quickstart": Command(
        "digits with wrong labels: see it work in minutes",
        "dlkd.quickstart:Quickstart",
        "dlkd.quickstart:run",
        "quickstart --seeds 1",
        REPLACE,
    ),
    "doctor": Command(
        "is everything here that a run needs?",
        "dlkd.doctor:DoctorOptions",
        "dlkd.doctor:doctor",
        "doctor --out runs",
        {},
        says=False,
    ),
    "completion": Command(
        "commands and options by the Tab key: bash, zsh, fish",
        "dlkd.cli.completion:CompletionOptions",
        "dlkd.cli.completion:completion",
        "completion bash",
        {},
        "shell",
        says=False,
        json=False,
    ),
    "train": Command(
        "a classifier on labels alone: a teacher, a baseline",
        TRAIN,
        "dlkd.jobs.run:run",
        "train --data photos --model resnet20 --out runs/teacher",
        RUN_FLAGS,
    ),
    "distill": Command(
        "a student from a teacher",
        DISTILL,
        "dlkd.jobs.run:run",
        "distill --data photos --teacher runs/teacher --student resnet8 --out runs/student",
        DISTILL_FLAGS,
    ),
    "evaluate": Command(
        "score a trained model",
        EVALUATE,
        "dlkd.jobs.evaluate:evaluate",
        "evaluate --weights runs/student",
        REPLACE,
    ),
    "report": Command(
        "runs side by side in one page",
        REPORT,
        "dlkd.report.job:report",
        "report runs/student runs/baseline --out report.html",
        REPLACE,
        many="runs",
    ),
    "difficulty": Command(
        "how hard each image is for its teacher",
        DIFFICULTY,
        "dlkd.jobs.difficulty:difficulty",
        "difficulty --teacher.weights runs/teacher --out difficulty.csv",
        REPLACE,
        beside=("", ".html"),
    ),
    "methods": Command("list the methods", METHODS, "dlkd.jobs.methods:methods", "methods", {}, says=False),
    "store build": Command(
        "make the lessons of a run beforehand",
        DISTILL,
        "dlkd.jobs.store:build_store",
        "store build --teacher.weights runs/teacher --store store",
        {},
    ),
    "store verify": Command(
        "look at every byte of a store", STORE, "dlkd.jobs.store:verify_store", "store verify --store store", {}
    ),
    "store repair": Command(
        "make again what is damaged", DISTILL, "dlkd.jobs.store:repair_store", "store repair --store store", {}
    ),
    "store info": Command(
        "say what a store holds", STORE, "dlkd.jobs.store:store_info", "store info --store store", {}, says=False
    ),
    "audit": Command(
        "find wrong labels and hard images",
        AUDIT,
        "dlkd.audit.job:audit",
        "audit --data.name folder --data.root photos --folds 5 --out runs/audit",
        AUDIT_FLAGS,
    ),
    "clean": Command(
        "labels and weights out of an audit",
        CLEAN,
        "dlkd.audit.clean:clean",
        "clean runs/audit --out cleaned.csv",
        REPLACE,
        "audit",
    ),
    "compare": Command(
        "methods over seeds and conditions",
        COMPARE,
        "dlkd.compare.job:compare",
        "compare --run.teacher.weights runs/teacher --out runs/compare",
        TEST,
    ),
    "tune": Command(
        "settings for methods with one small budget",
        TUNE,
        "dlkd.compare.tune:tune",
        "tune --methods '[kd, dlkd]' --run.teacher.weights runs/teacher --out runs/tune",
        COLLECT,
    ),
    "reproduce": Command(
        "run a published row again", REPRODUCE, "dlkd.compare.reproduce:reproduce", "reproduce FILE/ROW", {}, "row"
    ),
    "export": Command(
        "the student alone: ONNX, torch.export, a hub folder",
        EXPORT,
        "dlkd.export.job:export",
        "export runs/student --to onnx --out exported",
        EXPORT_FLAGS,
        "run",
    ),
    "predict": Command(
        "ask a model about pictures",
        PREDICT,
        "dlkd.export.predict:predict",
        "predict runs/student --images photos --out answers.csv",
        REPLACE,
        "model",
        "images",
        lines_without="out",
    ),
    "serve": Command(
        "a page that shows what a model says of pictures",
        SERVE,
        "dlkd.serve.job:serve",
        "serve runs/student",
        {},
        "model",
        says=False,
        json=False,
    ),
}
