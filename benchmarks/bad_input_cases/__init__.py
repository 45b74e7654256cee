"""Every bad input that ``benchmarks/bad_inputs.py`` tries."""

from bad_input_cases import data, options, recipes, runs, stores, weights
from bad_input_cases.place import Case, Place, sound_things

CASES: tuple[Case, ...] = (
    *options.CASES,
    *recipes.CASES,
    *weights.CASES,
    *data.CASES,
    *stores.CASES,
    *runs.CASES,
)

__all__ = ["CASES", "Case", "Place", "sound_things"]
