"""The processes that train one student together, each on its share of every batch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from dlkd.errors import UserError
from dlkd.train.launch import Launch

Item = TypeVar("Item")
_LOST = re.compile(r"gloo|nccl|connection|socket|peer|broken pipe|process group|timed? ?out", re.IGNORECASE)
"""What torch says when a process that it talks to is gone."""


class Group:
    """What the processes of a run tell each other. Alone, every method gives back what it was given.

    Args:
        fabric: launched already.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.size, self.rank, self.device = fabric.world_size, fabric.global_rank, fabric.device
        launch = Launch.found()
        self.here = launch.world // launch.nodes
        """Of them, on this machine."""
        self.draws = torch.Generator()
        """Of what all of them draw alike; seeded anew for every step."""

    @property
    def first(self) -> bool:
        """Is this the process that writes files and talks to the user?"""
        return self.rank == 0

    def agree(self, flag: bool) -> bool:
        """Does any of them say so?"""
        return flag if self.size == 1 else bool(self.total(torch.tensor(float(flag))))

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, where ``tensor`` is."""
        if self.size == 1:
            return tensor
        whole = tensor.detach().to(self.device, copy=True)
        dist.all_reduce(whole)
        return whole.to(tensor.device)

    def share(self, items: Iterable[Item]) -> Iterator[Item]:
        """Every W-th item; those of all processes are all items, each once."""
        return (item for k, item in enumerate(items) if k % self.size == self.rank)

    def collect(self, own: list[Tensor]) -> list[Tensor]:
        """The results of all shares in the order of the items, on the CPU; shares may differ by one."""
        own = [tensor.cpu() for tensor in own]
        if self.size == 1:
            return own
        found: list[list[Tensor]] = [[] for _ in range(self.size)]
        dist.all_gather_object(found, own)
        return [found[k % self.size][k // self.size] for k in range(sum(map(len, found)))]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows ``[B, …]`` of all processes, ``[W·B, …]`` in the order of the ranks; the gradient finds its way
        back, summed over what each process makes of them."""
        if self.size == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self.rank, self.size)
        return gathered

    def own(self, rows: Tensor) -> Tensor:
        """This process's part of what :meth:`gather` gave."""
        count = len(rows) // self.size
        return rows[self.rank * count : (self.rank + 1) * count]

    @contextmanager
    def drawing_alike(self) -> Iterator[None]:
        """In the block torch's generator of the CPU is that of :attr:`draws`, as each process's own is not: what is
        computed of a whole batch is then the same in all of them."""
        own = torch.get_rng_state()
        torch.set_rng_state(self.draws.get_state())
        try:
            yield
        finally:
            self.draws.set_state(torch.get_rng_state())
            torch.set_rng_state(own)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The mean gradient, for parameters that are not in the student, which its own wrapper looks after."""
        for p in parameters if self.size > 1 else ():
            if p.grad is not None:
                p.grad.copy_(self.total(p.grad) / self.size)

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Everybody gets the values of the first process, in place."""
        for tensor in tensors if self.size > 1 else ():
            values = tensor.detach().to(self.device, copy=True)
            dist.broadcast(values, 0)
            tensor.detach().copy_(values)

    def wait(self) -> None:
        """Until all of them are here."""
        if self.size > 1:
            self.agree(False)

    def part(self) -> None:
        """No more will be said; the first process may take its time with the figures."""
        if self.size > 1:
            self.wait()
            dist.destroy_process_group()

    @contextmanager
    def in_one_line(self) -> Iterator[None]:
        """A process that lost another says so, instead of what torch makes of it.

        Raises:
            UserError: another process ended.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _LOST.search(str(error)):
                raise
            raise UserError(
                f"another of the {self.size} processes of this run ended or does not answer; what it said comes first. "
                "Mend that and go on with --resume"
            ) from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.count = rank, len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole[ctx.rank * ctx.count : (ctx.rank + 1) * ctx.count], None, None
