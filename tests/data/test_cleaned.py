"""Labels and weights from a table: what becomes of the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cleaned_tables import OPTIONS, PLAIN, WHOLE, load, table, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import DataOptions, load_data
from dlkd.data.cleaned import leaves_images_out
from dlkd.errors import UserError


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
