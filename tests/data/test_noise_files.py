"""Labels and matrices from files: every format gives the same, and the order is checked."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from dlkd.data.noise import check_matrix, read_labels, read_matrix
from dlkd.errors import UserError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLEAN = np.random.default_rng(0).integers(0, 10, 600)
GIVEN = np.where(np.random.default_rng(1).random(600) < 0.4, np.random.default_rng(2).integers(0, 10, 600), CLEAN)


def set_of(rate, seed):
    random = np.random.default_rng(seed)
    return np.where(random.random(600) < rate, random.integers(0, 10, 600), CLEAN)


# The layout of CIFAR-10N and CIFAR-100N.
CIFAR10N = {
    "clean_label": CLEAN,
    "aggre_label": set_of(0.1, 3),
    "worse_label": GIVEN,
    "random_label1": set_of(0.2, 4),
    "random_label2": set_of(0.2, 5),
    "random_label3": set_of(0.2, 6),
}
CIFAR100N = {
    "clean_label": CLEAN,
    "noisy_label": GIVEN,
    "clean_coarse_label": CLEAN // 2,
    "noisy_coarse_label": GIVEN // 2,
}


def save_pt(path, content, names=b"numpy.core.multiarray"):
    """As torch saved it when the module was called so."""
    torch.save(content, path.with_suffix(".new"))
    with zipfile.ZipFile(path.with_suffix(".new")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"numpy._core.multiarray", names) if name.endswith("data.pkl") else data)
    path.with_suffix(".new").unlink()


def save(path, content):
    """``content`` in the format of the suffix."""
    kind = path.suffix
    if kind == ".npz":
        np.savez(path, **{k: v.astype(np.uint8) for k, v in content.items()})
    elif kind == ".pt":
        save_pt(path, content)
    elif kind == ".npy":
        np.save(path, content)
    elif kind == ".json":
        as_lists = {k: v.tolist() for k, v in content.items()} if isinstance(content, dict) else list(content)
        path.write_text(json.dumps(as_lists))
    elif kind == ".csv":
        columns = content if isinstance(content, dict) else {"label": content}
        rows = [columns.keys(), *zip(*columns.values(), strict=True)]
        path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    else:
        path.write_text("\n".join(map(str, content)) + "\n")
    return path


def read(path, chosen=None, true=CLEAN, names=NAMES):
    return read_labels(path, true, names, chosen, "cifar10")


@pytest.mark.parametrize("kind", ["npz", "pt", "json", "csv"])
def test_cifar10n_in_every_format(tmp_path, kind):
    path = save(tmp_path / f"CIFAR-10_human.{kind}", CIFAR10N)
    for short, name in {"aggregate": "aggre_label", "worst": "worse_label", "random3": "random_label3"}.items():
        for chosen in (short, name):
            found = read(path, chosen)
            assert found.chosen == name and np.array_equal(found.labels, CIFAR10N[name])
            assert found.labels.dtype == np.int64
    for chosen in (None, "worse", "clean_label", "random4"):
        with pytest.raises(UserError, match=r"--data.noise_set out of aggregate, worst, random1, random2, random3"):
            read(path, chosen)


@pytest.mark.parametrize("kind", ["npz", "pt", "json", "csv"])
def test_cifar100n_needs_no_set(tmp_path, kind):
    path = save(tmp_path / f"CIFAR-100_human.{kind}", CIFAR100N)
    found = read(path)
    assert found.chosen == "noisy_label" and np.array_equal(found.labels, GIVEN)
    with pytest.raises(UserError, match=r"--data.noise_set out of noisy_label in .* but got noisy_coarse_label"):
        read(path, "noisy_coarse_label")


@pytest.mark.parametrize("kind", ["npy", "json", "csv", "txt", "pt"])
@pytest.mark.parametrize("named", [False, True])
def test_a_plain_list_of_numbers_or_names(tmp_path, kind, named):
    if kind == "pt":
        torch.save([NAMES[y] for y in GIVEN] if named else torch.from_numpy(GIVEN), tmp_path / "labels.pt")
    else:
        save(tmp_path / f"labels.{kind}", np.array(NAMES)[GIVEN] if named else (GIVEN.tolist()))
    assert np.array_equal(read(tmp_path / f"labels.{kind}").labels, GIVEN)


def test_names_before_numbers(tmp_path):
    """Classes that are called by numbers from 1: what stands in a text is a name."""
    names = tuple(str(k) for k in range(1, 11))
    path = save(tmp_path / "labels.txt", GIVEN + 1)
    assert np.array_equal(read(path, names=names).labels, GIVEN)
    assert np.array_equal(read(save(tmp_path / "labels.json", GIVEN.tolist()), names=names).labels, GIVEN)
    # 0 is the name of none: then all of them are numbers.
    assert np.array_equal(read(save(tmp_path / "from0.txt", GIVEN), names=names).labels, GIVEN)


def test_small_things_of_tables(tmp_path):
    (tmp_path / "bom.csv").write_text("\ufeffnoisy_label\r\n" + "\r\n".join(map(str, GIVEN)) + "\r\n\r\n", newline="")
    assert np.array_equal(read(tmp_path / "bom.csv").labels, GIVEN)
    (tmp_path / "bare.csv").write_text("\n".join(NAMES[y] for y in GIVEN))
    assert np.array_equal(read(tmp_path / "bare.csv").labels, GIVEN)
    np.save(tmp_path / "column.npy", GIVEN[:, None].astype(np.uint16))
    assert np.array_equal(read(tmp_path / "column.npy").labels, GIVEN)


def test_arrays_of_numpy_2_and_of_the_other_byte_order(tmp_path):
    content = {"clean_label": CLEAN.astype(">i4"), "noisy_label": GIVEN.astype(np.uint8)}
    save_pt(tmp_path / "new.pt", content, b"numpy._core.multiarray")
    assert np.array_equal(read(tmp_path / "new.pt").labels, GIVEN)


def test_an_old_torch_is_told(tmp_path, monkeypatch):
    save_pt(tmp_path / "a.pt", CIFAR100N)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(UserError, match=r"a.pt needs torch 2.6 or later; or save its arrays with numpy.savez"):
        read(tmp_path / "a.pt")


class Evil:
    def __reduce__(self):
        return (open, ("EVIL", "w"))


def test_nothing_of_a_stranger_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"noisy_label": GIVEN, "more": Evil()}, "evil.pt")
    np.save("evil.npy", np.array([Evil(), 1], object))
    np.savez("evil.npz", noisy_label=np.array([Evil(), 1], object))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    # An array of objects, and one whose bytes are not those that it says.
    torch.save({"noisy_label": np.array([1, "a", None], object)}, "objects.pt")
    torch.save({"noisy_label": np.zeros(3, "f4")}, "floats.pt")
    for name in ("evil.pt", "evil.npy", "evil.npz", "plain.pt", "objects.pt", "floats.pt"):
        with pytest.raises(UserError, match="is damaged or no plain") as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value) and not (tmp_path / "EVIL").exists()
    with pytest.raises(UserError, match=r"could run code; CIFAR-N has the same labels in a .pt"):
        read(tmp_path / "evil.npy")


def test_the_order_is_checked(tmp_path):
    shuffled = np.random.default_rng(0).permutation(600)
    other = {k: v[shuffled] for k, v in CIFAR10N.items()}
    with pytest.raises(UserError, match=r"clean_label .* the 600 labels of cifar10 in order, but 5\d\d differ"):
        read(save(tmp_path / "other.npz", other), "worst")
    with pytest.raises(UserError, match="but there are 599"):
        read(save(tmp_path / "short.npz", {**CIFAR10N, "clean_label": CLEAN[:599]}), "worst")
    with pytest.raises(UserError, match=r"as many as by chance \((9|10)\.\d %\): the order looks shuffled"):
        read(save(tmp_path / "shuffled.txt", GIVEN[shuffled]))
    # Labels that are nearly all wrong pass where the file says what they were made of.
    poor = np.where(np.arange(600) % 20 == 0, CLEAN, (CLEAN + 1) % 10)
    with pytest.raises(UserError, match="put the labels of the data set beside them as clean_label"):
        read(save(tmp_path / "poor.txt", poor))
    found = read(save(tmp_path / "poor.csv", {"noisy_label": poor, "clean_label": CLEAN}))
    assert (found.labels != CLEAN).mean() == 0.95


def test_chance_is_that_of_the_shares_of_the_classes(tmp_path):
    """Nine tenths of one class: shuffled labels agree with four fifths."""
    true = (np.random.default_rng(0).random(5000) < 0.1).astype(np.int64)
    given = np.where(np.random.default_rng(1).random(5000) < 0.05, 1 - true, true)
    path = save(tmp_path / "good.txt", given)
    assert np.array_equal(read(path, true=true, names=("a", "b")).labels, given)
    with pytest.raises(UserError, match=r"but only \d\d\.\d % agree .* by chance \((79|80|78)"):
        read(save(tmp_path / "bad.txt", np.random.default_rng(2).permutation(given)), true=true, names=("a", "b"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", GIVEN[:599], "one label for each of the 600 training images of cifar10 .* found 599"),
        ("a.txt", [*GIVEN[:599], 10], "between 0 and 9 .*found 0 to 10"),
        ("a.npy", np.r_[GIVEN[:599], -1], "between 0 and 9 .*found -1 to 9"),
        ("a.txt", [*["cat"] * 599, "catt"], "label 600 is 'catt' .*nearest: 'cat'"),
        ("a.txt", ["cat", "", "cat"], "label 2 is ''"),
        ("a.txt", ["--5", "cat"], "label 1 is '--5'"),
        ("a.json", [*GIVEN[:599].tolist(), True], "all of one kind.* found bool, int"),
        ("a.json", [*GIVEN[:599].tolist(), None], "found NoneType, int"),
        ("a.npy", GIVEN / 1.0, r"class numbers or class names, .* found float64 \[600\]"),
        ("a.npy", GIVEN.reshape(2, 300), r"found int64 \[2, 300\]"),
        ("a.json", {"noisy_label": GIVEN, "clean_label": CLEAN[::-1]}, "in order, but .* differ"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words) as error:
        read(save(tmp_path / name, content))
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("reader", "name", "content", "words"),
    [
        (read, "a.json", b'{"noisy_label": 3}', "'noisy_label' is none"),
        (read, "a.json", b"3", "'labels' is none"),
        (read, "a.json", b"[1, 2", "damaged or no plain .json"),
        (read, "a.npz", b"PK\x03\x04 and nothing more", "damaged or no plain .npz"),
        (read, "a.npz", b"", "damaged or no plain .npz"),
        (read, "a.npy", b"nonsense", "damaged or no plain .npy"),
        (read, "a.pt", b"nonsense", "damaged or no plain .pt"),
        (read, "a.txt", b"\xff\xfe\x00bad", "damaged or no plain .txt"),
        (read, "a.csv", b"label,clean\n1\n", "row 2 has 1 cells instead of 2"),
        (read, "a.csv", b"", "one label for each of the 600 .* found 0"),
        (read, "a.xlsx", b"", "to end with .npz, .pt, .npy, .csv, .json, .txt"),
        (read_matrix, "m.csv", b"a,b\n1,0\n", "rows of numbers"),
        (read_matrix, "m.csv", b"1,0\n1\n", "rows of numbers, all of the same length"),
        (read_matrix, "m.json", b'{"cat": [1, 0]}', "rows of numbers"),
        (read_matrix, "m.txt", b"1,0\n", "to end with .csv, .npy, .json"),
        (read_matrix, "m.npy", b"", "damaged or no plain .npy"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, reader, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        reader(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_any_cut_of_an_archive_is_noticed(tmp_path):
    whole = save(tmp_path / "whole.npz", CIFAR100N).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"damaged or no plain .npz"):
            read(tmp_path / "cut.npz")


ROWS = [[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]


def test_matrix_in_every_format(tmp_path):
    (tmp_path / "m.csv").write_text("\n".join(",".join(map(str, row)) for row in ROWS))
    (tmp_path / "m.json").write_text(json.dumps(ROWS))
    np.save(tmp_path / "m.npy", np.array(ROWS, np.float32))
    for kind in ("csv", "json", "npy"):
        assert np.allclose(check_matrix(read_matrix(tmp_path / f"m.{kind}"), 3), ROWS, atol=1e-7)
