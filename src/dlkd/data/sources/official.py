"""Published data sets by name: where each is got, how it must lie on disk, and what its authors count."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dlkd.data.samples import Samples
from dlkd.data.sources.folders import folder, folders_in
from dlkd.data.sources.lists import READERS
from dlkd.data.sources.source import TEST_NAMES, Source
from dlkd.data.sources.vision import VISION, from_torchvision
from dlkd.errors import UserError, first_line


class Official(NamedTuple):
    """A published data set."""

    base: str
    """The folder that the official archives make."""
    holds: tuple[str, ...]
    """What has to be in it."""
    url: str
    train: int
    test: int
    classes: int
    fetched: bool = False
    """Whether torchvision can download it."""


OFFICIAL = {
    "tiny-imagenet": Official(
        "tiny-imagenet-200",
        ("train", "val/images", "val/val_annotations.txt"),
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        *(100_000, 10_000, 200),
    ),
    "imagenet": Official(
        "imagenet", ("train", "val"), "https://www.image-net.org/download.php", *(1_281_167, 50_000, 1000)
    ),
    "cub200": Official(
        "CUB_200_2011",
        ("images", "images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"),
        "https://data.caltech.edu/records/65de6-vp158",
        *(5_994, 5_794, 200),
    ),
    "stanford-dogs": Official(
        "stanford-dogs",
        ("Images", "train_list.mat", "test_list.mat"),
        "http://vision.stanford.edu/aditya86/ImageNetDogs/",
        *(12_000, 8_580, 120),
    ),
    "stanford-cars": Official(
        "stanford_cars",
        (
            *("cars_train", "cars_test", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat"),
            "cars_test_annos_withlabels.mat",
        ),
        "https://github.com/pytorch/vision/issues/7545",
        *(8_144, 8_041, 196),
    ),
    "fgvc-aircraft": Official(
        "fgvc-aircraft-2013b",
        ("data/images", "data/variants.txt", "data/images_variant_trainval.txt", "data/images_variant_test.txt"),
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        *(6_667, 3_333, 100),
        fetched=True,
    ),
    "mit67": Official(
        "indoorCVPR_09",
        ("Images", "TrainImages.txt", "TestImages.txt"),
        "https://web.mit.edu/torralba/www/indoor.html",
        *(5_360, 1_340, 67),
    ),
    "stanford40": Official(
        "Stanford40",
        ("JPEGImages", "ImageSplits"),
        "http://vision.stanford.edu/Datasets/40actions.html",
        *(4_000, 5_532, 40),
    ),
    "flowers102": Official(
        "flowers-102",
        ("jpg", "imagelabels.mat", "setid.mat"),
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        *(2_040, 6_149, 102),
        fetched=True,
    ),
    "oxford-pets": Official(
        "oxford-iiit-pet",
        ("images", "annotations/trainval.txt", "annotations/test.txt"),
        "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        *(3_680, 3_669, 37),
        fetched=True,
    ),
    "food101": Official(
        "food-101",
        ("images", "meta/train.json", "meta/test.json"),
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        *(75_750, 25_250, 101),
        fetched=True,
    ),
}


def official(name: str, root: Path, download: bool) -> Source:
    """The data set ``name`` in the layout of its official archives, or as an image folder with ``train`` and ``test``.

    Args:
        name: one of ``OFFICIAL``.
        root: the folder that the archives were unpacked in, or the one they made.
        download: let torchvision fetch what it can where nothing is.

    Raises:
        UserError: the data set is not there, incomplete or damaged, or cannot be fetched.
    """
    about = OFFICIAL[name]
    base = _base(root, about)
    if base is None:
        plain = next((where for where in (root, root / about.base) if _image_folder(where)), None)
        if plain is not None:
            return _counted(name, *folder(plain)[:2], gone=0)
        if not (download and about.fetched):
            raise UserError(_not_there(name, root, about))
        base = root / about.base
    elif name in VISION and base.absolute().name != about.base:
        raise UserError(f"expected the folder of {name} to be called {about.base}, but got {base}; rename it")
    try:
        if name not in VISION:
            return _counted(name, *READERS[name](base))
        return _counted(name, *from_torchvision(name, base.absolute(), download=download and not base.is_dir()))
    except UserError:
        raise
    except Exception as error:  # text, .mat and .json files, archives and networks each fail in their own ways
        if not base.is_dir():
            raise UserError(f"could not download {name} to {root} ({first_line(error)}); {_how(about)}") from error
        raise UserError(
            f"{base} is incomplete or damaged ({first_line(error)}); delete it and unpack the archives of {about.url} "
            "again"
        ) from error


def _base(root: Path, about: Official) -> Path | None:
    """The folder in the official layout; None where there is none."""
    places = (root / about.base, root)
    return next((where for where in places if all((where / inner).exists() for inner in about.holds)), None)


def _image_folder(root: Path) -> bool:
    classes = set(folders_in(root / "train"))
    return any(classes & set(folders_in(root / name)) for name in TEST_NAMES)


def _not_there(name: str, root: Path, about: Official) -> str:
    begun = next((where for where in (root / about.base, root) if (where / about.holds[0]).exists()), None)
    if begun is not None:
        missing = next(inner for inner in about.holds if not (begun / inner).exists())
        return f"expected {name} at {begun}, but found no {missing} in it; {_how(about)}"
    fetch = ", or --data.download true" if about.fetched else ""
    return f"expected {name} at {root / about.base}, but found none; {_how(about)}{fetch}"


def _how(about: Official) -> str:
    return (
        f"get it from {about.url}, so that {about.base} holds {', '.join(about.holds)}, and give the folder it is in "
        "as --data.root"
    )


def _counted(name: str, train: Samples, test: Samples | None, gone: int) -> Source:
    """The source, and a remark where it is not the whole data set."""
    about = OFFICIAL[name]
    found = (len(train), 0 if test is None else len(test), len(train.class_names))
    remarks = []
    if found != (about.train, about.test, about.classes):
        remarks.append(
            f"{name} has {found[0]} training and {found[1]} test images of {found[2]} classes here, but "
            f"{about.train}, {about.test} and {about.classes} as published: results are not comparable"
        )
    if gone:
        remarks.append(f"{gone} images of the lists of {name} are not there and were left out")
    return Source(train, test, tuple(remarks))
