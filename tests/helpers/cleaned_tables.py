"""Tables of cleaned labels as ``dlkd clean`` writes them, of digits with wrong labels."""

import csv
from dataclasses import replace

from dlkd.data import DataOptions, load_data

OPTIONS = DataOptions(per_class=20, noise=0.3)
PLAIN = load_data(OPTIONS)
WHOLE = load_data(replace(OPTIONS, held_out=0.0)).train


def write(file, columns):
    """As ``dlkd clean`` does."""
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


def table(file, **changes):
    """A table of all training images that changes nothing, but for ``changes`` of columns; None leaves one out."""
    given_label = [WHOLE.class_names[k] for k in WHOLE.labels]
    columns = {"id": WHOLE.ids, "given_label": given_label, "label": given_label, "weight": [1.0] * len(WHOLE)}
    columns |= changes
    return write(file, {name: values for name, values in columns.items() if values is not None})


def load(file, **changes):
    return load_data(replace(OPTIONS, cleaned=file, **changes))
