"""What the examples share: the 1,797 images of digits that come with scikit-learn, and a teacher trained on them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

TRAIN = 1000


def digits(side: int = 8) -> tuple[TensorDataset, TensorDataset]:
    """Training and test images ``[N, 3, side, side]`` in [0, 1] with their labels, in an order of chance."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = torch.tensor(found.images[order] / 16, dtype=torch.float32).unsqueeze(1).expand(-1, 3, -1, -1)
    images = functional.interpolate(images, size=(side, side), mode="bilinear")
    labels = torch.tensor(found.target[order])
    return TensorDataset(images[:TRAIN], labels[:TRAIN]), TensorDataset(images[TRAIN:], labels[TRAIN:])


def write_folder(root: Path, side: int = 32) -> None:
    """The same images as files, ``root/train/3/0042.png`` for one."""
    for part, data in zip(("train", "validation"), digits(side), strict=True):
        for k, (image, label) in enumerate(data):
            file = root / part / str(int(label)) / f"{k:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(file)


def train(model: nn.Module, data: TensorDataset, epochs: int = 4, lr: float = 0.02) -> nn.Module:
    """A short training with labels alone: enough for a teacher."""
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(loader))
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Top-1 accuracy in per cent."""
    images, labels = data.tensors
    return 100 * float((model.eval()(images).argmax(dim=1) == labels).float().mean())


def show(who: str, model: nn.Module, data: TensorDataset) -> float:
    """Print the accuracy, and return it."""
    found = accuracy(model, data)
    print(f"{who}: {found:.1f} % of the test images right")
    return found


def shifted(images: Tensor) -> Tensor:
    """Augmentation: each batch is moved by at most one pixel each way."""
    dx, dy = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(images, (dx, dy), dims=(2, 3))
