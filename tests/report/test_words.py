"""What difficulty is, in words: for every score and every level that there is."""

from typing import get_args

import pytest

from dlkd.difficulty import DifficultyLevel, DifficultyScore, ScoreName
from dlkd.methods import METHODS, LossOptions, make_method, resolve_loss
from dlkd.report.words import SCORE_WORDS, Measure, measure_of


def test_every_score_has_words_of_its_own():
    assert set(SCORE_WORDS) == set(get_args(ScoreName)) and len(set(SCORE_WORDS.values())) == len(SCORE_WORDS)


@pytest.mark.parametrize(
    ("level", "of_image", "of_value"),
    [
        ("rank", "by its rank among the training views", "by its rank among the training views"),
        ("batch", "by its rank among these images", "by its rank among the training views"),
        ("absolute", "as a share of the largest that there can be", "as a share of the largest that there can be"),
    ],
)
def test_levels(level, of_image, of_value):
    measure = Measure("js", DifficultyLevel(level).mode)
    assert measure.level_of_image == f"the Jensen–Shannon divergence of teacher and probe, {of_image}"
    assert measure.level_of_value == of_value


OTHERS = LossOptions(score="js", level="absolute")


@pytest.mark.parametrize(
    ("name", "options"), [*((name, LossOptions()) for name in METHODS), ("dlkd", OTHERS), ("energy+dkd", OTHERS)]
)
def test_the_settings_of_a_run_say_what_its_method_measures(name, options):
    settings, method = resolve_loss(name, options), make_method(name, options, 10)
    level = "rank" if method.level is None else method.level.mode
    assert measure_of(settings) == Measure((method.score or DifficultyScore()).name, level)
