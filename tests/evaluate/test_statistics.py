"""Intervals and tests against closed forms, scipy.stats, brute force, and how often they cover what they claim to."""

import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dlkd.evaluate.statistics import band, bootstrap_difference, by_decile, holm, paired, spread

quick = settings(deadline=None, max_examples=60)
figure = st.floats(-100, 100).map(lambda x: round(x, 3))
runs = st.dictionaries(st.integers(0, 8), figure, max_size=8)
p_values = st.lists(st.floats(0, 1), max_size=6)


def by_seed(values):
    return dict(enumerate(values))


def test_spread():
    assert spread([1, 2, 3, 4]) == (2.5, pytest.approx(math.sqrt(5 / 3)), 4)
    assert spread(np.array([7.0])) == (7.0, None, 1)
    # Sums in floats would not see that these are equal.
    assert spread([0.1] * 3) == (0.1, 0.0, 3)
    assert json.loads(json.dumps(spread(np.float32([1, 2]))._asdict())) == {"mean": 1.5, "sd": 0.5**0.5, "n": 2}


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_spread_of_nothing_or_of_no_number(values):
    with pytest.raises(ValueError, match="but got"):
        spread(values)


def test_paired_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, t = 2·√3 at two degrees of freedom, where the quantile has a closed form."""
    found = paired({0: 11.0, 1: 22.0, 2: 33.0, 9: 0.0}, {2: 30.0, 1: 20.0, 0: 10.0, 7: 99.0})
    quantile = 0.95 * math.sqrt(2 / (1 - 0.95**2))
    t = 2 * math.sqrt(3)
    assert found[:3] == (2, 1, 3)
    assert found.low == pytest.approx(2 - quantile / math.sqrt(3)) and found.low < 0
    assert found.high == pytest.approx(2 + quantile / math.sqrt(3))
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert found.verdict == "no difference"
    assert paired(by_seed([11, 22, 33]), by_seed([10, 20, 30]), confidence=0.9).verdict == "ahead"


@quick
@given(runs, runs, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_paired_is_that_of_scipy(ours, theirs, confidence):
    found = paired(ours, theirs, confidence)
    both = [s for s in ours if s in theirs]
    if not both:
        assert found is None
        return
    assert json.loads(json.dumps(found._asdict())) == found._asdict()
    if len(both) == 1:
        difference = ours[both[0]] - theirs[both[0]]
        assert found == (difference, None, 1, None, None, None, "one seed")
        return
    differences = np.array([ours[s] - theirs[s] for s in both])
    if found.sd < 1e-9:  # scipy's own sums are only noise there
        assert found.p < 1e-6 or found.mean == pytest.approx(0, abs=1e-9)
        return
    theirs_test = stats.ttest_rel([ours[s] for s in both], [theirs[s] for s in both])
    low, high = theirs_test.confidence_interval(confidence)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-9)
    assert found.sd == pytest.approx(differences.std(ddof=1))
    assert [found.low, found.high] == pytest.approx([low, high], rel=1e-9, abs=1e-9)
    assert found.p == pytest.approx(theirs_test.pvalue, rel=1e-6, abs=1e-12)
    if abs(found.p - (1 - confidence)) > 1e-9:
        assert (found.verdict != "no difference") == (found.p < 1 - confidence)


@quick
@given(runs, runs)
def test_paired_the_other_way_round(ours, theirs):
    one, other = paired(ours, theirs), paired(theirs, ours)
    if one is None or one.n < 2:
        return
    assert (other.mean, other.low, other.high) == (-one.mean, -one.high, -one.low)
    assert (other.sd, other.n, other.p) == (one.sd, one.n, one.p)
    swapped = {"ahead": "behind", "behind": "ahead"}
    assert other.verdict == swapped.get(one.verdict, one.verdict)


def test_paired_without_spread():
    same = by_seed([70.3, 71.1, 69.9])
    assert paired(same, same) == (0, 0, 3, 0, 0, 1, "no difference")
    better = {s: v + 0.5 for s, v in by_seed([70.0, 71.0, 69.0]).items()}
    assert paired(better, by_seed([70.0, 71.0, 69.0])) == (0.5, 0, 3, 0.5, 0.5, 0, "ahead")
    assert paired(by_seed([70.0, 71.0, 69.0]), better).verdict == "behind"


def test_paired_errors():
    with pytest.raises(ValueError, match="finite"):
        paired({0: math.nan, 1: 1.0}, {0: 1.0, 1: 1.0})
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(ValueError, match=r"like 0\.95, but got"):
            paired({0: 1.0}, {0: 1.0}, confidence)


def test_intervals_over_seeds_cover_what_they_claim():
    """Of 2,000 experiments of five seeds: the true difference, nothing called a winner where none is, one more seed."""
    draw = np.random.default_rng(0)
    shared = draw.normal(70, 3, (2000, 5))  # what a seed does to both, which pairing takes away
    ours, theirs = shared + draw.normal(0.4, 0.5, (2000, 5)), shared + draw.normal(0, 0.5, (2000, 5))
    null = shared + draw.normal(0, 0.5, (2000, 5))
    found = [paired(by_seed(a), by_seed(b)) for a, b in zip(ours, theirs, strict=True)]
    three_errors = 3 * math.sqrt(0.95 * 0.05 / 2000)
    assert np.mean([x.low <= 0.4 <= x.high for x in found]) == pytest.approx(0.95, abs=three_errors)
    nothing = [paired(by_seed(a), by_seed(b)).verdict for a, b in zip(null, theirs, strict=True)]
    assert nothing.count("no difference") / 2000 == pytest.approx(0.95, abs=three_errors)
    for new in (1, 3):
        bands = np.array([band(values, 0.9, new) for values in theirs - shared])
        later = draw.normal(0, 0.5, (2000, new)).mean(axis=1)
        inside = (bands[:, 0] <= later) & (later <= bands[:, 1])
        assert inside.mean() == pytest.approx(0.9, abs=3 * math.sqrt(0.9 * 0.1 / 2000))


def closed_test(p):
    """A hypothesis falls once Bonferroni rejects every set that holds it (Marcus, Peritz, Gabriel 1976)."""
    sets = [s for k in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), k)]
    return [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]


@quick
@given(p_values)
def test_holm_is_the_closed_test(p):
    assert holm(p) == pytest.approx(closed_test(p))


@quick
@given(p_values, st.randoms(use_true_random=False))
def test_holm_keeps_order_and_bounds(p, random):
    adjusted = holm(p)
    assert all(a <= b <= min(1, len(p) * a) or b == pytest.approx(a) for a, b in zip(p, adjusted, strict=True))
    assert all(x <= y for (a, x), (b, y) in itertools.permutations(zip(p, adjusted, strict=True), 2) if a <= b)
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[k] for k in order]) == [adjusted[k] for k in order]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2] and holm([]) == []
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            holm([0.5, bad])


def answers(accuracy, seeds, images, draw):
    return draw.random((seeds, images)) < accuracy


def test_bootstrap_is_a_draw_of_images():
    """Against indices drawn with replacement, on images that the two methods share in part."""
    draw = np.random.default_rng(1)
    easy = draw.random(60) ** 0.5
    ours, theirs = answers(easy, 3, 60, draw), answers(0.9 * easy, 3, 60, draw)
    found = bootstrap_difference(ours, theirs, draws=40_000, confidence=0.8)
    chosen = draw.integers(0, 60, (40_000, 60))
    each = 100 * (ours.mean(axis=0) - theirs.mean(axis=0))[chosen].mean(axis=1)
    assert found.mean == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert found[1:] == pytest.approx(np.quantile(each, [0.1, 0.9]), abs=0.15)
    assert each.std() > 2  # so that 0.15 says something


def test_bootstrap_of_one_sided_answers_is_binomial():
    ours = np.ones((1, 2000), bool)
    theirs = np.arange(2000)[None] >= 300
    found = bootstrap_difference(ours, theirs)
    assert found.mean == pytest.approx(15)
    assert found[1:] == pytest.approx(stats.binom.ppf([0.025, 0.975], 2000, 0.15) / 20, abs=0.06)


def test_bootstrap_covers_new_images_but_not_new_seeds():
    """What it covers is what these students would do on all images; what the method would, it misses."""
    draw = np.random.default_rng(2)
    covered = {"these students": 0, "the method": 0}
    for _ in range(300):
        students = 0.7 + draw.normal(0, 0.03, (2, 3, 1))  # each seed its own accuracy, the same of both methods
        ours, theirs = (answers(a, 3, 400, draw) for a in students)
        _, low, high = bootstrap_difference(ours, theirs, draws=1000)
        true = 100 * (students[0].mean() - students[1].mean())
        covered["these students"] += low <= true <= high
        covered["the method"] += low <= 0 <= high
    assert covered["these students"] / 300 == pytest.approx(0.95, abs=0.04)
    assert covered["the method"] / 300 < 0.85


@quick
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 30))
def test_bootstrap_knows_no_order(seed, seeds, images):
    draw = np.random.default_rng(seed)
    ours, theirs = answers(0.7, seeds, images, draw), answers(0.5, seeds, images, draw)
    found = bootstrap_difference(ours, theirs, draws=50)
    by_image, by_run = draw.permutation(images), draw.permutation(seeds)
    assert bootstrap_difference(ours[by_run][:, by_image], theirs[by_run][:, by_image], draws=50) == found
    assert bootstrap_difference(ours.repeat(2, axis=0), theirs.repeat(2, axis=0), draws=50) == pytest.approx(found)
    assert bootstrap_difference(ours, ours, draws=50) == (0, 0, 0)
    assert -100 <= found.low <= found.high <= 100
    assert json.loads(json.dumps(found._asdict())) == found._asdict()


def test_bootstrap_of_a_whole_test_set_is_small():
    draw = np.random.default_rng(3)
    ours, theirs = answers(0.72, 5, 10_000, draw), answers(0.7, 5, 10_000, draw)
    tracemalloc.start()
    found = bootstrap_difference(ours, theirs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    # With so many images the interval is the normal one.
    error = 100 * (ours.mean(axis=0) - theirs.mean(axis=0)).std() / math.sqrt(10_000)
    assert found[1:] == pytest.approx([found.mean - 1.96 * error, found.mean + 1.96 * error], abs=0.1 * error)
    assert found == bootstrap_difference(ours, theirs) != bootstrap_difference(ours, theirs, seed=1)


def test_bootstrap_errors():
    yes = np.ones((2, 5), bool)
    for ours, message in (
        (yes.astype(float), "bool .*got float64"),
        (yes[0], r"got bool \[5\]"),
        (yes[:, :0], "not empty"),
        (yes[:1], "seeds that both have"),
    ):
        with pytest.raises(ValueError, match=message):
            bootstrap_difference(ours, yes)
    with pytest.raises(ValueError, match="draws"):
        bootstrap_difference(yes, yes, draws=0)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_difference(yes, yes, confidence=1.0)


def test_band_by_hand():
    """Two values: t at one degree of freedom is tan(π/2·confidence), sd is |a − b|/√2."""
    t, sd = math.tan(math.pi / 2 * 0.95), 2 / math.sqrt(2)
    for new in (1, 2, 5):
        half = t * sd * math.sqrt(1 / new + 1 / 2)
        assert band([70, 72], new=new) == pytest.approx((71 - half, 71 + half))
    assert band([0.1] * 3) == (0.1, 0.1)


@quick
@given(st.lists(figure, min_size=2, max_size=8), st.floats(0.5, 0.99))
def test_band_is_wider_than_the_interval_of_the_mean(values, confidence):
    low, high = band(values, confidence)
    mean = paired(by_seed(values), by_seed([0.0] * len(values)), confidence)
    assert high - low == pytest.approx((mean.high - mean.low) * math.sqrt(len(values) + 1), rel=1e-9, abs=1e-9)
    # A known value of many further seeds is what the interval of the mean covers.
    assert band(values, confidence, new=10**12) == pytest.approx((mean.low, mean.high), rel=1e-9, abs=1e-3)


def test_band_errors():
    with pytest.raises(ValueError, match="at least two seeds"):
        band([70.0])
    with pytest.raises(ValueError, match="at least one value"):
        band([])
    with pytest.raises(ValueError, match="1 seed or more"):
        band([70.0, 71.0], new=0)


def test_deciles_by_hand():
    level = np.arange(20)[::-1] / 20
    correct = np.arange(20) % 4 != 0  # of the hardest first
    found = by_decile(correct, level)
    assert found == [(2, 100.0), (2, 50.0)] * 5
    assert json.loads(json.dumps([x._asdict() for x in found]))[1] == {"samples": 2, "accuracy": 50.0}


def test_deciles_share_ties():
    # 40 images, 15 easy ones of one level with 5 right: the fourth tenth has three of them and one of the 25 others.
    level = [0.0] * 15 + [1.0] * 25
    correct = [1] * 5 + [0] * 10 + [1] * 25
    third = 100 / 3
    assert by_decile(correct, level) == [
        (4, pytest.approx(expected)) for expected in [third] * 3 + [third * 3 / 4 + 25] + [100] * 6
    ]


@quick
@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([2, 7, 10**6]))
def test_deciles_are_the_mean_over_orders_and_know_none(seed, n, levels):
    draw = np.random.default_rng(seed)
    level, correct = draw.integers(0, levels, n), draw.random(n)
    found = by_decile(correct, level)
    sizes = [x.samples for x in found]
    assert len(found) == 10 and sum(sizes) == n and max(sizes) - min(sizes) <= 1
    assert sum(x.samples * x.accuracy for x in found if x.samples) == pytest.approx(100 * correct.sum())
    assert all((x.accuracy is None) == (x.samples == 0) for x in found)
    order = draw.permutation(n)
    filled = [x.accuracy for x in found if x.samples]
    assert [x.accuracy for x in by_decile(correct[order], level[order]) if x.samples] == pytest.approx(filled)
    assert [x.accuracy for x in by_decile(correct, 3.0 * level + 1) if x.samples] == pytest.approx(filled)
    if levels == 10**6 and len(set(level)) == n:
        parts = np.array_split(correct[np.argsort(level)], 10)
        assert filled == pytest.approx([100 * part.mean() for part in parts if len(part)])


def test_deciles_errors():
    for correct, level in (([1, 0], [0.5]), ([], []), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="same N > 0"):
            by_decile(correct, level)
    with pytest.raises(ValueError, match="finite"):
        by_decile([1, 0], [0.5, math.nan])
