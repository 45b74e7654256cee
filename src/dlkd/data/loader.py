"""Batches by step number, and plain views for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dlkd.data.augment import ArrayAugment, centre_crop
from dlkd.data.family import Batch, ViewFamily
from dlkd.data.samples import ArrayPixels, FilePixels, Samples
from dlkd.data.view_key import epoch_order
from dlkd.data.watch import Watch, note
from dlkd.errors import UserError


@dataclass(frozen=True)
class Steps(Dataset["Batch | UserError"]):
    """The batch of every training step: a pure function of the step number.

    Epoch e shows view e of every sample (:meth:`view_of`), in the family's order of that view; the last partial batch
    is dropped. With W ranks each takes its share of every part of the global batch, pairs that mix staying together.
    Being a map from step to batch, it needs no message about epochs to live workers, and a resumed run
    starts at any step.
    """

    family: ViewFamily
    batch_size: int
    """Samples of one step over all ranks."""
    rank: int = 0
    world: int = 1
    strong: ViewFamily | None = None
    """Strong views of the same samples that mix in the same way, shown beside the others."""
    parts: int = 1
    """Equal parts in which a step is taken, one after the other."""
    views: int | None = None
    """View numbers that there are: later epochs show them again; None for a new one every epoch."""

    def __post_init__(self) -> None:
        if self.strong is not None and (
            self.strong.samples.digest() != self.family.samples.digest()
            or (self.strong.mixing, self.strong.seed) != (self.family.mixing, self.family.seed)
        ):
            raise ValueError("expected strong views of the same samples, mixing and seed")
        n, share = len(self.family.samples), self.share
        if self.batch_size > n:
            raise UserError(
                f"expected a batch of at most the {n} training images, but got {self.batch_size}; "
                f"give --optim.batch_size {n} or less"
            )
        if share * self.parts * self.world != self.batch_size:
            part = self.batch_size // self.parts
            raise UserError(
                f"expected a batch that {self.world} processes can share, but got {part}; give an --optim.batch_size "
                f"that {self.world} divides"
            )
        share = share if self.world > 1 else self.batch_size
        if self.family.mixing.kind != "none" and share % 2:
            raise UserError(f"expected an even batch on each process, since images mix in pairs, but got {share}")

    @property
    def share(self) -> int:
        """Samples that one rank has in one part of a step."""
        return self.batch_size // self.parts // self.world

    @property
    def one_by_one(self) -> bool:
        """Are images in memory changed one at a time?"""
        return any(isinstance(f.augment, ArrayAugment) for f in (self.family, self.strong) if f is not None)

    def to(self, device: torch.device) -> Steps:
        """The steps with images in memory moved to ``device``, but for those that are changed one at a time: they stay
        where processes can prepare them."""
        if self.one_by_one:
            return self
        strong = None if self.strong is None else self.strong.to(device)
        return replace(self, family=self.family.to(device), strong=strong)

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch."""
        return len(self.family.samples) // self.batch_size

    def view_of(self, epoch: int) -> int:
        """The view number that an epoch shows: its own, or where there are only V, each of them once in every V epochs,
        first in their order, then in seeded ones."""
        if self.views is None or epoch < self.views:
            return epoch
        turn, place = divmod(epoch, self.views)
        return int(epoch_order(self.family.seed, np.arange(self.views), turn)[place])

    def __getitem__(self, step: int) -> Batch | UserError:
        epoch, k = divmod(step, self.per_epoch)
        view = self.view_of(epoch)
        whole = self.family.order(view)[k * self.batch_size : (k + 1) * self.batch_size]
        positions = whole.reshape(self.parts, self.world, self.share)[:, self.rank].reshape(-1)
        try:
            views = np.full_like(positions, view)
            batch = self.family.batch(positions, views)
            return batch if self.strong is None else batch._replace(strong=self.strong.batch(positions, views).images)
        except UserError as error:
            # Raised in a worker it would come back as a page of traceback; the main process raises it.
            return error
        except MemoryError:
            return UserError(
                f"there is no memory left to prepare {len(positions)} images; give fewer --data.workers, or a smaller "
                "--optim.batch_size"
            )
        finally:
            note(None)

    def loader(self, start: int, stop: int, workers: int = 0, timeout: float = 0) -> Iterator[Batch]:
        """Batches of the steps ``start`` to ``stop`` − 1, prepared by ``workers`` processes, each two ahead at most.

        Images that an accelerator holds are prepared there, where other processes do not reach them.

        Raises:
            UserError: an image cannot be read; a process died, or none gave a batch for ``timeout`` seconds (0: for
                ever), with the files that it was at.
        """
        pixels = self.family.samples.pixels
        if isinstance(pixels, ArrayPixels) and pixels.array.device.type != "cpu":
            workers = 0
        watch = Watch(workers) if workers else None
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            pin_memory=_pin(workers),
            worker_init_fn=None if watch is None else watch.begin,
            timeout=timeout if workers else 0,
            generator=torch.Generator(),  # the default one would be moved on, by a seed that no view needs
        )
        batches = iter(loader)
        while (batch := self._next(batches, watch)) is not None:
            if isinstance(batch, UserError):
                # An error holds this frame, and the frame must hold neither it nor the processes: they would end at
                # some later collection of garbage, perhaps within another process, and be waited for.
                del batches
                try:
                    raise batch
                finally:
                    del batch
            yield batch

    def _next(self, batches: Iterator[Batch | UserError], watch: Watch | None) -> Batch | UserError | None:
        try:
            return next(batches, None)
        except RuntimeError as error:
            # A worker that was killed or hangs is torch's RuntimeError; any other is a mistake of ours.
            message = str(error)
            if watch is None or "DataLoader" not in message:
                raise
            pixels = self.family.samples.pixels
            files = [pixels.place(p) for p in watch.positions(message)] if isinstance(pixels, FilePixels) else []
            at = ", ".join(files) or "no file"
            if "timed out" in message:
                raise UserError(
                    f"no batch was ready in time: the processes that prepare images are at {at}; is the disk slow? "
                    "Look at these files, or give a longer --data.timeout"
                ) from error
            raise UserError(
                f"a process that prepares images was killed at {at}, as for want of memory or by a file that breaks "
                "its decoder; give fewer --data.workers, or take the file out"
            ) from error


def plain_batches(
    samples: Samples, *, size: int | None = None, batch_size: int = 256
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images without augmentation, fp32 in [0, 1], with their labels, in order.

    Args:
        samples: what to show.
        size: side in pixels of images that come from files; those in memory keep their own.
        batch_size: images at once.
    """
    for part in torch.arange(len(samples)).split(batch_size):
        pixels, labels = samples.pixels, samples.labels[part]
        if isinstance(pixels, ArrayPixels):
            yield pixels.array[part.to(pixels.array.device)].float() / 255, labels
        else:
            plain = centre_crop(size or 224)
            yield torch.stack([plain(pixels.load(i), 0, i, 0) for i in part.tolist()]), labels


def _pin(workers: int) -> bool:
    return workers > 0 and torch.cuda.is_available()
