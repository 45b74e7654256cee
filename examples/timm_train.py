"""timm's loaders, mixup, optimizer, scheduler and checkpoints: `python examples/timm_train.py --epochs 3`."""

import argparse
import tempfile
from pathlib import Path

import timm
import torch
from digits import digits, train, write_folder
from timm.data import Mixup, create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, CheckpointSaver, accuracy

from dlkd import Distiller, InputFormat
from dlkd.integrations.timm import DistillationTask

SIDE, MEAN, STD = 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def make_loader(root: Path, split: str) -> torch.utils.data.DataLoader:
    """Batches of the folder ``root/split``, normalised."""
    training = split == "train"
    return create_loader(
        create_dataset("", root=str(root), split=split),
        input_size=(3, SIDE, SIDE),
        batch_size=32,
        is_training=training,
        no_aug=not training,
        train_crop_mode="rkrc",
        hflip=0.0,
        color_jitter=None,
        mean=MEAN,
        std=STD,
        crop_pct=1.0,
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--method", default="dlkd")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), SIDE)
        loader, test = make_loader(Path(folder), "train"), make_loader(Path(folder), "validation")
        mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.0, num_classes=10)
        training, _ = digits(SIDE)
        teacher = train(timm.create_model("test_resnet", num_classes=10), training, epochs=2, lr=0.005)

        student = timm.create_model("test_efficientnet", num_classes=10)
        # The loader normalises for the student; this teacher was trained on images in [0, 1].
        distiller = Distiller(teacher, options.method, undo=InputFormat(MEAN, STD))
        distiller.calibrate(mixup(images, labels) for images, labels in loader)
        task = DistillationTask(student, distiller)
        optimizer = create_optimizer_v2(task.get_trainable_module(), "adamw", lr=0.005, weight_decay=0.02)
        scheduler, epochs = create_scheduler_v2(optimizer, "cosine", num_epochs=options.epochs)
        saver = CheckpointSaver(student, optimizer, task=task, checkpoint_dir=folder, recovery_dir=folder)
        for epoch in range(epochs):
            task.start_epoch(epoch)
            task.train()
            for images, labels in loader:
                result = task(*mixup(images, labels))
                optimizer.zero_grad()
                result["loss"].backward()
                optimizer.step()
            scheduler.step(epoch + 1)
            top1 = evaluate(task.get_eval_model(), test)
            saver.save_checkpoint(epoch, top1)
            print(f"epoch {epoch}: loss {result['loss'].item():.3f}, level {result['level'].item():.2f}")
        print(f"student: {top1:.1f} % of the test images right")


@torch.no_grad()
def evaluate(model: torch.nn.Module, loader: torch.utils.data.DataLoader) -> float:
    """Top-1 accuracy in per cent."""
    meter = AverageMeter()
    for images, labels in loader:
        meter.update(accuracy(model.eval()(images), labels)[0].item(), len(labels))
    return meter.avg


if __name__ == "__main__":
    main()
