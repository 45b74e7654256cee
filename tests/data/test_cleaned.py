"""Labels and weights from a table: what becomes of the images, of the loss, and of a run."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from dlkd.data import DataOptions, ViewOptions, load_data, view_family
from dlkd.data.cleaned import leaves_images_out
from dlkd.errors import UserError
from dlkd.methods import Signals, make_method

OPTIONS = DataOptions(per_class=20, noise=0.3)
PLAIN = load_data(OPTIONS)
WHOLE = load_data(replace(OPTIONS, held_out=0.0)).train


def write(file, columns):
    """As ``dlkd clean`` does."""
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


def table(file, **changes):
    """A table of all training images that changes nothing, but for ``changes`` of columns; None leaves one out."""
    given_label = [WHOLE.class_names[k] for k in WHOLE.labels]
    columns = {"id": WHOLE.ids, "given_label": given_label, "label": given_label, "weight": [1.0] * len(WHOLE)}
    columns |= changes
    return write(file, {name: values for name, values in columns.items() if values is not None})


def load(file, **changes):
    return load_data(replace(OPTIONS, cleaned=file, **changes))


def refused(done, *parts):
    assert done.status == 2, (done.status, done.err)
    assert len(done.err.splitlines()) == 1 and done.err.startswith("dlkd: error: ")
    for part in parts:
        assert part in done.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Somewhere for the tables of hypothesis' examples."""
    return tmp_path_factory.mktemp("tables")


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.2]), st.booleans())
def test_labels_and_weights_of_the_images(folder, seed, taken, out, weighted):
    """Whatever a table says of an image is so; images that it does not name, and all others, are as they were."""
    random = np.random.default_rng(seed)
    n = len(WHOLE)
    labels = np.where(random.random(n) < 0.3, random.integers(0, 10, n), WHOLE.labels.numpy())
    labels[random.random(n) < taken] = -1
    weights = random.uniform(0.1, 1, n) if weighted else np.ones(n)
    weights[random.random(n) < out] = 0
    named = random.permutation(np.flatnonzero(random.random(n) < 0.7))  # in any order
    names = np.array([*WHOLE.class_names, ""])
    file = table(
        folder / "table.csv",
        id=WHOLE.ids[named],
        given_label=names[WHOLE.labels[named]],
        label=names[labels[named]],
        weight=weights[named],
    )
    data = load(file)
    of_label, of_weight = dict(zip(WHOLE.ids, WHOLE.labels.tolist(), strict=True)), {}
    of_label |= dict(zip(WHOLE.ids[named], labels[named].tolist(), strict=True))
    of_weight |= dict(zip(WHOLE.ids[named], weights[named], strict=True))
    kept = [i for i in PLAIN.train.ids if of_weight.get(i, 1) > 0]
    assert data.train.ids.tolist() == kept
    assert data.train.labels.tolist() == [of_label[i] for i in kept]
    expected = np.array([of_weight.get(i, 1) for i in kept], np.float32)
    if np.all(expected == 1):
        assert data.train.weights is None
    else:
        assert np.array_equal(data.train.weights.numpy(), expected)
    # What is known to be wrong is known of the new labels; a label that was taken away is not wrong.
    true = PLAIN.clean.numpy()[data.train.ids]
    assert np.array_equal(data.train.wrong, (data.train.labels.numpy() != true) & (data.train.labels.numpy() >= 0))
    rows = torch.from_numpy(np.searchsorted(PLAIN.train.ids, data.train.ids))
    assert torch.equal(data.train.pixels.array, PLAIN.train.pixels.array[rows])
    for a, b in ((data.held_out, PLAIN.held_out), (data.test, PLAIN.test), (data.earlier[0], PLAIN.train)):
        assert a.digest() == b.digest() and torch.equal(a.labels, b.labels) and a.weights is None


def test_what_is_said_of_it(tmp_path):
    labels = np.array([*WHOLE.class_names, ""])[WHOLE.labels]
    weights = np.ones(len(WHOLE))
    rows = np.searchsorted(WHOLE.ids, PLAIN.train.ids[:9])
    labels[rows[:2]] = [WHOLE.class_names[(int(WHOLE.labels[k]) + 1) % 10] for k in rows[:2]]
    labels[rows[2:5]] = ""
    weights[rows[5:9]] = 0
    weights[np.searchsorted(WHOLE.ids, PLAIN.held_out.ids)] = 0  # not theirs
    remark = load(table(tmp_path / "mine.csv", label=labels, weight=weights)).remarks[-1]
    assert remark == "mine.csv: 2 labels changed, 3 labels taken away, 4 images left out"
    weights[rows[0]] = 0.5
    remark = load(table(tmp_path / "mine.csv", label=labels, weight=weights)).remarks[-1]
    assert remark.endswith(f"labels count {(len(PLAIN.train) - 4 - 0.5) / (len(PLAIN.train) - 4):.2f} on average")


def test_fewer_columns_and_other_kinds(tmp_path):
    from pyarrow import parquet
    from pyarrow import table as arrow

    names = [WHOLE.class_names[k] for k in WHOLE.labels]
    same = load(table(tmp_path / "a.csv", given_label=None, weight=None)).train
    assert (
        torch.equal(same.labels, PLAIN.train.labels) and same.weights is None and same.digest() == PLAIN.train.digest()
    )
    labels = [None if i == PLAIN.train.ids[3] else name for i, name in zip(WHOLE.ids, names, strict=True)]
    weights = [0.25 if i == PLAIN.train.ids[5] else 1.0 for i in WHOLE.ids]
    parquet.write_table(arrow({"id": WHOLE.ids, "label": labels, "weight": weights}), tmp_path / "b.parquet")
    found = load(tmp_path / "b.parquet").train
    assert np.flatnonzero(found.labels.numpy() < 0).tolist() == [3]
    assert np.flatnonzero(found.weights.numpy() < 1).tolist() == [5] and float(found.weights[5]) == 0.25
    lines = (tmp_path / "a.csv").read_text().replace(",", "\t")
    (tmp_path / "a.tsv").write_text(lines)
    assert torch.equal(load(tmp_path / "a.tsv").train.labels, same.labels)


def test_a_weight_too_small_for_its_number_leaves_out(tmp_path):
    weights = np.ones(len(WHOLE))
    weights[np.searchsorted(WHOLE.ids, PLAIN.train.ids[0])] = 1e-60
    file = table(tmp_path / "table.csv", weight=weights)
    assert load(file).train.ids[0] == PLAIN.train.ids[1] and leaves_images_out(file)


@pytest.mark.parametrize(("weight", "out"), [(None, False), ([1.0] * len(WHOLE), False), ([0.0] * len(WHOLE), True)])
def test_whether_a_table_leaves_images_out(tmp_path, weight, out):
    assert leaves_images_out(table(tmp_path / "table.csv", weight=weight)) == out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "a column 'id' in --data.cleaned .*, but found given_label, label, weight"),
        ({"label": None}, "a column 'label'"),
        ({"id": [10**6, *WHOLE.ids[1:]]}, "ids between 0 and 1796 .* but found '1000000'"),
        ({"id": [-1, *WHOLE.ids[1:]]}, "ids between 0 and .* but found '-1'"),
        ({"id": ["one", *WHOLE.ids[1:]]}, "but found 'one'"),
        ({"id": [WHOLE.ids[1], *WHOLE.ids[1:]]}, f"each id once .* but {WHOLE.ids[1]} is there again"),
        ({"label": ["ten"] * len(WHOLE)}, "names of the classes of the data .* but found ten"),
        ({"weight": ["1.5"] * len(WHOLE)}, r"weights in \[0, 1\] .* but found '1.5'"),
        ({"weight": ["-0.1"] * len(WHOLE)}, "but found '-0.1'"),
        ({"weight": ["nan"] * len(WHOLE)}, "but found 'nan'"),
        ({"weight": [""] * len(WHOLE)}, "but found ''"),
        ({"weight": [0.0] * len(WHOLE)}, "it leaves out all"),
        (
            {"label": [""] * len(WHOLE)},
            "a training image of every class after cleaning, but '0' has none .*keep some in",
        ),
        ({"given_label": ["3"] * len(WHOLE)}, r"given labels in it are others; audit .* the same --data options"),
    ],
)
def test_tables_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load(table(tmp_path / "table.csv", **changes))


def test_tables_of_other_labels(tmp_path):
    """Of other noise, say; which images they are is the same."""
    file = table(tmp_path / "table.csv")
    other = load_data(replace(OPTIONS, noise=0.0))
    differ = int((PLAIN.train.labels != other.train.labels).sum())
    with pytest.raises(UserError, match=f"but {differ} of {len(PLAIN.train)} given labels in it are others"):
        load_data(replace(OPTIONS, noise=0.0, cleaned=file))


def test_files_are_known_by_their_paths(photos, tmp_path):
    del photos  # which lie in tmp_path
    options = DataOptions("folder", tmp_path / "photos", held_out=0.0, test_share=0.3, image_size=16)
    plain = load_data(options).train
    paths = [plain.pixels.name(k) for k in range(len(plain))]
    labels = [plain.class_names[k] for k in plain.labels]
    columns = {"id": plain.ids, "path": paths, "label": labels}
    assert torch.equal(
        load_data(replace(options, cleaned=write(tmp_path / "a.csv", columns))).train.labels, plain.labels
    )
    columns["path"] = [*paths[1:], paths[0]]
    with pytest.raises(
        UserError, match=rf"to be of this data set, but {len(paths)} of its paths are others: .* and 3 more"
    ):
        load_data(replace(options, cleaned=write(tmp_path / "a.csv", columns)))


def test_a_class_may_be_called_none(tmp_path, photos):
    """Its name is no missing label."""
    del photos
    (tmp_path / "photos/cat").rename(tmp_path / "photos/None")
    options = DataOptions("folder", tmp_path / "photos", held_out=0.0, test_share=0.3)
    plain = load_data(options).train
    labels = [plain.class_names[k] for k in plain.labels]
    file = write(tmp_path / "a.csv", {"id": plain.ids, "given_label": labels, "label": labels})
    assert "None" in labels and torch.equal(load_data(replace(options, cleaned=file)).train.labels, plain.labels)


def test_no_such_table(tmp_path):
    with pytest.raises(UserError, match=r"a table at .*; give it as --data.cleaned"):
        load(tmp_path / "none.csv")
    (tmp_path / "table.txt").write_text("id,label\n")
    with pytest.raises(UserError, match=r"--data.cleaned to be a .csv, .tsv or .parquet file"):
        load(tmp_path / "table.txt")
    (tmp_path / "table.csv").write_text("id,label\n1\n")
    with pytest.raises(UserError, match="damaged or no table"):
        load(tmp_path / "table.csv")


# Views and their targets


@pytest.fixture(scope="module")
def weighted(folder):
    """Half of the images count in full, the others less."""
    weights = np.where(np.arange(len(WHOLE)) % 2, 1.0, np.linspace(0.05, 0.95, len(WHOLE)).round(3))
    return load(table(folder / "weighted.csv", weight=weights))


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_views_are_the_same_whatever_the_labels(weighted, tmp_path, mixing):
    """What a store holds of raw labels is good for cleaned ones, unless images are left out."""
    relabelled = load(table(tmp_path / "a.csv", label=[""] * 20 + [str(k) for k in np.arange(len(WHOLE) - 20) % 10]))
    fewer = load(table(tmp_path / "b.csv", weight=[0.0] * 20 + [1.0] * (len(WHOLE) - 20)))
    families = [view_family(ViewOptions(mixing=mixing), data, 0, 0) for data in (PLAIN, weighted, relabelled, fewer)]
    hashes = [family.hash for family in families]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    positions, views = np.arange(40), np.full(40, 2)
    batches = [family.batch(positions, views) for family in families[:3]]
    assert torch.equal(batches[0].images, batches[1].images) and torch.equal(batches[0].images, batches[2].images)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_mixed_targets_count_by_share_and_weight(weighted, mixing):
    raw, some = (view_family(ViewOptions(mixing=mixing), data, 0, 0) for data in (PLAIN, weighted))
    positions, views = np.arange(60), np.full(60, 3)
    a, b = raw.batch(positions, views), some.batch(positions, views)
    partners, y, w = (
        some.partners(positions, views),
        PLAIN.train.labels.numpy(),
        weighted.train.weights.double().numpy(),
    )
    apart = y[positions] != y[partners]
    assert apart.sum() > 30
    own = a.target.double().numpy()[positions, y[positions]]  # λ, where the partner is of another class
    expected = np.zeros((60, 10))
    for k in np.flatnonzero(apart):
        expected[k, y[k]] += own[k] * w[k]
        expected[k, y[partners[k]]] += (1 - own[k]) * w[partners[k]]
    np.testing.assert_allclose(b.target.numpy()[apart], expected[apart], atol=1e-6)
    np.testing.assert_allclose(b.labelled_share().numpy()[apart], expected[apart].sum(1), atol=1e-6)
    assert torch.equal(b.weights, weighted.train.weights[positions])


def test_weights_travel_with_a_batch(weighted):
    batch = view_family(ViewOptions(), weighted, 0, 0).batch(np.arange(8), np.zeros(8, int))
    assert torch.equal(batch.weights, weighted.train.weights[:8]) and torch.equal(batch.labelled_share(), batch.weights)
    doubled = batch.map(lambda part: part + part)
    assert torch.equal(doubled.weights, 2 * batch.weights) and torch.equal(doubled.images, 2 * batch.images)
    gone = batch._replace(target=torch.full((8,), -1))
    assert torch.equal(gone.labelled_share(), torch.zeros(8))
    taken = weighted.train.take(np.array([3, 1]))
    assert torch.equal(taken.weights, weighted.train.weights[[3, 1]])


# The loss


def logits(seed, n, classes=10):
    s, t, p = torch.randn(3, n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return s.requires_grad_(), t, p


def of_label(parts, none):
    """The label term alone: the rest does not depend on what counts of a label."""
    return (parts.total - none.total).item()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([0.0, 0.3]))
def test_hard_labels_count_by_their_weight(seed, n, unlabelled):
    """Σ w·CE / Σ w over the images that have a label."""
    random = np.random.default_rng(seed)
    y, w = random.integers(0, 10, n), random.uniform(0.01, 1, n)
    y[random.random(n) < unlabelled] = -1
    s, t, _ = logits(seed, n)
    known = torch.from_numpy(np.where(y >= 0, w, 0.0))
    x = Signals(s, t, torch.from_numpy(y), torch.linspace(0, 1, n), labelled=known)
    log_q, rows = log_softmax(s.detach().numpy(), axis=1), np.flatnonzero(y >= 0)
    expected = -sum(w[k] * log_q[k, y[k]] for k in rows) / sum(w[k] for k in rows) if rows.size else 0.0
    method = make_method("kd")
    none = method.parts(x._replace(target=torch.full((n,), -1), labelled=torch.zeros(n).double()))
    assert of_label(method.parts(x), none) == pytest.approx(0.1 * expected, rel=1e-9, abs=1e-12)
    # A common factor of the weights changes nothing.
    half = method.parts(x._replace(labelled=known / 2))
    torch.testing.assert_close(half.total, method.parts(x).total, rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31))
def test_mixed_labels_count_by_share_and_weight(weighted, seed):
    """Σ(λ w_i CE_i + (1 − λ) w_j CE_j) / Σ(λ w_i + (1 − λ) w_j) of a real batch of mixup."""
    random = np.random.default_rng(seed)
    positions = random.choice(len(weighted.train), 24, replace=False)
    views = random.integers(0, 4, 24)
    family = view_family(ViewOptions(mixing="mixup"), weighted, 0, 0)
    batch = family.batch(positions, views)
    partners = family.partners(positions, views)
    y, w = weighted.train.labels.numpy(), weighted.train.weights.double().numpy()
    # λ of a pair from the pixels, of which it is a line: x = λ x_i + (1 − λ) x_j.
    plain = view_family(ViewOptions(), weighted, 0, 0)
    one, other = (plain.batch(p, views).images.double().flatten(1).numpy() for p in (positions, partners))
    mixed = batch.images.double().flatten(1).numpy()
    share = ((mixed - other) * (one - other)).sum(1) / ((one - other) ** 2).sum(1)
    s, t, _ = logits(seed, 24)
    log_q = log_softmax(s.detach().numpy(), axis=1)
    above = below = 0.0
    for k, (i, j) in enumerate(zip(positions, partners, strict=True)):
        above -= share[k] * w[i] * log_q[k, y[i]] + (1 - share[k]) * w[j] * log_q[k, y[j]]
        below += share[k] * w[i] + (1 - share[k]) * w[j]
    method = make_method("kd")
    x = Signals(s, t, batch.target.double(), labelled=batch.labelled_share().double())
    none = method.parts(x._replace(target=torch.zeros(24, 10).double(), labelled=torch.zeros(24).double()))
    assert of_label(method.parts(x), none) == pytest.approx(0.1 * above / below, rel=1e-5)


METHODS = ("kd", "dlkd", "dkd", "nkd", "wsld", "lskd", "rld")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("soft", [False, True])
def test_a_weight_of_one_everywhere_is_none(name, soft):
    s, t, p = logits(5, 12)
    y = torch.arange(12) % 10
    target = 0.7 * torch.nn.functional.one_hot(y, 10).double() + 0.3 * torch.eye(10)[(y + 3) % 10] if soft else y
    method = make_method(name)
    x = Signals(s, t, target, torch.linspace(0, 1, 12), p)
    plain = method.parts(x)
    stated = make_method(name).parts(x._replace(labelled=torch.ones(12).double()))
    torch.testing.assert_close(plain.total, stated.total, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_label_of_less_weight_is_whole_for_the_teacher_s_term(name):
    """Weights are of the label term; a method that looks at the label elsewhere sees all of it, soft or hard."""
    s, t, p = logits(6, 12)
    y, w = torch.arange(12) % 10, torch.linspace(0.05, 1, 12).double()
    method = make_method(name)
    x = Signals(s, t, y, torch.linspace(0, 1, 12), p)
    plain, hard = method.parts(x), method.parts(x._replace(labelled=w))
    torch.testing.assert_close(hard.distillation, plain.distillation, rtol=1e-13, atol=0)
    rows = torch.nn.functional.one_hot(y, 10).double() * w.unsqueeze(1)
    soft = method.parts(x._replace(target=rows, labelled=w))
    torch.testing.assert_close(soft.total, hard.total, rtol=1e-12, atol=0)
    assert not torch.isclose(hard.total, plain.total, rtol=1e-6)


# Runs


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
