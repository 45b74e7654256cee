"""Every block of code in the README and the docs is executed by a test, or stands below with the reason why not."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from doc_blocks import DOCS, LANGUAGES, ROOT, blocks, pages

EXECUTED = {
    "README.md": "tests/test_readme.py",
    "docs/add-a-method.md": "tests/test_add_a_method.py",
    "docs/evaluation.md": "tests/evaluate/test_docs.py",
    "docs/export.md": "tests/export/test_docs.py",
    "docs/faq.md": "tests/docs/test_faq.py",
    "docs/integrations.md": "tests/integrations/test_docs.py",
    "docs/report.md": "tests/report/test_docs.py",
    "docs/serve.md": "tests/serve/test_docs.py",
    "docs/store.md": "tests/store/test_docs.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
}
"""Pages of which every block is executed, by the test that does it."""
HERE = "tests/docs/test_pages.py"
PARTLY = {
    "docs/audit.md": {"dlkd audit": HERE, "dlkd clean": HERE},
    "docs/choosing.md": {"dlkd train": HERE},
    "docs/compare.md": {"run:": HERE, "dlkd train": HERE, "dlkd tune": HERE},
    "docs/data.md": {"# my_images.py": HERE},
    "docs/guide.md": {"dlkd --help": "tests/cli/test_first_contact.py", "dlkd train": "tests/train/test_trackers.py"},
    "docs/how-dlkd-works.md": {"python benchmarks/how_it_works.py": "tests/docs/test_how.py"},
    "docs/losses.md": {"import torch": HERE},
    "docs/recipes.md": {"# mine.yaml": HERE, "dlkd train": HERE},
    "docs/reliability.md": {"dlkd distill": HERE},
}
"""Blocks that are executed one by one: how each begins, and the test."""
NOT_EXECUTED = {
    "docs/audit.md": {
        "python benchmarks/audit.py": "an hour, and CIFAR-100N",
        "dlkd compare --config studies/audit.yaml": "hours, and CIFAR-100N",
    },
    "docs/compare.md": {"dlkd reproduce": "minutes, and CIFAR-100; tests/compare/test_reproduce.py runs smaller rows"},
    "docs/data.md": {"dlkd distill --data.name cub200": "CUB-200 and a teacher of it; tests/data has its layout"},
    "docs/evidence.md": {
        "dlkd compare --config studies/weights.yaml": "hours, and CIFAR-100",
        "dlkd compare --config studies/mapping.yaml": "hours, CIFAR-100 and CIFAR-100N",
        "dlkd compare --config studies/step.yaml": "half an hour, and CIFAR-100",
        "dlkd compare --config studies/equal-steps.yaml": "hours, and CIFAR-100",
        "python benchmarks/temperature_by_level.py": "minutes, and CIFAR-100N",
        "python benchmarks/mixtures.py": "minutes, and CIFAR-100N",
        "studies/digits.sh": "an hour",
        "python benchmarks/step.py": "an hour, and Stanford Cars",
    },
    "docs/evidence/score.md": {"python benchmarks/score.py": "an hour, and CIFAR-100"},
    "docs/hostile.md": {"python benchmarks/bad_inputs.py": "tests/hostile/test_bad_inputs.py runs the same cases"},
    "docs/losses.md": {"pip install": "installs into the environment of the tests, and times for minutes"},
    "docs/noise.md": {
        "dlkd train --data.name cifar100": "labels of people; tests/data/test_noise_files.py reads such",
        "python benchmarks/label_noise.py": "CIFAR-10, CIFAR-100 and labels of people",
        "python benchmarks/recipe.py": "hours, and CIFAR-100N",
    },
    "docs/recipes.md": {
        "dlkd distill --config cifar100/resnet56-resnet20": "CIFAR-100; tests/cli/test_recipe_starts.py starts it",
        "--method kd": "options without a command",
    },
    "docs/reliability.md": {"python benchmarks/soak.py": "an hour; tests/train/test_soak.py runs three kills"},
    "docs/results.md": {
        "python benchmarks/lite.py": "CIFAR-100 and published weights",
        "python benchmarks/recipe.py stanford-cars": "Stanford Cars and published weights",
        "python benchmarks/recipe.py tiny-imagenet": "Tiny-ImageNet and published weights",
        "python benchmarks/probe_accuracy.py": "CIFAR-100 and published weights",
    },
    "docs/scale.md": {
        "torchrun --nproc_per_node": "eight accelerators, and ImageNet",
        "torchrun --nnodes": "two machines",
        "#!/bin/sh": "SLURM",
        "python benchmarks/scale.py": "a measurement of minutes that wants the machine for itself",
    },
    "docs/speed.md": {
        "python benchmarks/throughput.py": "an hour of measurements that want the machine for themselves"
    },
}
"""Blocks that no test executes: how each begins, and why."""

CODE = [b for page in pages() for b in blocks(page) if b.kind in LANGUAGES]


def places(block):
    """Where a block is accounted for."""
    for table in (PARTLY, NOT_EXECUTED):
        for start in table.get(block.page, ()):
            if block.text.startswith(start):
                yield start
    if block.page in EXECUTED:
        yield block.page


def not_executed(block):
    return block.kind == "sh" and any(block.text.startswith(start) for start in NOT_EXECUTED.get(block.page, ()))


@pytest.mark.parametrize("block", CODE, ids=lambda b: f"{b.page}: {b.text.splitlines()[0][:40]}")
def test_a_block_is_executed_or_named(block):
    wanted = f"execute this block of {block.page} in a test, or name it in NOT_EXECUTED with the reason"
    assert any(places(block)), wanted


def test_nothing_is_named_that_is_not_there():
    named = {(page, start) for table in (PARTLY, NOT_EXECUTED) for page, starts in table.items() for start in starts}
    assert named <= {(block.page, start) for block in CODE for start in places(block)}
    assert EXECUTED.keys() <= {block.page for block in CODE}


def test_the_tests_that_are_named_read_their_page():
    tests = [*EXECUTED.items(), *((page, test) for page, of in PARTLY.items() for test in of.values())]
    for page, test in tests:
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8"), (page, test)


def test_every_block_of_code_says_its_language():
    """A command in a block without a language would escape from all of this."""
    for page in pages():
        for block in blocks(page):
            assert block.kind in {*LANGUAGES, "", "math", "json"}, (block.page, block.kind)
            if block.kind == "":
                assert not re.search(r"^(dlkd|python|pip|import|from) ", block.text, re.MULTILINE), block.page
        assert not re.search(r"^    (dlkd|python) ", page.read_text(encoding="utf-8"), re.MULTILINE), page


@pytest.mark.parametrize("block", [b for b in CODE if not_executed(b)], ids=lambda b: f"{b.page}: {b.text[:40]}")
def test_commands_that_are_not_run_are_understood(block, good):
    """Every option is one that there is, with a value that fits: --print_config ends before anything is done."""
    for words in block.commands:
        if words[0] == "dlkd" and "…" not in words:
            assert good(*words[1:], "--print_config").out, words


def flags(block, script):
    """The options that a block gives to a script."""
    return {w.split("=")[0] for c in block.commands if script in c for w in c[c.index(script) :] if w.startswith("--")}


def texts_of(script):
    """Every text in a script and in the modules beside it that it imports: several share a parser's options."""
    nodes = list(ast.walk(ast.parse(script.read_text(encoding="utf-8"))))
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    beside = [script.with_name(f"{n.module}.py") for n in nodes if isinstance(n, ast.ImportFrom)]
    return texts.union(*(texts_of(module) for module in beside if module.exists()))


@pytest.mark.parametrize("block", [b for b in CODE if "benchmarks/" in b.text and b.kind == "sh"], ids=lambda b: b.page)
def test_scripts_that_are_not_run_are_there_and_know_their_options(block):
    for script in re.findall(r"benchmarks/\w+\.py", block.text):
        own = {flag for flag in flags(block, script) if "." not in flag}  # others are options of dlkd
        known = texts_of(ROOT / script)
        assert own <= known, (script, own - known)


@pytest.mark.parametrize("study", sorted({s for b in CODE for s in re.findall(r"studies/[\w-]+\.yaml", b.text)}))
def test_studies_are_there(study):
    assert yaml.safe_load((ROOT / study).read_text(encoding="utf-8"))["methods"]


def test_links_lead_somewhere():
    for page in DOCS.rglob("*.md"):
        targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        assert all((page.parent / target).exists() for target in targets), (page, targets)
