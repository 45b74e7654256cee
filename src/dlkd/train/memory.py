"""Out of memory: told in one line, with the batch that would fit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dlkd.errors import UserError

_SAID = ("out of memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Is it what torch raises where a device, or the machine, has no more memory?"""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)
    )


def largest_that_fits(step: Callable[[int], object], size: int) -> int:
    """The first of size/2, size/4, … samples whose step fits into memory; 0 where none of at least two does."""
    while (size := size // 2) >= 2:
        # Not where an error is handled: it holds what its step had allocated.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            step(size)
            return size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    return 0


class DoesNotFit(UserError):
    """A step does not fit into memory, but one of fewer images does.

    Args:
        message: one line.
        batch_size: of all processes, that fits.
        accumulate: parts that make the whole step.
    """

    def __init__(self, message: str, batch_size: int, accumulate: int) -> None:
        super().__init__(message)
        self.batch_size, self.accumulate = batch_size, accumulate


def too_large(size: int, fitting: int | None, device: torch.device, processes: int = 1) -> UserError:
    """What to say of a step that does not fit.

    Args:
        size: samples of the step on this process.
        fitting: as many as do fit; 0 for none, None where nobody has tried.
        device: whose memory it is.
        processes: that share a batch.
    """
    start = f"a training step of {size} images does not fit into the memory of {device}"
    if fitting == 0:
        return UserError(f"{start}, nor does one of 2; give another student, smaller images, or --teacher.batch_size 1")
    if fitting is None:
        return UserError(
            f"{start} any more; give a smaller --optim.batch_size, and --optim.accumulate for what it lacks"
        )
    times = -(-size // fitting)
    return DoesNotFit(
        f"{start}, but one of {fitting} does; give --optim.batch_size {fitting * processes} --optim.accumulate {times}",
        fitting * processes,
        times,
    )
