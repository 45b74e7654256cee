"""W&B and MLflow, the real libraries without a server: what they were told is what the run's own tables say."""

import getpass
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dlkd.errors import UserError
from dlkd.train.engine import EngineOptions

PAGE = Path(__file__).parents[2] / "docs" / "guide.md"
SECRET = "planted-token-5501"
RESUMED = ("train", "--out", "run", "--resume", "--model.name", "small_students:small")
BOTH = ("--engine.track", "[wandb, mlflow]")
MODULE = """
import os, pathlib, signal, subprocess
import torch
from torch import nn

class Small(nn.Sequential):
    steps = 0
    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.steps += 1
            if self.steps == 6:
                at_sixth(os.environ.get("AT_SIXTH", ""))
            if self.steps == 9 and os.environ.get("AT_NINTH") == "mend":
                store().write_bytes(kept[0])
        return super().forward(x)

def small(num_classes=10, in_chans=1):
    return Small(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))

kept = []

def at_sixth(what):
    if what in ("SIGTERM", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, what))
    if what == "break":
        kept.append(store().read_bytes())
        store().write_bytes(b"no database" * 1000)
        found = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True)
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGKILL)

def store():
    return pathlib.Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
"""
"""Students to whom something happens in the sixth training step of a process; an epoch has four."""


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """An MLflow database without runs, which takes seconds to make."""
    file = tmp_path_factory.mktemp("store") / "empty.db"
    code = "import sys; from mlflow.tracking import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{file}"], check=True, capture_output=True, cwd=file.parent)
    return file


@pytest.fixture
def place(tmp_path, empty_store, monkeypatch):
    """A folder to work in, with a module of students, an MLflow store and no account at W&B."""
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    (tmp_path / "small_students.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in os.environ if n.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "NETRC": str(tmp_path / "no-netrc"),
        "SECRET_TOKEN": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def arguments(out, *more):
    return (
        *("train", "--out", out, "--model.name", "small_students:small", "--data.per_class", 8, "--epochs", 3),
        *("--data.held_out", 0.2, "--optim.batch_size", 14, "--device", "cpu", "--engine.threads", 1, *more),
    )


def history(run):
    """What an MLflow run was told: by figure its (step, value), in order."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    names = client.get_run(run).data.metrics
    return {n: sorted((m.step, m.value) for m in client.get_metric_history(run, n)) for n in names}


def runs(experiment="dlkd"):
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def records(out):
    """The records of the only W&B file below ``out``: blocks of 32 KiB with pieces of (checksum, length, kind)."""
    from wandb.proto import wandb_internal_pb2

    (file,) = (out / "wandb").glob("*run-*/run-*.wandb")
    data, at, piece, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            found.append(wandb_internal_pb2.Record.FromString(piece))
            piece = b""
    return found, data


def told(found):
    """The rows of figures among the records."""
    rows = []
    for record in found:
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


def same_as_table(out, table, run, but=()):
    """Both trackers know every row of ``metrics.csv`` once, and nothing else; MLflow ``but`` some of the figures."""
    rows = [{k: v for k, v in row.items() if v != ""} for row in table(out / "metrics.csv")]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert told(records(out)[0]) == [pytest.approx(row, rel=1e-12) for row in rows]
    expected = {name: [(row["step"], row[name]) for row in rows if name in row] for name in rows[-1]}
    for name, found in history(run).items():
        pairs = expected.pop(name)
        assert [step for step, _ in found] == [step for step, _ in pairs], name
        assert name in but or [v for _, v in found] == pytest.approx([v for _, v in pairs], rel=1e-12), name
    assert not expected


def test_figures_options_and_files(place, good, table):
    from mlflow.artifacts import download_artifacts

    done = good(*arguments("first", *BOTH, "--engine.report", "true"))
    (run,) = runs()
    out = place / "first"
    assert json.loads((out / "tracking.json").read_text())["mlflow"] == run.info.run_id
    assert (run.info.status, run.info.run_name, run.info.user_id) == ("FINISHED", "first", "unknown")
    same_as_table(out, table, run.info.run_id)
    assert run.data.params["data.per_class"] == "8" and run.data.params["model.name"] == "small_students:small"
    files = ("run.json", "results.json", "report.html")
    for name in files:
        copy = download_artifacts(run_id=run.info.run_id, artifact_path=name)
        assert Path(copy).read_bytes() == (out / name).read_bytes()
    found, _ = records(out)
    (begun,) = [r.run for r in found if r.HasField("run")]
    assert (begun.project, begun.display_name) == ("dlkd", "first")
    assert json.loads(next(i.value_json for i in begun.config.update if i.key == "data"))["per_class"] == 8
    (artefact,) = [a for a in map(artefact_of, found) if a is not None]
    assert {e.path: Path(e.local_path) for e in artefact.manifest.contents} == {n: out / n for n in files}
    (line,) = [line for line in done.out.splitlines() if line.startswith("W&B is offline")]
    assert Path(line.split("wandb sync ")[1]).is_dir()


def artefact_of(record):
    if record.HasField("artifact"):
        return record.artifact
    request = record.request if record.HasField("request") else None
    return request.log_artifact.artifact if request is not None and request.HasField("log_artifact") else None


def test_names_of_the_environment_are_taken(place, good, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "wandb-name")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mlflow-name")
    good(*arguments("run", *BOTH, "--epochs", 1))
    assert [run.info.run_name for run in runs("mlflow-name")] == ["run"]
    assert [r.run.project for r in records(place / "run")[0] if r.HasField("run")] == ["wandb-name"]


def test_nothing_about_machine_or_environment_is_told(place, good, monkeypatch):
    good(*arguments("run", "--engine.track", "[wandb, mlflow]", "--engine.report", "false"))
    # The path of a file that waits to be sent is in the record for `wandb sync`, and not sent by it.
    sent = [r for r in records(place / "run")[0] if artefact_of(r) is None]
    said = b"".join(r.SerializeToString() for r in sent) + json.dumps(runs()[0].data.to_dictionary()).encode()
    assert b"small_students:small" in said
    for secret in (SECRET, str(place), str(Path.home()), socket.gethostname(), sys.executable):
        assert len(secret) < 6 or secret.encode() not in said, secret
    (run,) = [r.run for r in sent if r.HasField("run")]
    assert not run.host and not run.git.remote_url and not run.git.commit
    assert getpass.getuser() not in runs()[0].data.tags.values()
    folder = Path(next((place / "run" / "wandb").glob("offline-run-*")))
    assert not [p.name for p in (folder / "files").rglob("*") if p.is_file()]


def test_killed_and_resumed(place, dlkd, dlkd_process, good, table, monkeypatch):
    monkeypatch.setenv("AT_SIXTH", "SIGTERM")
    assert dlkd(*arguments("run", *BOTH)).status == 75
    (run,) = runs()
    assert run.info.status == "KILLED" and [step for step, _ in history(run.info.run_id)["loss"]] == [4]
    assert [row["step"] for row in told(records(place / "run")[0])] == [4]
    monkeypatch.setenv("AT_SIXTH", "SIGKILL")  # after the rest of the second epoch, in the last step of the third
    killed = dlkd_process(*RESUMED)
    assert killed.status == -9
    assert [step for step, _ in history(run.info.run_id)["loss"]] == [4, 8]
    (place / "run" / "checkpoint.pt").unlink()  # the second epoch is trained again
    monkeypatch.delenv("AT_SIXTH")
    good(*RESUMED)
    # How fast an epoch was is not the same twice; what MLflow was told stays.
    same_as_table(place / "run", table, run.info.run_id, but=("images_per_second", "data_wait"))
    assert [(r.info.run_id, r.info.status) for r in runs()] == [(run.info.run_id, "FINISHED")]


def test_run_that_mlflow_lost_begins_anew(place, dlkd, good, table, monkeypatch, empty_store):
    monkeypatch.setenv("AT_SIXTH", "SIGTERM")
    assert dlkd(*arguments("run", *BOTH)).status == 75
    monkeypatch.delenv("AT_SIXTH")
    (place / "other.db").write_bytes(empty_store.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'other.db'}")
    good(*RESUMED)
    (run,) = runs()
    same_as_table(place / "run", table, run.info.run_id)


def notes(done):
    return [line for line in done.out.splitlines() if "is not told any more" in line]


def test_trackers_that_die_do_not_stop_the_run(place, good, dlkd_process, same, table, monkeypatch):
    good(*arguments("alone"))
    monkeypatch.setenv("AT_SIXTH", "break")
    done = dlkd_process(*arguments("run", *BOTH))
    assert done.status == 0, done.err
    assert same(place / "alone", place / "run")
    said = notes(done)
    # MLflow's store is broken for good; W&B's process is started again at the end, and told everything.
    assert [line.split()[1] for line in said].count("MLflow") == 2 and "Traceback" not in done.out + done.err
    assert [line.split()[1] for line in said].count("W&B") <= 1
    assert [row["step"] for row in told(records(place / "run")[0])] == [4, 8, 12]
    assert said[0][6:] in json.loads((place / "run" / "results.json").read_text())["remarks"]


def test_tracker_that_comes_back_is_told_what_it_missed(place, dlkd_process, table, monkeypatch):
    monkeypatch.setenv("AT_SIXTH", "break")
    monkeypatch.setenv("AT_NINTH", "mend")
    done = dlkd_process(*arguments("run", "--engine.track", "mlflow"))
    assert done.status == 0 and len(notes(done)) == 1, done.err
    (run,) = runs()
    losses = [(row["step"], pytest.approx(row["loss"])) for row in table(place / "run" / "metrics.csv")]
    assert history(run.info.run_id)["loss"] == losses and run.info.status == "FINISHED"


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_servers_that_do_not_answer_do_not_stop_the_run(place, dlkd_process, monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    for name, value in {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "WANDB_BASE_URL": address,
        "WANDB_API_KEY": "k" * 40,
        "WANDB_INIT_TIMEOUT": "2",
    }.items():
        monkeypatch.setenv(name, value)
    done = dlkd_process(*arguments("run", *BOTH))
    assert done.status == 0 and (place / "run" / "results.json").is_file(), done.err
    assert sorted(line.split()[1] for line in notes(done)) == ["MLflow", "MLflow", "W&B", "W&B"]
    assert "Traceback" not in done.out + done.err and "k" * 40 not in done.out + done.err


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_library_is_one_line_before_anything_begins(place, dlkd, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    done = dlkd(*arguments("run", "--engine.track", name))
    assert done.status == 2 and not (place / "run").exists()
    assert done.err.strip().splitlines()[-1].endswith(f"pip install 'dlkd[{name}]'")


def test_folder_of_that_name_is_no_library(place, monkeypatch):
    """As W&B leaves one in the working folder."""
    (place / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(place)])
    with pytest.raises(UserError, match=r"pip install 'dlkd\[wandb\]'"):
        EngineOptions(track="wandb").check()


def test_unknown_tracker_is_refused(place, dlkd):
    done = dlkd(*arguments("run", "--engine.track", "neptune"))
    assert done.status == 2 and "neptune" in done.err and not (place / "run").exists()


def test_run_of_before_is_resumed(place, dlkd, good, monkeypatch):
    """Its options know nothing of trackers."""
    monkeypatch.setenv("AT_SIXTH", "SIGTERM")
    assert dlkd(*arguments("run")).status == 75
    config = place / "run" / "config.yaml"
    before = config.read_text()
    assert "  track: null\n" in before and "  tensorboard: true\n" in before
    config.write_text(before.replace("  track: null\n", ""))
    monkeypatch.delenv("AT_SIXTH")
    good(*RESUMED)
    assert not (place / "run" / "tracking.json").exists() and (place / "run" / "results.json").is_file()


def test_first_of_two_processes_speaks(place):
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dlkd")
    command = [*launch, *map(str, arguments("run", *BOTH))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    (run,) = runs()
    assert [step for step, _ in history(run.info.run_id)["loss"]] == [4, 8, 12]
    assert [row["step"] for row in told(records(place / "run")[0])] == [4, 8, 12]


def test_block_of_the_guide_runs(place, good):
    section = PAGE.read_text().partition("\n## Tracking\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    good(*shlex.split(block)[1:], "--data.per_class", 8, "--device", "cpu", "--engine.threads", 1)
    assert len(runs()) == 1 and len(records(place / "runs" / "tracked")[0]) > 3
