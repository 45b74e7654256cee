"""Options that make no sense, and places that cannot be written to."""

from __future__ import annotations

from pathlib import Path

from bad_input_cases.place import Case, Place

TOO_LONG = "x" * 5000


def _train(what: str, says: str, *more: object, process: bool = False) -> Case:
    return Case("options", what, lambda place: place.train(*more), says, process=process)


def _distill(what: str, says: str, *more: object) -> Case:
    return Case("options", what, lambda place: place.distill(*more), says)


def _plain(what: str, says: str, *arguments: str) -> Case:
    return Case("options", what, lambda _: arguments, says)


def _folder_of_others(place: Place) -> list[str]:
    place.write("new/thesis.txt", "precious")
    return place.train("--overwrite")


def _out_is_a_file(place: Place) -> list[str]:
    place.write("new", "mine")
    return place.train()


def _out_is_a_run(place: Place) -> list[str]:
    return place.train("--out", place.copy("teacher"))


def _inputs_in_out(place: Place) -> list[str]:
    teacher = place.copy("teacher")
    return place.distill("--out", teacher, "--overwrite", teacher=teacher)


def _loop(place: Place) -> list[str]:
    (place.folder / "loop").symlink_to("loop")
    return ["evaluate", "--weights", str(place.folder / "loop" / "student.safetensors")]


def _out_exists(place: Place) -> list[str]:
    file = place.write("difficulty.csv", "mine")
    return ["difficulty", "--out", str(file), "--teacher.weights", str(place.teacher)]


CASES = (
    _plain("a command that is misspelt", "did you mean distill?", "distil"),
    _plain("a name with a terminal code as command", "expected a command", "\x1b[31mtrain\x07"),
    _train("an option that is misspelt", "did you mean --optim.lr?", "--optim.lrr", 1),
    _train("a word without an option", "stray", "stray"),
    _train("an option without a value", "--epochs", "--epochs"),
    _train("0 epochs", "at least 1", "--epochs", 0),
    _train("1e999 epochs", "a whole number", "--epochs", "1e999"),
    _train("10⁴⁰⁰ as seed", "--seed", "--seed", "1" + "0" * 400),
    _train("a learning rate that is no number", "above 0", "--optim.lr", ".nan"),
    _train("a share above 1", "[0, 1]", "--data.noise", 1.5),
    _train("a batch larger than the data", "--optim.batch_size", "--optim.batch_size", 100000),
    _train("a group given as a number", "a group of options", "--optim", 3),
    _train("an unknown model", "did you mean", "--model.name", "resnet21"),
    _train("a model factory that does not exist", "PYTHONPATH", "--model.name", "no_such_module:make"),
    _train("a model factory that is no model", "torch.nn.Module", "--model.name", "builtins:dict"),
    _train("a device that is not there", "--device auto", "--device", "cuda:9", process=True),
    _train("fp16 on a CPU", "CPU", "--engine.precision", "fp16"),
    _train("an unknown data set", "--data.name", "--data.name", "cifar-10"),
    _train("an input of 10⁹ pixels a side", "at most", "--model.resolution", 10**9),
    _train("--resume and --overwrite at once", "--resume", "--resume", "--overwrite"),
    _train("--resume without a run", "leave --resume out", "--resume"),
    _train("a folder in /proc", "could not write", "--out", "/proc/run"),
    _train("a folder with a name of 5,000 characters", "too long", "--out", TOO_LONG),
    _train("a recipe with a name of 5,000 characters", "too long", "--config", TOO_LONG),
    _train("data at a name of 5,000 characters", "too long", "--data.name", "folder", "--data.root", TOO_LONG),
    Case("options", "a folder with other files, --overwrite or not", _folder_of_others, "no run of dlkd"),
    Case("options", "a file where the folder should be", _out_is_a_file, "new or empty folder"),
    Case("options", "a folder with a run", _out_is_a_run, "--overwrite to replace it"),
    Case("options", "a teacher in the folder that is to be replaced", _inputs_in_out, "outside the folder of the run"),
    Case("options", "weights behind a link to itself", _loop, "there is nothing"),
    Case(
        "options",
        "a disk that is full at once",
        lambda place: place.train(),
        "is the disk full?",
        process=True,
        file_limit=20000,
    ),
    _distill("an unknown method", "did you mean", "--method", "dlkdd"),
    _distill("methods that do not go together", "alone", "--method", "ce+kd"),
    _distill("a setting of another method", "has no --loss.t_easy", "--method", "kd", "--loss.t_easy", 3),
    _distill("a temperature of 0", "positive", "--loss.t_easy", 0),
    _distill("a sparsity of 1", "[0, 1)", "--probe.sparsity", 1),
    _distill("a probe that is the teacher", "--force", "--probe.sparsity", 0),
    _distill("a layer that is not there", "layer", "--method", "at", "--feature.student_layers", "[no.such]"),
    _plain("evaluate without weights", "--weights", "evaluate"),
    _plain("evaluate nothing", "there is nothing", "evaluate", "--weights", "none"),
    Case(
        "options",
        "a corruption that is unknown",
        lambda place: ["evaluate", "--weights", place.teacher, "--corruptions", "rain"],
        "rain",
    ),
    Case(
        "options",
        "figures over another file",
        lambda place: ["evaluate", "--weights", place.teacher, "--out", place.write("mine.json", "{}")],
        "is there already",
    ),
    Case(
        "options",
        "held-out images of a data set that has none",
        lambda place: ["evaluate", "--weights", place.teacher, "--split", "held_out", "--data.held_out", 0],
        "held-out",
    ),
    _plain("difficulty without a teacher", "teacher", "difficulty", "--out", "new.csv"),
    Case("options", "a table over another file", _out_exists, "is there already"),
    Case(
        "options",
        "a table of an unknown kind",
        lambda place: ["difficulty", "--out", "new.doc", "--teacher.weights", place.teacher],
        ".csv or .parquet",
    ),
    Case(
        "options",
        "a table in a folder that is not there",
        lambda place: ["difficulty", "--out", Path("no") / "new.csv", "--teacher.weights", place.teacher],
        "make it first",
    ),
)
