"""The first digits of scikit-learn as files, tables and samples, and whether samples show them."""

import csv
import io

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

DIGITS = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
TARGET = load_digits().target
TRAIN, TEST = range(20), range(20, 26)


def encoded(k):
    """Digit number ``k`` as the bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(DIGITS[k]).save(file, "PNG")
    return file.getvalue()


def same_digits(samples, numbers):
    """Whether the samples show these digits, in order, with their labels."""
    shown = [np.asarray(samples.pixels.load(k))[..., 0] for k in range(len(samples))]
    names = [samples.class_names[y] for y in samples.labels.tolist()]
    return np.array_equal(shown, DIGITS[list(numbers)]) and names == [str(y) for y in TARGET[list(numbers)]]


def any_order(samples, numbers):
    """The same for a random choice: access by position, not by turn."""
    order = np.random.default_rng(0).permutation(len(samples))
    assert same_digits(samples.take(order), np.array(numbers)[order])
    assert samples.take(order).digest() != samples.digest() == samples.take(np.arange(len(samples))).digest()


def written(path, columns):
    """A table of ``columns`` in the format of the suffix."""
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(columns), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    return path


def rows(numbers):
    """Columns that name the images of the fixture ``files``."""
    return {"path": [f"images/{k}.png" for k in numbers], "label": [int(TARGET[k]) for k in numbers]}
