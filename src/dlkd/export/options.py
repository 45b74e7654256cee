"""The options of ``dlkd export``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlkd.data import DataOptions
from dlkd.errors import UserError
from dlkd.export.graph import need_onnx

Target = Literal["onnx", "safetensors", "torch-export", "hub-folder"]


@dataclass(frozen=True)
class ExportOptions:
    """Write the student of a run, alone, for other programs; checked against it on real images.

    Attributes:
        run: folder of a run, or its student.safetensors.
        to: onnx (model.onnx), safetensors (student.safetensors, for dlkd), torch-export (model.pt2), or hub-folder
            (model.safetensors, config.json and a model card).
        out: folder to write, new or empty.
        preprocess: what the graph is given: normalised images, as the JSON file says (beside), or images in [0, 1],
            which it normalises itself (in-graph).
        int8: write model.int8.onnx as well, by ONNX Runtime's static quantiser.
        calibration_images: training images that it sees.
        benchmark: measure latency and size of student and teacher, in PyTorch and ONNX Runtime, on the CPU.
        check_images: so many images of the run are shown to the student and to what was exported; 0 leaves that out.
        split: which images: test, held_out, or auto, those that the figures of the run are of.
        tolerance: largest difference of a logit, as a share of the largest logit of the image (of 1 at least).
        threads: of the CPU; by default torch's choice.
        name: factory of the student, package.module:factory, if it was made by one.
        license: of the model card, such as apache-2.0.
        overwrite: replace the export in that folder.
        data: images and labels to check on; where none of these options is given, those of the run.
    """

    run: Path
    to: Target = "onnx"
    out: Path = Path("exported")
    preprocess: Literal["beside", "in-graph"] = "beside"
    int8: bool = False
    calibration_images: int = 256
    benchmark: bool = False
    check_images: int = 256
    split: Literal["auto", "test", "held_out"] = "auto"
    tolerance: float = 1e-3
    threads: int | None = None
    name: str | None = None
    license: str | None = None
    overwrite: bool = False
    data: DataOptions = field(default_factory=DataOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense, or a library is missing."""
        if self.int8 and self.to != "onnx":
            raise UserError(f"expected --to onnx with --int8, but got {self.to}")
        if self.preprocess == "in-graph" and self.to not in ("onnx", "torch-export"):
            raise UserError(f"expected --to onnx or torch-export with --preprocess in-graph, but got {self.to}")
        if self.license is not None and (self.to != "hub-folder" or not self.license.isprintable()):
            raise UserError("expected --license to be one word, with --to hub-folder, whose model card states it")
        for name, least in (("check_images", 0), ("calibration_images", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"expected --{name} to be at least {least}, but got {value}")
        if not 0 < self.tolerance < math.inf:
            raise UserError(f"expected --tolerance to be above 0, but got {self.tolerance}")
        for wanted, what in ((self.to == "onnx", "--to onnx"), (self.int8, "--int8"), (self.benchmark, "--benchmark")):
            if wanted:
                need_onnx(what)
