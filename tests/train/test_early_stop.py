"""A run ends where held-out images have gained nothing for as long as it was told to wait."""

import json
import shutil

import pytest

from dlkd.train.checkpoint import CURRENT

# Next to nothing is learnt at such a rate, only statistics of batches move: the best epoch is one of the first.
STILL = ("--optim.lr", 1e-9, "--optim.batch_size", 50, "--data.per_class", 60, "--epochs", 30)


def expected_end(accuracies, patience, every, epochs):
    """The first evaluated epoch with `patience` epochs behind the first of the best: by the definition, one by one."""
    best = at = None
    for epoch in range(1, epochs + 1):
        if epoch % every and epoch != epochs:
            continue
        if best is None or accuracies[epoch] > best:
            best, at = accuracies[epoch], epoch
        elif epoch - at >= patience:
            return epoch
    return epochs


@pytest.fixture(scope="module")
def whole(tmp_path_factory, good, train):
    """A run that does learn, to its end: its folder."""
    out = tmp_path_factory.mktemp("early") / "whole"
    good(*train(out, "--data.per_class", 60, "--epochs", 14, "--optim.lr", 0.1, "--engine.checkpoint_every", 5))
    return out


@pytest.fixture(scope="module")
def accuracies(whole, table):
    return {int(row["epoch"]): row["held_out_accuracy"] for row in table(whole / "metrics.csv")}


@pytest.mark.parametrize(("patience", "every"), [(1, 1), (2, 1), (1, 3)])
def test_it_ends_where_the_definition_says(patience, every, whole, accuracies, train, good, table, tmp_path):
    """Epoch by epoch the run is the one that was not stopped."""
    end = expected_end(accuracies, patience, every, 14)
    assert end < 14  # or nothing is shown here
    more = ("--early_stop", patience, "--engine.evaluate_every", every)
    done = good(*train(tmp_path / "run", "--data.per_class", 60, "--epochs", 14, "--optim.lr", 0.1, *more))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["epochs"] == end and results["weights"] == "last epoch"
    rows = table(tmp_path / "run" / "metrics.csv")
    timed = ("images_per_second", "data_wait")
    plain = [{k: v for k, v in row.items() if not k.startswith(timed) and k != "held_out_accuracy"} for row in rows]
    full = [{k: v for k, v in row.items() if k in plain[0]} for row in table(whole / "metrics.csv")]
    assert plain == full[:end]
    best = max((a, -e) for e, a in accuracies.items() if e <= end and (e % every == 0 or e == end))
    expected = (
        f"stopped after epoch {end} of 14, since the held-out accuracy had not risen above the {best[0]:.2f} % of "
    )
    assert any(remark.startswith(f"{expected}epoch {-best[1]};") for remark in results["remarks"])
    assert "note" not in done.err


def test_stopped_between_its_last_checkpoint_and_its_results(train, good, same, tmp_path):
    """As by a power cut: it takes no step more, and says the same."""
    out = tmp_path / "run"
    good(*train(out, *STILL, "--early_stop", 2))
    before = json.loads((out / "results.json").read_text())
    assert before["epochs"] < 30
    (killed := tmp_path / "killed").mkdir()
    for name in ("run.json", "config.yaml", "labels.npz", CURRENT):
        shutil.copy(out / name, killed / name)
    good("train", "--resume", "--out", killed)
    after = json.loads((killed / "results.json").read_text())
    assert same(out, killed) and (killed / "metrics.csv").read_bytes() == (out / "metrics.csv").read_bytes()
    for name in ("epochs", "test", "held_out", "remarks"):
        assert after[name] == before[name], name


def test_with_a_store_only_what_is_shown_is_stored(distill, good, same, tmp_path):
    """A stopped run with a store is the stopped run without one."""
    more = (*STILL, "--early_stop", 1, "--method", "kd", "--storage.dtype", "fp32")
    good(*distill(tmp_path / "stored", *more, "--store", tmp_path / "store"))
    good(*distill(tmp_path / "live", *more[:-2]))
    assert same(tmp_path / "stored", tmp_path / "live")
    ends = [json.loads((tmp_path / name / "results.json").read_text())["epochs"] for name in ("stored", "live")]
    assert ends[0] == ends[1] < 30
    views = {file.name.split("-")[1] for file in (tmp_path / "store").glob("view-*")}
    assert len(views) == ends[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--early_stop", 0), "expected --early_stop to be at least 1, but got 0"),
        (("--early_stop", 1, "--data.held_out", 0), "expected --data.held_out and --engine.evaluate_every above 0"),
        (("--early_stop", 1, "--engine.evaluate_every", 0), "expected --data.held_out and --engine.evaluate_every"),
        (("--early_stop", 1, "--data.per_class", 4), "expected held-out images with --early_stop"),
    ],
)
def test_without_images_to_look_at(options, message, train, dlkd, tmp_path):
    done = dlkd(*train(tmp_path / "run", *options))
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_patience_is_another_run(whole, dlkd):
    done = dlkd("train", "--resume", "--out", whole, "--early_stop", 3)
    assert done.status == 2 and "--early_stop is another now" in done.err
