"""The parser's messages become sentences, whatever the version of the parser; what is strange is passed on."""

import pytest

from dlkd.pages.explain import explain
from dlkd.train.options import DistillOptions, TrainOptions

SPARSITY = """Parser key "probe.sparsity":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'float'>, list[float], typing.Literal['auto']]
  Errors:
    - Expected a <class 'float'>
  Given value type: <class 'str'>
  Given value: abc"""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Parser key \"epochs\":\n  Expected a <class 'int'>. Got value: many",
            "expected --epochs to be a whole number or auto, but got many",
        ),
        (
            "Parser key \"epochs\":\n  Expected a <class 'int'>. Got value: ",
            "expected --epochs to be a whole number or auto, but got nothing",
        ),
        (SPARSITY, "expected --probe.sparsity to be a number or a list, each a number or auto, but got abc"),
        (
            "Parser key 'student.weights': bad. Got value: 3",
            "expected --student.weights to be a path or null, but got 3",
        ),
        (
            'Parser key "optim.milestones": Got value: x',
            "expected --optim.milestones to be a list, each a number, but got x",
        ),
        ("unrecognized arguments: --nois 0.1", "there is no option --nois; did you mean --data.noise?"),
        ("Unrecognized arguments: --lr=0.1 --x", "there is no option --lr; did you mean --optim.lr?"),
        ("unrecognized arguments: --zzzzqqq", "there is no option --zzzzqqq"),
        ("unrecognized arguments: stray", "expected options as --name value, but got 'stray'"),
        ("unrecognized arguments: -x", "expected options as --name value, but got '-x'"),
        (
            "Subcommand 'distill' does not accept option 'optim.lrr'",
            "there is no option --optim.lrr; did you mean --optim.lr?",
        ),
        ('Key "epoch" is not expected', "there is no option --epoch; did you mean --epochs?"),
        ("the following arguments are required: distill.weights", "expected --weights, but it is missing"),
        ("something\nnew", "something new"),
    ],
)
def test_message(message, expected):
    assert explain(message, DistillOptions) == expected


def test_each_command_has_its_own_options():
    assert explain("unrecognized arguments: --probe.sparsit", TrainOptions) == "there is no option --probe.sparsit"
    assert explain("unrecognized\narguments: --x", None) == "unrecognized arguments: --x"
