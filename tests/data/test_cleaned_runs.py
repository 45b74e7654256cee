"""Runs on cleaned labels, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from cleaned_tables import write
from refusals import refused

from dlkd.data import DataOptions, load_data


def test_a_run_on_cleaned_labels(distill, good, dlkd, tmp_path):
    whole = load_data(DataOptions(per_class=30, noise=0.3, held_out=0.0)).train
    names = np.array([*whole.class_names, ""])
    labels, weights = whole.labels.numpy().copy(), np.linspace(0.1, 1, len(whole)).round(4)
    labels[::7], weights[::11] = -1, 0
    columns = {"id": whole.ids, "given_label": names[whole.labels], "label": names[labels], "weight": weights}
    file, out = write(tmp_path / "cleaned.csv", columns), tmp_path / "run"
    done = good(*distill(out, "--data.noise", 0.3, "--data.cleaned", file))
    assert "cleaned.csv: 0 labels changed" in done.out
    data = load_data(DataOptions(per_class=30, noise=0.3, cleaned=file))
    with np.load(out / "labels.npz") as kept:
        assert np.array_equal(kept["train_ids"], data.train.ids)
        assert np.array_equal(kept["train_labels"], data.train.labels.numpy())
        assert np.array_equal(kept["train_weights"], data.train.weights.numpy())
    card = json.loads((out / "run.json").read_text())
    assert card["data"]["samples"] == len(data.train) and card["data"]["unlabelled"] == data.train.unlabelled > 0
    # The teacher was trained on these images before they were cleaned: none of the held-out ones is new to it.
    assert card["teacher"]["seen"] == "kept"
    # The same run goes on, but not with another weight, another label, or another image.
    good("distill", "--out", out, "--resume")
    (out / "results.json").unlink()
    for change in ({"weight": np.where(weights == weights[1], 0.5, weights)}, {"label": names[whole.labels]}):
        write(file, {**columns, **change})
        refused(dlkd("distill", "--out", out, "--resume"), "not those", "start a new run")
    write(file, {**columns, "weight": np.ones(len(whole))})
    refused(dlkd("distill", "--out", out, "--resume"), "not those", "start a new run")
    write(file, columns)
    good("distill", "--out", out, "--resume")
    assert (out / "results.json").is_file()


@pytest.mark.parametrize(
    "more",
    [
        ("--method", "dkd"),
        ("--method", "nkd", "--label.term", "gce"),
        ("--views.mixing", "mixup", "--label.term", "elr"),
        ("--views.mixing", "cutmix", "--loss.score", "cross_entropy", "--label.term", "trust"),
    ],
)
def test_weights_in_other_runs(distill, good, tmp_path, weights, more):
    """They change what is learnt; one for all changes nothing, be it 1 or 1/2."""
    whole = load_data(DataOptions(per_class=30, held_out=0.0)).train
    names, n = [whole.class_names[k] for k in whole.labels], len(whole)
    each = {"plain": None, "one": np.ones(n), "half": np.full(n, 0.5), "some": np.linspace(0.01, 1, n).round(4)}
    learnt = {}
    for name, values in each.items():
        cleaned = ()
        if values is not None:
            columns = {"id": whole.ids, "given_label": names, "label": names, "weight": values}
            cleaned = ("--data.cleaned", write(tmp_path / f"{name}.csv", columns))
        good(*distill(tmp_path / name, *more, *cleaned))
        learnt[name] = torch.cat([t.double().flatten() for t in weights(tmp_path / name).values()])
    assert torch.equal(learnt["plain"], learnt["one"])
    torch.testing.assert_close(learnt["half"], learnt["plain"], rtol=1e-4, atol=1e-5)
    assert (learnt["some"] - learnt["plain"]).abs().max() > 1e-3


def test_a_method_that_needs_every_label(distill, dlkd, tmp_path):
    """Labels that were taken away are missing to it, as hidden ones are."""
    whole = load_data(DataOptions(per_class=30, held_out=0.0)).train
    file = write(tmp_path / "cleaned.csv", {"id": whole.ids[:7], "label": [""] * 7})
    refused(dlkd(*distill(tmp_path / "run", "--data.cleaned", file, "--method", "dkd")), "have no label", "method dkd")
    assert not (tmp_path / "run").exists()


def test_a_store_is_shared_by_raw_and_cleaned_labels(distill, good, tmp_path):
    whole = load_data(DataOptions(per_class=30, noise=0.3, held_out=0.0)).train
    names = np.array(whole.class_names)
    true = names[load_data(DataOptions(per_class=30, held_out=0.0)).train.labels]
    columns = {"id": whole.ids, "label": true, "weight": np.linspace(0.5, 1, len(whole)).round(3)}
    file, store = write(tmp_path / "cleaned.csv", columns), tmp_path / "store"
    good(*distill(tmp_path / "raw", "--data.noise", 0.3, "--store", store))
    before = {p: p.read_bytes() for p in store.rglob("*.safetensors")}
    assert before
    good(*distill(tmp_path / "clean", "--data.noise", 0.3, "--data.cleaned", file, "--store", store))
    assert {p: p.read_bytes() for p in store.rglob("*.safetensors")} == before


def test_a_bad_table_leaves_no_run(distill, dlkd, tmp_path):
    out = tmp_path / "run"
    refused(dlkd(*distill(out, "--data.cleaned", tmp_path / "none.csv")), "none.csv", "--data.cleaned")
    (tmp_path / "a.csv").write_text("id,label\n0,ten\n")
    refused(dlkd(*distill(out, "--data.cleaned", tmp_path / "a.csv")), "ten")
    assert not out.exists()
    refused(dlkd(*distill(tmp_path, "--data.cleaned", tmp_path / "a.csv")), "--out")
