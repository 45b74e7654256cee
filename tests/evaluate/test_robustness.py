"""One call puts together what the parts find, and nothing that was not asked for."""

import numpy as np
import pytest
import torch
from torch import nn

from dlkd.data.sources import in_memory
from dlkd.errors import UserError
from dlkd.evaluate import (
    Mislabelled,
    accuracy_under,
    agreement,
    by_level,
    figures,
    kl_to_teacher,
    logits_of,
    memorisation,
    print_figures,
    robustness,
)


def setting():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return model, in_memory(pixels, torch.arange(60) % 3, tuple("abc")), lambda x: 2 * x - 1


def test_figures_alone():
    model, samples, form = setting()
    assert robustness(model, samples, form) == {"images": 60, **figures(*logits_of(model, samples, form))}


def test_everything(capsys):
    model, samples, form = setting()
    logits, labels = logits_of(model, samples, form)
    teacher, level = torch.randn(60, 3), torch.linspace(0, 1, 60)
    part = samples.take(np.arange(12))
    noisy = {"train": Mislabelled(part, (part.labels + 1) % 3)}
    found = robustness(
        model,
        samples,
        form,
        teacher_logits=teacher,
        level=level,
        noisy=noisy,
        corruptions=("jpeg", "gaussian_noise"),
        severities=(1, 3),
        seed=4,
    )
    under = accuracy_under(model, samples, form, ("jpeg", "gaussian_noise"), (1, 3), seed=4)
    error = 100 - np.mean(list(under.values()))
    expected = {
        **robustness(model, samples, form),
        "agreement": agreement(logits, teacher),
        "kl_to_teacher": kl_to_teacher(logits, teacher),
        "by_level": by_level(logits, labels, level, teacher),
        "memorisation": {"train": memorisation(logits[:12], labels[:12], (labels[:12] + 1) % 3)},
        "corruptions": {
            "severities": [1, 3],
            "accuracy": under,
            "mean_error": pytest.approx(error),
            "relative_error": pytest.approx(error - 100 + found["accuracy"]),
        },
    }
    assert found == expected
    print_figures(found, "all of it")
    shown = capsys.readouterr().out
    assert f"│ KL(teacher ‖ model), nats {' ' * 100}"[:30] in shown and f"{found['kl_to_teacher']:.4g}" in shown
    assert "12 wrongly labelled training images: says the wrong label" in shown and "gaussian_noise" in shown


def test_what_does_not_go_together():
    model, samples, form = setting()
    with pytest.raises(ValueError, match="expected teacher_logits with level"):
        robustness(model, samples, form, level=torch.zeros(60))
    model[1].weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match="logits are not finite for 60 images"):
        robustness(model, samples, form)
