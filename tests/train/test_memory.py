"""Out of memory is one line with the batch that fits; a teacher asked in parts says the same."""

import re
import resource
import subprocess
import sys

import pytest
import torch

from dlkd.train.memory import is_out_of_memory, largest_that_fits, too_large

GREEDY = """
import torch
from torch import nn


class Greedy(nn.Module):
    def __init__(self, num_classes=10, in_chans=1):
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, x):
        if self.training:
            torch.empty(len(x), 1 << 28, dtype=torch.uint8)  # 256 MB an image, which nobody touches
        return self.last(x.flatten(1))
"""


def test_the_line_names_a_batch_that_does_fit(tmp_path, train):
    (tmp_path / "greedy.py").write_text(GREEDY)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))

    def command(out, *more):
        given = map(str, (*train(tmp_path / out, *more), "--model.name", "greedy:Greedy", "--engine.evaluate_every", 0))
        return subprocess.run(
            [sys.executable, "-m", "dlkd", *given],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limit,  # as a machine with so much memory
        )

    done = command("run", "--optim.batch_size", 128)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    said = re.fullmatch(
        r"dlkd: error: a training step of 128 images does not fit into the memory of cpu, but one of (\d+) does; give "
        r"--optim\.batch_size (\d+) --optim\.accumulate (\d+)\n",
        done.stderr,
    )
    fits, size, times = map(int, said.groups())
    assert fits == size in (8, 16, 32, 64) and size * times == 128 and not (tmp_path / "run").exists()
    done = command("run", "--optim.batch_size", size, "--optim.accumulate", times)
    assert done.returncode == 0, done.stderr


def test_what_is_out_of_memory():
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(error.value) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(("fits", "found"), [(99, 50), (30, 25), (3, 3), (2, 0), (0, 0)])
def test_the_first_half_that_fits(fits, found):
    tried = []

    def step(size):
        tried.append(size)
        if size > fits:
            raise RuntimeError("out of memory")

    assert largest_that_fits(step, 100) == found
    assert tried == [n for n in (50, 25, 12, 6, 3) if n >= max(found, 3)]
    with pytest.raises(RuntimeError, match="shape"):
        largest_that_fits(lambda size: (_ for _ in ()).throw(RuntimeError("shape")), 100)


def test_the_batch_of_all_processes_is_named():
    line = str(too_large(64, 16, torch.device("cuda"), 4))
    assert line.endswith("--optim.batch_size 64 --optim.accumulate 4")
    assert "nor does one of 2" in str(too_large(64, 0, torch.device("cuda")))


def test_a_teacher_asked_in_parts_gives_the_same_student(tmp_path, good, dlkd, distill, weights):
    good(*distill(tmp_path / "whole"))
    good(*distill(tmp_path / "parts", "--teacher.batch_size", 5))
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.allclose(one[k].double(), other[k].double(), rtol=1e-4, atol=1e-5) for k in one)
    for more, words in (
        (("--teacher.batch_size", 0), "expected --teacher.batch_size to be at least 1, but got 0"),
        (("--teacher.batch_size", 5, "--probe.norm", "batch"), "no --teacher.batch_size with --probe.norm batch"),
        (("--teacher.batch_size", 5, "--method", "at"), "no --teacher.batch_size with method at"),
    ):
        done = dlkd(*distill(tmp_path / "bad", *more))
        assert done.status == 2 and words in done.err
