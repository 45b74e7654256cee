"""Image sets of Hugging Face, on disk or by name: Arrow tables of encoded images."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dlkd.data.pixels import HEAD, FilePixels, Indices, file_size
from dlkd.data.samples import Samples
from dlkd.data.sources.source import Source, at_least_two, class_numbers, classes_of, numbered, which_part
from dlkd.errors import UserError, first_line

LABELS = ("label", "labels", "fine_label", "class", "target")
DIGESTED = 4096


class HubPixels(FilePixels):
    """Encoded images in the rows of a ``datasets.Dataset``.

    Args:
        dataset: the rows, images not decoded.
        column: of the images.
        split: what messages and tables call the data set.
        rows: which of its rows these are.
    """

    def __init__(self, dataset: Any, column: str, split: str, rows: Indices) -> None:
        super().__init__([], Path())
        self.dataset, self.column, self.split, self.rows = dataset, column, split, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Indices) -> HubPixels:
        """The chosen rows, in the order of ``index``."""
        return HubPixels(self.dataset, self.column, self.split, self.rows[index])

    def name(self, position: int) -> str:
        """``split/row``."""
        return f"{self.split}/{self.rows[position]}"

    def place(self, position: int) -> str:
        """What messages call an image."""
        return f"row {self.rows[position]} of {self.split}"

    def open(self, position: int) -> BinaryIO:
        """The encoded image."""
        image = self.dataset[int(self.rows[position])][self.column]
        if image is None:
            raise ValueError("no image in this row")
        return io.BytesIO(image["bytes"]) if image["bytes"] is not None else Path(image["path"]).open("rb")

    def sizes(self) -> list[int]:
        """Bytes of each encoded image, of which Arrow reads none for it; −1 where nobody knows."""
        from pyarrow import compute

        found: list[int] = []
        for rows in self.dataset.with_format("arrow").iter(1000):
            images = rows.column(self.column)
            sizes = compute.binary_length(compute.struct_field(images, "bytes")).to_pylist()
            paths = compute.struct_field(images, "path").to_pylist()
            found += [
                size if size is not None else file_size(Path(path or ""))
                for size, path in zip(sizes, paths, strict=True)
            ]
        return [found[row] for row in self.rows]

    def digest(self) -> str:
        """sha256 of the rows' numbers and of size and first 4 KiB of up to 4,096 images, evenly spread.

        All rows would have to be read whole for it.
        """
        h = hashlib.sha256(self.rows.tobytes())
        for position in np.unique(np.linspace(0, len(self) - 1, min(len(self), DIGESTED)).astype(int)):
            try:
                with self.open(int(position)) as file:
                    head, size = file.read(HEAD), file.seek(0, 2)
            except (OSError, ValueError) as error:
                raise UserError(f"could not read {self.place(int(position))}: {first_line(error)}") from error
            h.update(f"\0{size}\0".encode() + head)
        return h.hexdigest()


def hugging_face(name: str, download: bool, image_column: str | None = None, label_column: str | None = None) -> Source:
    """A data set of images and labels.

    Args:
        name: a folder that ``save_to_disk`` wrote, a Parquet file or a folder of them, or ``NAME`` or
            ``NAME:CONFIGURATION`` on the hub.
        download: fetch it from the hub where it is not in the cache.
        image_column: by default the one column of images.
        label_column: by default the one column of classes, or ``label``, ``fine_label``, …

    Raises:
        UserError: no such data set or column, no training images, an unlabelled row, classes that differ.
    """
    splits = _read(name, download)
    parts = {part: rows for key, rows in splits.items() if (part := which_part(key)) is not None}
    if "train" not in parts and len(splits) == 1:
        parts = {"train": next(iter(splits.values()))}
    if "train" not in parts:
        raise UserError(f"expected a split called train in {name}, but found {', '.join(splits)}")
    images, labels = _columns(name, parts["train"], image_column, label_column)
    values = {part: list(rows[labels]) for part, rows in parts.items() if {images, labels} <= set(rows.column_names)}
    feature = parts["train"].features[labels]
    known = getattr(feature, "names", None)
    names = classes_of(set(values["train"]), name) if known is None else at_least_two(known, name)

    def samples(part: str) -> Samples:
        given = values[part]
        if bare := sum(value is None or value == -1 for value in given):
            raise UserError(f"expected a label in every row of {name}, but {bare} of its {part} rows have none")
        numbers = given if known is not None else class_numbers(given, names, f"the {part} images of {name}")
        if known is not None and getattr(parts[part].features[labels], "names", None) != known:
            raise UserError(f"expected the {part} images of {name} to have the classes of its training images")
        return numbered(_pixels(parts[part], images, part), numbers, names)

    # Test images whose labels are kept from everybody have −1 there.
    test = next((p for p in ("test", "val") if p in values and any(v not in (None, -1) for v in values[p])), None)
    return Source(samples("train"), None if test is None else samples(test))


def _pixels(rows: Any, column: str, split: str) -> HubPixels:
    import datasets

    kept = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return HubPixels(kept.with_format(None), column, split, np.arange(len(kept)))


def _read(name: str, download: bool) -> dict[str, Any]:
    """Every split by its name."""
    try:
        import datasets
    except ImportError as error:
        raise UserError("--data.name hf:… needs the package datasets: pip install 'dlkd[huggingface]'") from error
    path = Path(name)
    verbosity = datasets.logging.get_verbosity()
    try:
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it would log what is then raised
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            found = datasets.load_from_disk(name)
        elif path.suffix == ".parquet" and path.is_file():
            found = datasets.load_dataset("parquet", data_files=name)
        elif path.is_dir():
            found = datasets.load_dataset(name)
        else:
            if path.is_absolute() or name.startswith("."):
                raise FileNotFoundError("there is no such folder or Parquet file")
            place, _, configuration = name.partition(":")
            with contextlib.nullcontext() if download else _offline():
                found = datasets.load_dataset(place, configuration or None)
    except Exception as error:  # the hub, Arrow and the network each have errors of their own
        raise UserError(
            f"could not read {name} with datasets ({first_line(error)}); expected a folder of save_to_disk or of "
            "Parquet files, or the name of a data set on the hub"
        ) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
    return dict(found) if isinstance(found, dict) else {"train": found}


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """What ``HF_HUB_OFFLINE=1`` does: what is in the cache alone, without asking the hub for anything newer."""
    import datasets
    import huggingface_hub

    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


def _columns(name: str, rows: Any, image: str | None, label: str | None) -> tuple[str, str]:
    """The columns of images and labels."""
    import datasets

    features = rows.features
    for what, asked in (("image", image), ("label", label)):
        if asked is not None and asked not in features:
            raise UserError(
                f"expected a column {asked!r} in {name}, but found {', '.join(features)}; mend --data.{what}_column"
            )
    pictures = [key for key, kind in features.items() if isinstance(kind, datasets.Image) or _encoded(kind)]
    classes = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    usual = [key for key in LABELS if key in features]
    image = image or (pictures[0] if len(pictures) == 1 else None)
    label = label or (classes[0] if len(classes) == 1 else next(iter(usual), None))
    for what, found in (("image", image), ("label", label)):
        if found is None:
            raise UserError(
                f"expected one column of {what}s in {name}, but found {', '.join(features)}; "
                f"name it as --data.{what}_column"
            )
    assert image is not None and label is not None
    return image, label


def _encoded(kind: Any) -> bool:
    """Whether a column without a type of its own holds images as the hub's Parquet files do: {bytes, path}."""
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}
