"""A Hugging Face Trainer: `python examples/hf_trainer.py --epochs 4`."""

import argparse
import tempfile

import torch
from digits import digits, show, train
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.utils import logging

from dlkd import Distiller
from dlkd.integrations import LogitsOf
from dlkd.integrations.transformers import DistillationTrainer


class AsDictionaries(torch.utils.data.Dataset):
    """Images and labels under the names that the Trainer knows."""

    def __init__(self, data: torch.utils.data.TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        image, label = self.data[k]
        return {"pixel_values": image, "labels": label}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--method", default="dlkd")
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    training, test = digits()
    small = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10)
    teacher = train(LogitsOf(ResNetForImageClassification(small)), training)
    show("teacher", teacher, test)

    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": 48, "intermediate_size": 96}
    student = ViTForImageClassification(ViTConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, num_labels=10))
    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillationTrainer(
            student,
            TrainingArguments(
                folder,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=32,
                learning_rate=4e-3,
                lr_scheduler_type="cosine",
                warmup_steps=20,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=AsDictionaries(training),
            eval_dataset=AsDictionaries(test),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
            distiller=Distiller(teacher, options.method),
        )
        trainer.distiller.calibrate((b["pixel_values"], b["labels"]) for b in trainer.get_train_dataloader())
        trainer.train()
        print(f"student: {100 * trainer.evaluate()['eval_accuracy']:.1f} % of the test images right")


if __name__ == "__main__":
    main()
