"""A Lightning Trainer: `python examples/lightning_train.py --epochs 4`."""

import argparse
import logging
import tempfile
import warnings

import lightning
import torch
from digits import digits, shifted, show, train

from dlkd import Distiller
from dlkd.integrations.lightning import DistillationModule
from dlkd.models import cifar_resnet


class WithAugmentation(DistillationModule):
    """The student and the teacher are shown the same view."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images, labels = batch
        return (shifted(images) if self.training else images), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--method", default="dlkd")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    lightning.seed_everything(0, verbose=False)
    training, test = digits()
    loader = torch.utils.data.DataLoader(training, batch_size=32, shuffle=True, drop_last=True)
    teacher = train(cifar_resnet("resnet8", 10), training)
    show("teacher", teacher, test)

    distiller = Distiller(teacher, options.method)
    distiller.calibrate(shifted(images) for images, _ in loader)
    student = cifar_resnet("resnet8x0.5", 10)
    module = WithAugmentation(student, distiller, lambda parameters: torch.optim.AdamW(parameters, lr=0.01))
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=options.epochs,
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)
        figures = trainer.test(module, torch.utils.data.DataLoader(test, batch_size=256), verbose=False)
        print(f"student: {100 * figures[0]['test_accuracy']:.1f} % of the test images right")


if __name__ == "__main__":
    main()
