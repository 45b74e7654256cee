"""What is released: wheel and sdist hold what they should, and the quickstart runs from the installed wheel."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_wheel_holds_the_package_and_nothing_else(built):
    package = built.source / "src"
    expected = {
        path.relative_to(package).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and path.parts[len(package.parts)] == "dlkd"
    }
    assert {"dlkd/py.typed", "dlkd/audit/sheet.html", "dlkd/recipes/cifar100/lite.yaml"} <= expected.keys()
    with zipfile.ZipFile(built.wheel) as wheel:
        found = {name: wheel.read(name) for name in wheel.namelist()}
    about = {name: content for name, content in found.items() if name.split("/")[0].endswith(".dist-info")}
    assert found.keys() - about.keys() == expected.keys()
    assert all(found[name] == content for name, content in expected.items())
    licences = {Path(name).name: content for name, content in about.items() if "/licenses/" in name}
    assert licences == {name: (ROOT / name).read_bytes() for name in ("LICENSE", "THIRD_PARTY.md")}


def test_metadata_is_what_the_project_says(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Requires-Python"] == PROJECT["requires-python"] and metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra")) == {*PROJECT["optional-dependencies"]}
    needs = {str(r) for r in map(Requirement, metadata.get_all("Requires-Dist")) if r.marker is None}
    assert needs == {str(Requirement(text)) for text in PROJECT["dependencies"]}


def test_sdist_holds_every_source(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    source = {p.relative_to(built.source).as_posix() for p in built.source.rglob("*") if p.is_file()}
    assert {n for n in source if ".egg-info/" not in n} <= names
    assert not any(name.startswith("tests") for name in names)


def test_index_would_take_them(built):
    command = [sys.executable, "-m", "twine", "check", "--strict", built.wheel, built.sdist]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_quickstart_runs_from_the_wheel(installed, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    code = "import dlkd; print(dlkd.__file__)"
    where = subprocess.run(
        [installed / "bin" / "python", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert Path(where.stdout.strip()).is_relative_to(installed), where.stderr
    command = [installed / "bin" / "dlkd", "quickstart", "--epochs", "1", "--seeds", "1", "--out", "here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "here" / "results.json").read_text())
    assert len(table["rows"]) == 7 and "<table" in (tmp_path / "here" / "report.html").read_text()
    recipe = [installed / "bin" / "dlkd", "distill", "--config", "cifar100/lite", "--print_config"]
    done = subprocess.run(recipe, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0 and "name: cifar100" in done.stdout, done.stderr


def oldest():
    lines = [line.partition("#")[0].strip() for line in (ROOT / ".ci" / "oldest.txt").read_text().splitlines()]
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def test_oldest_versions_are_the_bounds_of_the_project():
    """``make oldest`` tries what the project promises; the extra onnx needs another torch than the rest."""
    extras = PROJECT["optional-dependencies"]
    pinned = {name: Version(next(iter(r.specifier)).version) for name, r in oldest().items()}
    for text in (
        *PROJECT["dependencies"],
        *(t for e in ("timm", "wandb", "mlflow", "parquet", "tuning", "pruning") for t in extras[e]),
    ):
        required = Requirement(text)
        (bound,) = required.specifier
        assert bound.operator == ">=" and pinned[canonicalize_name(required.name)] == Version(bound.version), text


def test_bounds_of_the_doctor_are_those_of_the_wheel(installed):
    """It reads them from what is installed."""
    done = subprocess.run(
        [installed / "bin" / "dlkd", "doctor", "--self_test", "false", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    lines = json.loads(done.stdout)["lines"]
    assert not [line for line in lines if "does not know it" in json.dumps(line)]


def test_citation_names_this_version_and_the_article():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", text, re.MULTILINE).group(1) == PROJECT["version"]
    assert "10.1016/j.neucom.2024.128375" in text
    pytest.importorskip("cffconvert").Citation(text).validate()


def test_every_picture_in_the_repository_has_its_licence_named():
    listed = subprocess.run(
        ["git", "ls-files", "*.png", "*.jpg", "*.gif", "*.webp", "*.safetensors"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    named = (ROOT / "THIRD_PARTY.md").read_text()
    for path in listed.stdout.splitlines():
        assert any(f"`{place}`" in named for place in (path, *(f"{p}/" for p in Path(path).parents))), path


def test_links_lead_somewhere():
    for page in ("SECURITY.md", "THIRD_PARTY.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), (page, target)
