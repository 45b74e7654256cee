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
    LOOK,
    RELABEL,
    confident_labels,
    label_posterior,
    margin,
    noise_matrix,
    self_confidence,
    suggested_actions,
    thresholds,
    without_noise,
)

quick = settings(deadline=None, max_examples=60)


@st.composite
def judged(draw):
    """Probabilities ``[N, C]``, and labels of which every class has one."""
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(classes, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sharp = draw(st.sampled_from([0.1, 1.0, 10.0]))
    found = random.dirichlet(np.full(classes, sharp), n)
    labels = random.permutation(np.r_[np.arange(classes), random.integers(0, classes, n - classes)])
    return found, labels


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
    suggested_actions(p, y)
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


@quick
@given(judged())
def test_the_confident_labels_count_up_to_cleanlabs_confident_joint(case):
    p, y = case
    limits = get_confident_thresholds(y, p) - 1e-6  # of their rounding
    # Where several classes reach their thresholds, cleanlab takes the likeliest of all, be it one of them or not.
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
@given(judged())
def test_what_is_suggested(case):
    """Image by image, from the words."""
    posterior, y = case
    actions, suggested = suggested_actions(posterior, y)
    assert actions.dtype == suggested.dtype == np.int64
    for i, given_label in enumerate(y):
        row = posterior[i].tolist()
        best = row.index(max(row))
        if best != given_label and row[best] > sum(row[:best] + row[best + 1 :]):
            expected = RELABEL, best
        elif row[given_label] >= sum(row[:given_label] + row[given_label + 1 :]):
            expected = KEEP, given_label
        else:
            expected = LOOK, best
        assert (actions[i], suggested[i]) == expected


def test_suggestions_by_hand():
    """A label at odds is kept; one that is the likeliest, but probably wrong, is looked at."""
    posterior = np.array([[0.5, 0.5, 0], [0.4, 0.3, 0.3], [0.3, 0.6, 0.1], [0.3, 0.45, 0.25], [0.7, 0.3, 0]])
    actions, suggested = suggested_actions(posterior, np.zeros(5, int))
    assert actions.tolist() == [KEEP, LOOK, RELABEL, LOOK, KEEP] and suggested.tolist() == [0, 0, 1, 1, 0]


def test_the_names_of_the_actions():
    assert [ACTIONS[k] for k in (KEEP, LOOK, RELABEL)] == ["keep", "look", "relabel"]


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


@given(judged())
@settings(deadline=None, max_examples=60)
def test_the_matrix_is_the_confident_joint_by_rows(case):
    p, y = case
    classes = p.shape[1]
    found, counts = confident_labels(p, thresholds(p, y)), np.full((classes, classes), 0.5 * len(y) / classes**2)
    for k, label in zip(found, y, strict=True):
        if k >= 0:
            counts[k, label] += 1
    np.testing.assert_allclose(noise_matrix(p, y, prior=0.5), counts / counts.sum(axis=1, keepdims=True), rtol=1e-12)


@given(judged(), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_taking_noise_out_explains_what_is_foretold_better_with_every_step(case, steps):
    """As expectation maximisation must: Σ_y p_y·log (qT)_y never falls."""
    p, y = case
    matrix = noise_matrix(p, y)
    before, after = (without_noise(p, matrix, n) for n in (steps - 1, steps))
    fits = [(p * np.log(q @ matrix)).sum(axis=1) for q in (before, after)]
    assert (fits[1] >= fits[0] - 1e-9).all()
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-12)


def test_without_noise_there_is_none_to_take_out():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 10)
    np.testing.assert_allclose(without_noise(p, np.eye(4)), p, rtol=1e-12)


def test_what_was_mixed_is_found_again():
    true = np.random.default_rng(0).dirichlet(np.full(3, 0.5), 20)
    matrix = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.1, 0.6]])
    np.testing.assert_allclose(without_noise(true @ matrix, matrix, 20_000), true, atol=2e-3)


@given(judged())
@settings(deadline=None, max_examples=60)
def test_the_posterior_is_bayes(case):
    p, y = case
    matrix = noise_matrix(p, y)
    q, found = without_noise(p, matrix), label_posterior(p, y)
    for i, label in enumerate(y):
        both = [q[i, k] * matrix[k, label] for k in range(p.shape[1])]
        np.testing.assert_allclose(found[i], np.array(both) / sum(both), rtol=1e-9, atol=1e-12)


def test_labels_that_are_wrong_in_one_way_are_found():
    """A teacher that learnt that a third of class 0 is called 1 cannot tell by p_y; the posterior can."""
    random = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], 300)
    matrix = np.array([[0.65, 0.35, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    clean = np.eye(3)[true] * 0.94 + 0.02
    given_labels = np.array([random.choice(3, p=matrix[k]) for k in true])
    p = clean @ matrix
    posterior = label_posterior(p, given_labels)
    right = self_confidence(posterior, given_labels)
    wrong = given_labels != true
    assert right[wrong].max() < 0.5 < right[~wrong].min()
    actions, better = suggested_actions(posterior, given_labels)
    assert (actions[wrong] == RELABEL).all() and np.array_equal(better, true)


def test_nobody_is_judged_where_there_is_nobody():
    assert label_posterior(np.zeros((0, 3)), np.zeros(0, np.int64)).shape == (0, 3)
