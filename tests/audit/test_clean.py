"""``dlkd clean``: what each policy makes of an audit, what a person decided, what cleanlab found."""

import csv
import json
import shutil

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from refusals import refused

from dlkd.audit.datalab import to_datalab
from dlkd.audit.scores import ACTIONS, KEEP, LOOK, RELABEL, label_posterior, suggested_actions
from dlkd.data import DataOptions, load_data
from dlkd.errors import UserError

DATA = ("--data.per_class", 30, "--data.noise", 0.2)


@pytest.fixture(scope="module")
def audit(tmp_path_factory, good):
    """By teachers of the folds that are not too sure."""
    out = tmp_path_factory.mktemp("audit") / "audit"
    machine = ("--device", "cpu", "--engine.threads", 1)
    training = ("--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16, "--epochs", 8)
    good("audit", "--out", out, "--folds", 3, "--model.name", "resnet8x0.5", *DATA, *machine, *training)
    return out


@pytest.fixture(scope="module")
def numbers(audit):
    """Ids, labels and probabilities of the audit, and what its table says of each image."""
    with np.load(audit / "predictions.npz") as kept:
        found = {name: kept[name] for name in kept.files}
    table = columns_of(audit / "audit.csv")
    actions = np.array([ACTIONS.index(action) for action in table["action"]])
    assert {*actions} == {0, 1, 2}  # else the policies could not be told apart
    better = np.array(list(map(int, table["suggested_label"])))
    score = np.array(list(map(float, table["score"])))
    return {**found, "actions": actions, "better": better, "weights": score.clip(1e-3, 1)}


@pytest.fixture
def clean(audit, good, tmp_path):
    """Clean by the command; the table's columns and what was said."""

    def run(*more, name="cleaned.csv"):
        out = tmp_path / name
        done = good("clean", audit, "--out", out, *more)
        return columns_of(out), done

    return run


def columns_of(file):
    with file.open(newline="") as lines:
        header, *rows = csv.reader(lines)
    return {name: [row[k] for row in rows] for k, name in enumerate(header)}


def labels_of(table):
    """Class numbers; −1 for none."""
    return np.array([-1 if label == "" else int(label) for label in table["label"]])


def weights_of(table):
    return np.array(list(map(float, table["weight"])))


@pytest.mark.parametrize("policy", ["relabel", "unlabel", "remove", "weights", "none"])
def test_policies(clean, numbers, policy):
    table, done = clean(*(() if policy == "weights" else ("--policy", policy)))
    assert list(table) == ["id", "given_label", "label", "weight"]
    assert list(map(int, table["id"])) == numbers["ids"].tolist()
    y, actions = numbers["labels"], numbers["actions"]
    assert list(map(int, table["given_label"])) == y.tolist()
    labels, weights = y.copy(), np.ones(y.size)
    if policy == "relabel":
        labels[actions == RELABEL] = numbers["better"][actions == RELABEL]
    if policy == "unlabel":
        labels[actions != KEEP] = -1
    if policy == "remove":
        weights[actions != KEEP] = 0
    if policy == "weights":
        weights = numbers["weights"]
    assert np.array_equal(labels_of(table), labels)
    np.testing.assert_allclose(weights_of(table), weights, rtol=1e-5)
    kept = weights[weights > 0]
    counted = f"{(labels != y)[labels >= 0].sum()} labels changed, {(labels < 0).sum()} taken away, "
    assert done.out.startswith(f"{counted}{(weights == 0).sum()} images left out, mean weight {kept.mean():.2f}: ")
    assert "Next: dlkd distill --data.cleaned " in done.out


@pytest.mark.parametrize("most", [0.0, 0.1, 0.25])
def test_of_each_class_at_most_a_share_goes_the_most_suspicious_first(clean, numbers, most):
    table, _ = clean("--policy", "remove", "--most", most)
    gone, y, weights = weights_of(table) == 0, numbers["labels"], numbers["weights"]
    limited = False
    for c in range(10):
        of_class = np.flatnonzero(y == c)
        suspicious = of_class[numbers["actions"][of_class] != KEEP]
        count = min(suspicious.size, int(most * of_class.size))
        limited |= count < suspicious.size
        assert gone[of_class].sum() == count
        if count:
            left = np.setdiff1d(suspicious, np.flatnonzero(gone))
            assert weights[of_class][gone[of_class]].max() <= weights[left].min(initial=1)
    assert limited


def test_labels_to_look_at_take_nothing_from_those_that_are_relabelled(good, tmp_path):
    """The policy changes none of them, so that they are no part of the most that it may change."""
    labels = np.repeat(np.arange(3), 20)
    found = np.where(np.arange(3) == labels[:, None], 0.8, 0.1)
    found[:4] = 0.002, 0.499, 0.499  # the most suspicious, of which nobody knows what they are
    found[4:8], found[8:12] = (0.0999, 0.8501, 0.05), (0.1, 0.05, 0.85)
    posterior = label_posterior(found, labels)
    actions, _ = suggested_actions(posterior, labels)
    assert actions.tolist() == [LOOK] * 4 + [RELABEL] * 8 + [KEEP] * 48
    assert posterior[:4, 0].max() < posterior[4:12, 0].min()
    np.savez(
        tmp_path / "predictions.npz",
        **{"ids": np.arange(60), "labels": labels, "teacher": found, "probe": found},
        class_names=np.array(["a", "b", "c"]),
    )
    (tmp_path / "audit.json").write_text('{"audit": "crafted"}')
    (tmp_path / "audit.csv").write_text("\n".join(["id", *map(str, range(60))]) + "\n")
    for most, changed in ((0.5, [*"bbbbcccc"]), (0.1, [*"bb", *"aaaaaa"])):
        out = tmp_path / f"{most}.csv"
        good("clean", tmp_path, "--out", out, "--policy", "relabel", "--most", most)
        assert columns_of(out)["label"] == [*"aaaa", *changed, *"aaaaaaaa", *"b" * 20, *"c" * 20]
        good("clean", tmp_path, "--out", tmp_path / "removed.csv", "--policy", "remove", "--most", most, "--overwrite")
        gone = np.flatnonzero(weights_of(columns_of(tmp_path / "removed.csv")) == 0)
        assert gone.tolist() == list(range(int(most * 20)))  # they are left out first


def test_relabelled_ones_are_nearer_to_the_truth(clean):
    true = load_data(DataOptions(per_class=30, held_out=0.0)).train.labels.numpy()
    table, _ = clean("--policy", "relabel")
    given = np.array(list(map(int, table["given_label"])))
    assert (labels_of(table) == true).mean() > (given == true).mean() + 0.05


def test_parquet_says_the_same(clean, good, audit, tmp_path):
    from pyarrow import parquet

    table, _ = clean("--policy", "weights")
    good("clean", audit, "--out", tmp_path / "cleaned.parquet", "--policy", "weights")
    found = parquet.read_table(tmp_path / "cleaned.parquet")
    assert {name: list(map(str, found.column(name).to_pylist())) for name in found.column_names} == table


def decisions_of(audit, rows, **changes):
    key = json.loads((audit / "audit.json").read_text())["audit"]
    return {"format": 1, "audit": key, "decisions": rows, **changes}


def test_decisions_win_over_the_policy(clean, audit, numbers, tmp_path):
    ids, actions = numbers["ids"].tolist(), numbers["actions"]
    sure, kept = np.flatnonzero(actions == RELABEL)[:4], np.flatnonzero(actions == KEEP)[:4]
    other = (numbers["labels"] + 1) % 10
    rows = [
        {"id": ids[sure[0]], "mark": "right", "label": None},
        {"id": ids[sure[1]], "mark": "wrong", "label": str(other[sure[1]])},
        {"id": ids[sure[2]], "mark": "wrong", "label": None},
        {"id": ids[sure[3]], "mark": "unsure", "label": None},
        {"id": ids[kept[0]], "mark": "right"},
        {"id": ids[kept[1]], "mark": "wrong", "label": str(other[kept[1]])},
        {"id": ids[kept[2]], "mark": "wrong"},
        {"id": ids[kept[3]], "mark": "unsure", "label": str(other[kept[3]])},
    ]
    (tmp_path / "decisions.json").write_text(json.dumps(decisions_of(audit, rows)))
    y = numbers["labels"]
    expected = {
        **{sure[0]: y[sure[0]], sure[1]: other[sure[1]], sure[2]: -1, sure[3]: -1},
        **{kept[0]: y[kept[0]], kept[1]: other[kept[1]], kept[2]: -1, kept[3]: -1},
    }
    for policy in ("relabel", "unlabel", "remove", "weights", "none"):
        plain, _ = clean("--policy", policy, name=f"{policy}.csv")
        table, _ = clean("--policy", policy, "--decisions", tmp_path / "decisions.json", name=f"{policy}-decided.csv")
        decided = list(expected)
        assert labels_of(table)[decided].tolist() == list(expected.values())
        assert np.all(weights_of(table)[decided] == 1)
        rest = np.setdiff1d(np.arange(y.size), decided)
        assert np.array_equal(labels_of(table)[rest], labels_of(plain)[rest])
        assert np.array_equal(weights_of(table)[rest], weights_of(plain)[rest])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: {**d, "audit": "0123456789abcdef"}, ("about audit", "but they are about '0123456789abcdef'")),
        (lambda d: {**d, "format": 2}, ("no file of decisions",)),
        (lambda d: {**d, "decisions": {}}, ("no file of decisions",)),
        (lambda d: [d], ("no file of decisions",)),
        (lambda d: {**d, "decisions": [{"id": 10**6, "mark": "right"}]}, ("an id of the audit",)),
        (lambda d: {**d, "decisions": [{"id": [], "mark": "right"}]}, ("an id of the audit",)),
        (lambda d: {**d, "decisions": [{"id": True, "mark": "right"}]}, ("an id of the audit",)),
        (lambda d: {**d, "decisions": [{"mark": "right"}]}, ("an id of the audit",)),
        (lambda d: {**d, "decisions": ["right"]}, ("an id of the audit", "'right'")),
        (lambda d: {**d, "decisions": [{**d["decisions"][0], "mark": "maybe"}]}, ("right, wrong, unsure", "maybe")),
        (lambda d: {**d, "decisions": [{**d["decisions"][0], "mark": []}]}, ("right, wrong, unsure",)),
        (lambda d: {**d, "decisions": [{**d["decisions"][0], "label": "ten"}]}, ("a class of the data", "'ten'")),
        (lambda d: {**d, "decisions": [{**d["decisions"][0], "label": {}}]}, ("a class of the data",)),
        (lambda d: {**d, "decisions": [{**d["decisions"][0], "label": 3}]}, ("a class of the data",)),
    ],
)
def test_decisions_that_make_no_sense(dlkd, audit, numbers, tmp_path, change, parts):
    good_ones = decisions_of(audit, [{"id": int(numbers["ids"][0]), "mark": "wrong", "label": "3"}])
    file, out = tmp_path / "decisions.json", tmp_path / "cleaned.csv"
    file.write_text(json.dumps(change(good_ones)))
    refused(dlkd("clean", audit, "--out", out, "--decisions", file), str(file), *parts)
    assert not out.exists()


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_damaged_decisions(dlkd, audit, tmp_path, content):
    (tmp_path / "decisions.json").write_bytes(content)
    out = tmp_path / "cleaned.csv"
    done = dlkd("clean", audit, "--out", out, "--decisions", tmp_path / "decisions.json")
    refused(done, "expected the decisions of a contact sheet in")
    refused(dlkd("clean", audit, "--out", out, "--decisions", tmp_path / "none.json"), "none.json")
    assert not out.exists()


# cleanlab


@pytest.fixture(scope="module")
def lab(audit):
    return to_datalab(audit)


def test_a_datalab_of_the_same_probabilities(lab, audit, numbers):
    found = lab.get_issues("label")
    scores = get_label_quality_scores(numbers["labels"], numbers["teacher"].astype("float64"))
    np.testing.assert_allclose(found["label_score"], scores, rtol=1e-6)
    assert found["given_label"].tolist() == numbers["labels"].tolist()
    from cleanlab import Datalab

    own = Datalab({"y": numbers["labels"].tolist()}, label_name="y", verbosity=0)
    own.find_issues(pred_probs=numbers["teacher"].astype("float64"), issue_types={"label": {}})
    assert found.equals(own.get_issues("label"))
    assert 0 < found["is_label_issue"].sum() < len(found)
    with pytest.raises(UserError, match="run dlkd audit"):
        to_datalab(audit.parent / "none")


def test_issues_of_cleanlab(lab, clean, numbers, tmp_path):
    lab.get_issues("label").to_csv(tmp_path / "issues.csv")
    found, y = lab.get_issues("label"), numbers["labels"]
    issue = found["is_label_issue"].to_numpy()
    expected = {
        "relabel": (np.where(issue, found["predicted_label"], y), np.ones(y.size)),
        "unlabel": (np.where(issue, -1, y), np.ones(y.size)),
        "remove": (y, np.where(issue, 0.0, 1.0)),
        "weights": (y, found["label_score"].to_numpy().clip(1e-3, 1)),
        "none": (y, np.ones(y.size)),
    }
    for policy, (labels, weights) in expected.items():
        table, _ = clean("--issues", tmp_path / "issues.csv", "--policy", policy, name=f"{policy}.csv")
        assert np.array_equal(labels_of(table), labels), policy
        np.testing.assert_allclose(weights_of(table), weights, rtol=1e-5, err_msg=policy)
    found.to_parquet(tmp_path / "issues.parquet")
    table, _ = clean("--issues", tmp_path / "issues.parquet", "--policy", "relabel", name="parquet.csv")
    assert np.array_equal(labels_of(table), expected["relabel"][0])


def test_issues_without_a_better_label(lab, clean, numbers, tmp_path):
    few = lab.get_issues("label")[["is_label_issue", "label_score"]]
    few.to_csv(tmp_path / "issues.csv")
    table, _ = clean("--issues", tmp_path / "issues.csv", "--policy", "relabel")
    assert np.array_equal(labels_of(table), numbers["labels"])  # nothing to change a label to
    table, _ = clean("--issues", tmp_path / "issues.csv", "--policy", "unlabel", "--overwrite")
    assert np.array_equal(labels_of(table) < 0, few["is_label_issue"].to_numpy())


@pytest.mark.parametrize("by", ["number", "name"])
def test_names_that_are_other_numbers(audit, good, lab, numbers, tmp_path, by):
    """Of classes named 1 to 10, cleanlab's 3 is the class 4, unless the names were given to it."""
    copy, names = shutil.copytree(audit, tmp_path / "audit"), np.array([str(k + 1) for k in range(10)])
    np.savez(
        copy / "predictions.npz",
        class_names=names,
        **{k: numbers[k] for k in ("ids", "labels", "teacher", "probe", "distance")},
    )
    found = lab.get_issues("label").copy()
    if by == "name":
        for column in ("given_label", "predicted_label"):
            found[column] = names[found[column]]
    found.to_csv(tmp_path / "issues.csv")
    good("clean", copy, "--out", tmp_path / "out.csv", "--issues", tmp_path / "issues.csv", "--policy", "relabel")
    expected = np.where(lab.get_issues("label")["is_label_issue"], lab.get_issues("label")["predicted_label"], -1)
    expected = np.where(expected < 0, numbers["labels"], expected)
    assert columns_of(tmp_path / "out.csv")["label"] == names[expected].tolist()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.drop(columns="label_score"), ("a column 'label_score'", "is_label_issue")),
        (lambda t: t.iloc[:-1], ("expected 300 rows", "found 299")),
        (lambda t: t.iloc[::-1], ("given labels of the audit", "row for row")),
        (lambda t: t.assign(label_score="high"), ("damaged", "high")),
        (lambda t: t.assign(label_score=float("nan")), ("damaged",)),
        (lambda t: t.assign(predicted_label=10), ("damaged", "no class '10'")),
        (lambda t: t.assign(predicted_label="ten"), ("damaged", "ten")),
    ],
)
def test_issues_that_do_not_fit(dlkd, audit, lab, tmp_path, change, parts):
    change(lab.get_issues("label")).to_csv(tmp_path / "issues.csv")
    out = tmp_path / "cleaned.csv"
    refused(dlkd("clean", audit, "--out", out, "--issues", tmp_path / "issues.csv"), "--issues", *parts)
    assert not out.exists()


# What a user may get wrong


def test_what_cannot_be_cleaned(dlkd, good, audit, tmp_path):
    out = tmp_path / "cleaned.csv"
    refused(dlkd("clean", tmp_path / "none", "--out", out), "a finished audit", "run dlkd audit first")
    refused(dlkd("clean", audit, "--out", tmp_path / "cleaned.txt"), ".csv or .parquet")
    refused(dlkd("clean", audit, "--out", tmp_path / "no/cleaned.csv"), "make it first")
    refused(dlkd("clean", audit, "--out", out, "--policy", "guess"), "--policy")
    refused(dlkd("clean", audit, "--out", out, "--issues", tmp_path / "none.csv"), "none.csv", "--issues")
    (tmp_path / "file").write_text("mine")
    refused(dlkd("clean", audit, "--out", tmp_path / "file/cleaned.csv"), "--out")
    assert {p.name for p in tmp_path.iterdir()} == {"file"}
    good("clean", audit, "--out", out)
    before = out.read_bytes()
    refused(dlkd("clean", audit, "--out", out, "--policy", "none"), "--overwrite")
    assert out.read_bytes() == before
    good("clean", audit, "--out", out, "--policy", "none", "--overwrite")
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("predictions.npz", lambda path: path.write_bytes(path.read_bytes()[:-40])),
        ("predictions.npz", lambda path: path.unlink()),
        ("audit.csv", lambda path: path.write_text("id\n" + path.read_text())),
        ("audit.csv", lambda path: path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")),
        ("audit.csv", lambda path: path.unlink()),
        ("audit.json", lambda path: path.write_text("{}")),
    ],
)
def test_a_damaged_audit(dlkd, audit, tmp_path, file, change):
    copy = shutil.copytree(audit, tmp_path / "audit")
    change(copy / file)
    done = dlkd("clean", copy, "--out", tmp_path / "cleaned.csv")
    refused(done)
    assert "damaged" in done.err or file in done.err
    assert not (tmp_path / "cleaned.csv").exists()
