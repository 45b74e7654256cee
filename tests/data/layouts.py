"""Small archives in the exact layout of the official ones, out of scikit-learn's digits."""

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision import datasets

from dlkd.data.noise.superclass import CIFAR100

DIGITS = load_digits()
CLASSES, TRAIN, TEST = 3, 3, 2
"""Classes, and training and test images of each."""


def write(path, k):
    """Image number ``k`` of the digits as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.rint(DIGITS.images[k] * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).resize((24, 24)).convert("RGB").save(path, quality=95)


def images_of(label):
    """Numbers of training and of test images of the digit ``label``."""
    mine = np.flatnonzero(DIGITS.target == label)
    return mine[:TRAIN].tolist(), mine[TRAIN : TRAIN + TEST].tolist()


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def each(names):
    """(class, its name, whether it is for training, image number) for every image."""
    for label, name in enumerate(names):
        for training, chosen in zip((True, False), images_of(label), strict=True):
            yield from ((label, name, training, k) for k in chosen)


def filled(base, names, place):
    """Write each image to ``base / place(class name, image number)``; gives (file, class, is it for training)."""
    found = []
    for label, name, training, k in each(names):
        file = place(name, k)
        write(base / file, k)
        found.append((file, label, training))
    return found


def parts(found, row):
    """``row(file, class)`` of the training and of the test images."""
    return [[row(file, label) for file, label, training in found if training == part] for part in (True, False)]


def cell(texts):
    """A MATLAB cell array of strings."""
    return np.array(texts, object).reshape(-1, 1)


def mat(path, content):
    """A MATLAB file, compressed as MATLAB does it: with checksums that tell damage."""
    savemat(path, content, do_compression=True)


def cifar(root, name, patch, each=6, classes=10):
    """Digits of 32 pixels in the pickles of the official archive, whose md5 take the place of the official ones.

    Args:
        root: where the folder of the archive is made.
        name: cifar10 or cifar100.
        patch: pytest's monkeypatch.
        each: training images of each class that has any; one more is for testing.
        classes: that have any, the first ones, at most ten.

    Returns:
        uint8 images ``[N, 3, 32, 32]`` and labels of the training images, the same of the test images, class names.
    """
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    names = [f"class {k}" for k in range(10)] if name == "cifar10" else sorted(" ".join(CIFAR100.values()).split())
    prefix = "" if name == "cifar10" else "fine_"
    (root / kind.base_folder).mkdir(parents=True)

    def dump(file, content):
        path = root / kind.base_folder / file
        path.write_bytes(pickle.dumps(content))
        return [file, datasets.utils.calculate_md5(path)]

    found = []
    for place, first, count in (("train_list", 0, each), ("test_list", each, 1)):
        places = [np.flatnonzero(DIGITS.target == label)[first : first + count] for label in range(classes)]
        numbers = np.stack(places).T
        grey = np.rint(DIGITS.images[numbers.flatten()] * (255 / 16)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
        pixels, labels = np.stack([grey, 255 - grey, grey.swapaxes(1, 2)], 1), DIGITS.target[numbers.flatten()]
        files = [file for file, _ in getattr(kind, place)]
        parts = zip(files, np.array_split(pixels.reshape(len(pixels), -1), len(files)), strict=True)
        rows = zip(parts, np.array_split(labels, len(files)), strict=True)
        known = [dump(file, {"data": data, f"{prefix}labels": y.tolist()}) for (file, data), y in rows]
        patch.setattr(kind, place, known)
        found += [pixels, labels]
    filename, md5 = dump(kind.meta["filename"], {f"{prefix}label_names": names})
    patch.setattr(kind, "meta", {**kind.meta, "filename": filename, "md5": md5})
    return (*found, names)


def tiny_imagenet(root):
    names = ["n01443537", "n01629819", "n02002724"]
    base, found = root / "tiny-imagenet-200", []
    lines(base / "wnids.txt", reversed(names))  # the official order is no alphabetical one
    lines(base / "words.txt", [f"{name}\tword, other" for name in names])
    annotations = []
    for label, name, training, k in each(names):
        file = f"train/{name}/images/{name}_{k:05d}.JPEG" if training else f"val/images/val_{k}.JPEG"
        write(base / file, k)
        found.append((file.removeprefix("train/") if training else file, label, training))
        if training:
            lines(base / f"train/{name}/{name}_boxes.txt", [f"{name}_{k}.JPEG\t0\t0\t62\t62"])
        else:
            annotations.append(f"val_{k}.JPEG\t{name}\t0\t32\t44\t62")
    lines(base / "val/val_annotations.txt", annotations)
    write(base / "test/images/test_0.JPEG", 0)
    return names, found


def imagenet(root):
    names, found = ["n01440764", "n01443537", "n01484850"], []
    for label, name, training, k in each(names):
        write(root / "imagenet" / ("train" if training else "val") / name / f"{k:05d}.JPEG", k)
        found.append((f"{name}/{k:05d}.JPEG", label, training))
    return names, found


def imagenet_of_kaggle(root):
    names, found, rows = ["n01440764", "n01443537", "n01484850"], [], ["ImageId,PredictionString"]
    base = root / "ILSVRC/Data/CLS-LOC"
    for label, name, training, k in each(names):
        file = f"{name}/{name}_{k:05d}.JPEG" if training else f"val/ILSVRC2012_val_{k:08d}.JPEG"
        write(base / ("train/" + file if training else file), k)
        found.append((file, label, training))
        rows += [] if training else [f"ILSVRC2012_val_{k:08d},{name} 1 2 3 4 {name} 5 6 7 8 "]
    lines(root / "LOC_val_solution.csv", rows)
    return names, found


def cub200(root):
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
    base, found, tables = root / "CUB_200_2011", [], {"images": [], "image_class_labels": [], "train_test_split": []}
    for number, (label, name, training, k) in enumerate(each(names), 1):
        file = f"{name}/{name[4:]}_{k:04d}.jpg"
        write(base / "images" / file, k)
        found.append((f"images/{file}", label, training))
        tables["images"].append(f"{number} {file}")
        tables["image_class_labels"].append(f"{number} {label + 1}")
        tables["train_test_split"].append(f"{number} {int(training)}")
    for table, rows in tables.items():
        lines(base / f"{table}.txt", rows)
    lines(base / "classes.txt", [f"{k} {name}" for k, name in enumerate(names, 1)])
    return names, found


def stanford_dogs(root):
    names = ["n02085620-Chihuahua", "n02085782-Japanese_spaniel", "n02085936-Maltese_dog"]
    found = filled(root, names, lambda name, k: f"Images/{name}/{name[:9]}_{k}.jpg")
    rows = parts(found, lambda file, label: (file.removeprefix("Images/"), label + 1))
    for part, chosen in zip(("train", "test"), rows, strict=True):
        files, labels = zip(*chosen, strict=True)
        lists = {"file_list": cell(files), "annotation_list": cell([f[:-4] for f in files])}
        mat(root / f"{part}_list.mat", lists | {"labels": np.array(labels, np.uint8).reshape(-1, 1)})
    return names, found


def stanford_cars(root):
    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]
    base, found, listed = root / "stanford_cars", [], {True: [], False: []}
    for label, _, training, k in each(names):
        file = f"{len(listed[training]) + 1:05d}.jpg"
        write(base / ("cars_train" if training else "cars_test") / file, k)
        found.append((f"{'cars_train' if training else 'cars_test'}/{file}", label, training))
        listed[training].append((1, 24, 1, 24, label + 1, file))
    kind = [(f"bbox_{c}", object) for c in ("x1", "x2", "y1", "y2")] + [("class", object), ("fname", object)]
    (base / "devkit").mkdir()
    for path, training in (("devkit/cars_train_annos.mat", True), ("cars_test_annos_withlabels.mat", False)):
        mat(base / path, {"annotations": np.array(listed[training], kind).reshape(1, -1)})
    mat(base / "devkit/cars_meta.mat", {"class_names": np.array(names, object).reshape(1, -1)})
    return names, found


def fgvc_aircraft(root):
    names = ["707-320", "727-200", "Boeing 717"]
    base = root / "fgvc-aircraft-2013b"
    found = filled(base, names, lambda name, k: f"data/images/{k:07d}.jpg")
    train, test = parts(found, lambda file, label: f"{Path(file).stem} {names[label]}")
    lines(base / "data/variants.txt", names)
    lines(base / "data/images_variant_trainval.txt", train)
    lines(base / "data/images_variant_test.txt", test)
    return names, found


def mit67(root):
    names = ["airport_inside", "artstudio", "auditorium"]
    found = filled(root, names, lambda name, k: f"Images/{name}/{name}_{k}.jpg")
    train, test = parts(found, lambda file, _: file.removeprefix("Images/"))
    lines(root / "TrainImages.txt", train)
    (root / "TestImages.txt").write_text("\n".join(test))  # the official file has no last newline
    return names, found


def stanford40(root):
    names = ["applauding", "blowing_bubbles", "brushing_teeth"]
    found, listed = [], {}
    for label, name, training, k in each(names):
        write(root / "JPEGImages" / f"{name}_{k:03d}.jpg", k)
        found.append((f"JPEGImages/{name}_{k:03d}.jpg", label, training))
        listed.setdefault(f"{name}_{'train' if training else 'test'}", []).append(f"{name}_{k:03d}.jpg")
    for part, rows in listed.items():
        lines(root / f"ImageSplits/{part}.txt", rows)
    for part in ("train", "test"):
        lines(root / f"ImageSplits/{part}.txt", [row for name in names for row in listed[f"{name}_{part}"]])
    lines(root / "ImageSplits/actions.txt", ["action_name\tnumber_of_images", *(f"{name}\t5" for name in names)])
    return names, found


def flowers102(root):
    names = ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"]
    base, found, labels = root / "flowers-102", [], []
    sets = {"trnid": [], "valid": [], "tstid": []}
    for number, (label, _, training, k) in enumerate(each(names), 1):
        write(base / f"jpg/image_{number:05d}.jpg", k)
        found.append((f"jpg/image_{number:05d}.jpg", label, training))
        labels.append(label + 1)
        sets["tstid" if not training else "valid" if number % 5 == 1 else "trnid"].append(number)
    mat(base / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    mat(base / "setid.mat", {key: np.array([value], np.uint16) for key, value in sets.items()})
    # In the order of its authors: first what is for training, then what is for choices.
    found.sort(key=lambda file: int(file[0][-9:-4]) % 5 == 1)
    return names, found


def oxford_pets(root):
    names = ["Abyssinian", "american_bulldog", "basset_hound"]
    base = root / "oxford-iiit-pet"
    found = filled(base, names, lambda name, k: f"images/{name}_{k}.jpg")
    train, test = parts(found, lambda file, y: f"{Path(file).stem} {y + 1} {1 + (y > 0)} {y or 1}")
    lines(base / "annotations/trainval.txt", train)
    lines(base / "annotations/test.txt", test)
    return ["Abyssinian", "American Bulldog", "Basset Hound"], found


def food101(root):
    names = ["apple_pie", "baby_back_ribs", "baklava"]
    base = root / "food-101"
    found = filled(base, names, lambda name, k: f"images/{name}/{k}.jpg")
    (base / "meta").mkdir()
    for part, files in zip(("train", "test"), parts(found, lambda file, _: file[len("images/") : -4]), strict=True):
        of_class = {name: [file for file in files if file.startswith(f"{name}/")] for name in names}
        (base / f"meta/{part}.json").write_text(json.dumps(of_class))
    return names, found


LAYOUTS = {
    "tiny-imagenet": (tiny_imagenet, Path("tiny-imagenet-200")),
    "imagenet": (imagenet, Path("imagenet")),
    "cub200": (cub200, Path("CUB_200_2011")),
    "stanford-dogs": (stanford_dogs, Path()),
    "stanford-cars": (stanford_cars, Path("stanford_cars")),
    "fgvc-aircraft": (fgvc_aircraft, Path("fgvc-aircraft-2013b")),
    "mit67": (mit67, Path()),
    "stanford40": (stanford40, Path()),
    "flowers102": (flowers102, Path("flowers-102")),
    "oxford-pets": (oxford_pets, Path("oxford-iiit-pet")),
    "food101": (food101, Path("food-101")),
}
