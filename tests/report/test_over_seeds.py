"""Mean, spread and paired differences of runs that differ in their seed alone, derived a second time."""

import json
import re
import statistics

import pytest
from scipy import stats


@pytest.fixture(scope="module")
def several(tmp_path_factory, distill, train, good):
    """Students with the seeds 0 and 1, and the same alone."""
    folder = tmp_path_factory.mktemp("seeds")
    more = ("--epochs", 2, "--optim.batch_size", 16)
    for seed in (0, 1):
        good(*distill(folder / f"dlkd-{seed}", *more, "--method", "dlkd", "--seed", seed))
        good(*train(folder / f"alone-{seed}", *more, "--seed", seed))
    return folder


def cells(page, heading):
    """Of the rows of the table beneath a heading."""
    table = page.partition(f">{heading}</h2>")[2].partition("</table>")[0]
    rows = (re.split(r"<t[dh]\b[^>]*>", row)[1:] for row in table.split("<tr>")[1:])
    return [[re.sub(r"<.*", "", cell, flags=re.DOTALL).strip() for cell in row] for row in rows]


def test_means_and_differences(several, good, tmp_path):
    names = ("dlkd-0", "dlkd-1", "alone-0", "alone-1")
    baseline = ("--baseline", several / "alone-0")
    good("report", *(several / name for name in names), "--out", tmp_path / "r.html", "--images", 0, *baseline)
    of = {n: json.loads((several / n / "results.json").read_text())["test"]["accuracy"] for n in names}
    head, ours, alone = cells((tmp_path / "r.html").read_text(), "Over seeds")
    assert head[-1] == "against alone-0 and its seeds, points"
    assert (ours[:2], ours[3]) == (["dlkd-0, dlkd-1", "dlkd"], "0, 1") and alone[0] == "alone-0, alone-1"
    for row, kind in ((ours, "dlkd"), (alone, "alone")):
        values = [of[f"{kind}-{seed}"] for seed in (0, 1)]
        assert row[4] == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
    differences = [of[f"dlkd-{seed}"] - of[f"alone-{seed}"] for seed in (0, 1)]
    mean = statistics.mean(differences)
    half = stats.t.ppf(0.975, 1) * statistics.stdev(differences) / 2**0.5
    expected = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]".replace("-", "−")
    assert ours[5] == expected and alone[5] == ""


def test_other_settings_are_another_kind(several, distill, good, tmp_path):
    """And one seed of each is nothing to take a mean of."""
    other = ("--epochs", 2, "--optim.batch_size", 16, "--method", "dlkd", "--seed", 1, "--loss.t_hard", 5)
    good(*distill(tmp_path / "other", *other))
    good("report", several / "dlkd-0", tmp_path / "other", "--out", tmp_path / "r.html", "--images", 0)
    assert "Over seeds" not in (tmp_path / "r.html").read_text()
    good(
        "report",
        several / "dlkd-0",
        tmp_path / "other",
        several / "dlkd-1",
        "--out",
        tmp_path / "s.html",
        "--images",
        0,
    )
    _, two, one = cells((tmp_path / "s.html").read_text(), "Over seeds")
    assert two[0] == "dlkd-0, dlkd-1" and one[0] == "other" and "±" not in one[4]
