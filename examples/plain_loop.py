"""A loop of one's own: `python examples/plain_loop.py --epochs 4 --method dlkd`."""

import argparse

import torch
from digits import digits, shifted, show, train

from dlkd import Distiller
from dlkd.models import cifar_resnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--method", default="dlkd")
    options = parser.parse_args()
    torch.manual_seed(0)
    training, test = digits()
    loader = torch.utils.data.DataLoader(training, batch_size=32, shuffle=True, drop_last=True)
    teacher = train(cifar_resnet("resnet8", 10), training)
    show("teacher", teacher, test)

    student = cifar_resnet("resnet8x0.5", 10)
    distiller = Distiller(teacher, options.method)
    distiller.calibrate(shifted(images) for images, _ in loader)  # over the views that will be trained on
    # The method's own parameters too: some methods learn a temperature.
    optimizer = torch.optim.AdamW([*student.parameters(), *distiller.parameters()], lr=0.01)
    for epoch in range(options.epochs):
        distiller.start_epoch(epoch)
        student.train()
        for images, labels in loader:
            images = shifted(images)  # one view, for student and teacher
            loss = distiller(images, student(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")
    show("student", student, test)


if __name__ == "__main__":
    main()
