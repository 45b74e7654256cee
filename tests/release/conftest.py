"""Wheel and sdist of a copy of the source, built once."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md", "src")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """``wheel``, ``sdist`` and the ``source`` that they were built of: the wheel comes out of the sdist."""
    place = tmp_path_factory.mktemp("release")
    source, out = place / "source", place / "dist"
    source.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **({"ignore": unwanted} if copy is shutil.copytree else {}))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return SimpleNamespace(wheel=wheel, sdist=sdist, source=source)


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    """A virtual environment with the wheel, not editable; what dlkd needs comes from that of the tests."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    # As a mere path: the .pth files of that folder, an editable dlkd among them, are not read.
    found = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(packages) / "of_the_tests.pth").write_text("\n".join(found) + "\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        built.wheel,
    ]
    subprocess.run(command, check=True)
    return venv
