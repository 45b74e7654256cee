"""What draws from all three generators, where they are, and the parts of a batch."""

import random

import numpy as np
import torch


def jitter(image):
    """A transform to 6×6 that draws from each generator: every worker has them in a state of its own."""
    x = torch.from_numpy(np.array(image.resize((6, 6)))).permute(2, 0, 1).float() / 255
    return (x * random.random() + torch.rand(3, 6, 6) * float(np.random.rand())).clamp(0, 1)


def states():
    """The states of all generators, to be compared."""
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), (kind, keys.tobytes(), *rest)


def held(batch):
    """What is in a batch: there need not be strong views."""
    return [part for part in batch if part is not None]
