"""The scores against cleanlab's own functions and against formulas written out in float64."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from cleanlab.rank import get_normalized_margin_for_each_label, get_self_confidence_for_each_label
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.audit.scores import (
    ACTIONS,
    KEEP,
    LEAST_WEIGHT,
    LOOK,
    RELABEL,
    confident_labels,
    label_weights,
    margin,
    self_confidence,
    suggested_actions,
    thresholds,
)

quick = settings(deadline=None, max_examples=60)


@st.composite
def judged(draw, models=1):
    """Probabilities ``[N, C]`` of one or more models, and labels of which every class has one."""
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(classes, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sharp = draw(st.sampled_from([0.1, 1.0, 10.0]))
    found = [random.dirichlet(np.full(classes, sharp), n) for _ in range(models)]
    labels = random.permutation(np.r_[np.arange(classes), random.integers(0, classes, n - classes)])
    return *found, labels


@quick
@given(judged())
def test_self_confidence_and_margin_are_cleanlabs(case):
    p, y = case
    assert np.array_equal(self_confidence(p, y), get_self_confidence_for_each_label(y, p))
    # cleanlab's is brought from [−1, 1] to [0, 1].
    np.testing.assert_allclose((margin(p, y) + 1) / 2, get_normalized_margin_for_each_label(y, p), atol=1e-15)


def test_by_hand():
    p, y = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]), np.array([0, 2, 2])
    assert self_confidence(p, y).tolist() == [0.5, 0.1, 0.5]
    np.testing.assert_allclose(margin(p, y), [0.2, -0.7, 0.25], rtol=1e-15)


@quick
@given(judged(), st.integers(0, 2**32))
def test_names_of_classes_and_order_of_images_change_nothing(case, seed):
    p, y = case
    random = np.random.default_rng(seed)
    classes, images = random.permutation(p.shape[1]), random.permutation(len(y))
    q, z = p[images][:, classes], np.argsort(classes)[y[images]]
    for score in (self_confidence, margin):
        assert np.array_equal(score(q, z), score(p, y)[images])
    np.testing.assert_allclose(thresholds(q, z), thresholds(p, y)[classes], rtol=1e-12)
    limits = thresholds(p, y)
    found = confident_labels(p, limits)[images]
    assert np.array_equal(np.where(found < 0, -1, np.argsort(classes)[found]), confident_labels(q, limits[classes]))


@quick
@given(judged())
def test_nothing_is_written_into_the_probabilities(case):
    p, y = case
    before = p.copy()
    for call in (self_confidence, margin, thresholds):
        call(p, y)
    suggested_actions(p, p, y)
    label_weights(p, p, y)
    assert np.array_equal(p, before)


@quick
@given(judged())
def test_thresholds_are_cleanlabs(case):
    p, y = case
    # cleanlab keeps them a millionth below what the paper says.
    np.testing.assert_allclose(thresholds(p, y), get_confident_thresholds(y, p), atol=2e-6)
    means = [np.mean([p[i, c] for i in range(len(y)) if y[i] == c]) for c in range(p.shape[1])]
    np.testing.assert_allclose(thresholds(p, y), means, rtol=1e-12)


def test_nobody_is_sent_to_a_class_that_is_given_to_none():
    p, y = np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([0, 0])
    assert thresholds(p, y).tolist() == [pytest.approx(0.15), np.inf]
    assert confident_labels(p, thresholds(p, y)).tolist() == [-1, 0]
    assert suggested_actions(p, p, y)[0].tolist() == [KEEP, KEEP]


@quick
@given(judged())
def test_the_confident_labels_count_up_to_cleanlabs_confident_joint(case):
    p, y = case
    limits = get_confident_thresholds(y, p) - 1e-6  # of their rounding
    # Where several classes reach their thresholds, cleanlab takes the likeliest of all, even if it does not reach its own.
    several = (p >= limits).sum(axis=1) > 1
    found = np.where(several, p.argmax(axis=1), confident_labels(p, limits))
    joint = np.zeros((p.shape[1], p.shape[1]), int)
    for given_label, other in zip(y, found, strict=True):
        if other >= 0:
            joint[given_label, other] += 1
    theirs = compute_confident_joint(y, p, calibrate=False)
    # Theirs has at least one on the diagonal, so that it can be divided by.
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    assert np.array_equal(joint, theirs)


def test_a_class_is_reached_at_its_threshold():
    """p_c = t_c counts; of several, the likeliest."""
    p = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]])
    assert confident_labels(p, np.array([0.5, 0.3, 0.9])).tolist() == [0, 1, -1]
    assert confident_labels(p, np.array([0.6, 0.4, 0.2])).tolist() == [2, 2, 2]


@quick
@given(judged(models=2))
def test_what_is_suggested(case):
    """Image by image, from the words: look where the teacher is confident of another class, relabel where the copy is
    confident of the same."""
    teacher, probe, y = case
    limits = [[p[y == c, c].mean() for c in range(p.shape[1])] for p in (teacher, probe)]

    def confident(p, limit, i):
        reached = [c for c in range(p.shape[1]) if p[i, c] >= limit[c] - 1e-15]
        return max(reached, key=lambda c: p[i, c]) if reached else None

    actions, suggested = suggested_actions(teacher, probe, y)
    assert actions.dtype == suggested.dtype == np.int64
    for i, given_label in enumerate(y):
        of_teacher, of_probe = confident(teacher, limits[0], i), confident(probe, limits[1], i)
        if of_teacher in (None, given_label):
            assert (actions[i], suggested[i]) == (KEEP, given_label)
        else:
            assert (actions[i], suggested[i]) == (RELABEL if of_probe == of_teacher else LOOK, of_teacher)


@quick
@given(judged())
def test_a_copy_that_says_the_same_relabels_all_that_is_not_kept(case):
    p, y = case
    actions, suggested = suggested_actions(p, p, y)
    assert set(np.unique(actions)) <= {KEEP, RELABEL}
    assert np.array_equal(suggested != y, actions == RELABEL)


def test_the_names_of_the_actions():
    assert [ACTIONS[k] for k in (KEEP, LOOK, RELABEL)] == ["keep", "look", "relabel"]


@quick
@given(judged(models=2))
def test_weights(case):
    teacher, probe, y = case
    found = label_weights(teacher, probe, y)
    for i, given_label in enumerate(y):
        mean = [(a + b) / 2 for a, b in zip(teacher[i], probe[i], strict=True)]
        assert found[i] == pytest.approx(max(mean[given_label] / max(mean), LEAST_WEIGHT), rel=1e-12)
    assert np.all((found >= LEAST_WEIGHT) & (found <= 1))
    # Full weight where both find the given label the likeliest, and the same whoever of the two is asked first.
    both = (teacher.argmax(1) == y) & (probe.argmax(1) == y)
    assert np.all(found[both] == 1)
    assert np.array_equal(found, label_weights(probe, teacher, y))


def test_a_weight_is_never_nothing():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert label_weights(sure, sure, np.array([0, 1])).tolist() == [1.0, LEAST_WEIGHT]


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3, 2), [0, 1], "one label for each row"),
        ((3,), [0, 1, 0], r"expected probabilities \[N, C\]"),
        ((2, 2), [0, 2], "labels between 0 and 1"),
        ((2, 2), [-1, 0], "labels between 0 and 1"),
    ],
)
def test_what_does_not_fit_together(shape, labels, message):
    for score in (self_confidence, margin, thresholds):
        with pytest.raises(ValueError, match=message):
            score(np.full(shape, 0.5), np.array(labels))
