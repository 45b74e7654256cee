"""Eight bits by ONNX Runtime's static quantiser, calibrated on training images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from dlkd.errors import UserError, first_line
from dlkd.export.graph import need_onnx, quietly
from dlkd.export.preprocessing import INPUT, Preprocessing


def quantise(model: Path, out: Path, batches: Iterable[Tensor], preprocessing: Preprocessing) -> None:
    """Write weights and activations of ``model`` in int8, with a scale for each channel of the weights.

    Args:
        model: an ONNX file of ours.
        out: the file to write.
        batches: images ``[B, channels, H, W]`` in [0, 1], which give the ranges of the activations.
        preprocessing: of the model.

    Raises:
        UserError: ONNX Runtime is not installed, or cannot quantise this model.
    """
    need_onnx("--int8")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {INPUT: preprocessing.batch(images).contiguous().numpy()}

    folded = out.with_suffix(".folded.onnx")
    try:
        with quietly():
            # Norms are folded into convolutions first: by itself each would be quantised.
            quant_pre_process(model, folded, skip_symbolic_shape=True)
            quantize_static(
                folded,
                out,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Unsigned activations run fastest on x86. Seven bits of each weight, since older processors clip the
                # sums of eight: the file is then as good there as where it was checked.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
    except UserError:  # of an image that cannot be read
        raise
    except Exception as error:  # its own, which share no base
        raise UserError(
            f"ONNX Runtime could not quantise the model ({type(error).__name__}: {first_line(error):.200}); "
            "leave --int8 out"
        ) from error
    finally:
        folded.unlink(missing_ok=True)
