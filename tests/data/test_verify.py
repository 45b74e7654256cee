"""A picture that cannot be read is told in one line before the run, or left out with nothing else changed."""

import errno
import io
import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, features

from dlkd.data import DataOptions, load_data
from dlkd.data import verify as module
from dlkd.data.pixels import FilePixels, UnreadError
from dlkd.data.sources import folder, from_dataset
from dlkd.data.verify import _looks_whole, damaged
from dlkd.errors import UserError
from dlkd.jobs.card import plain

BAD = "zero/07.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """40 PNG files of two classes in ``zero`` and ``one``, 16 pixels a side; copy it to change it."""
    root = tmp_path_factory.mktemp("verify") / "pictures"
    random = np.random.default_rng(0)
    for name in ("zero", "one"):
        (root / name).mkdir(parents=True)
        for k in range(20):
            Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(root / name / f"{k:02d}.png")
    return root


@pytest.fixture
def one_bad(pictures, tmp_path):
    """The 40 pictures, one of them cut off in the middle."""
    root = shutil.copytree(pictures, tmp_path / "pictures")
    file = root / BAD
    file.write_bytes(file.read_bytes()[:-60])
    return root


def of(part):
    """Names of the files of a part, with the numbers and labels that they have."""
    names = [part.pixels.name(k) for k in range(len(part))]
    return dict(zip(names, zip(part.ids.tolist(), part.labels.tolist(), strict=True), strict=True))


def test_one_line_before_the_run_and_a_way_around(one_bad, train, dlkd, tmp_path, good):
    options = ("--data", one_bad, "--data.image_size", 16, "--data.workers", 0)
    for how in ((), ("--data.verify", "true")):
        done = dlkd(*train(tmp_path / "run", *options, *how))
        assert done.status == 2 and done.err.count("\n") == 1
        assert str(one_bad / BAD) in done.err and "--data.verify skip" in done.err
        assert not (tmp_path / "run").exists()
    done = good(*train(tmp_path / "run", *options, "--data.verify", "skip"))
    assert f"1 damaged image was left out, the first: {one_bad / BAD}" in done.out
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.parametrize("kind", ["symmetric", "instance", "pair"])
def test_all_others_stay_where_they_are(pictures, one_bad, kind):
    """Their part, number and wrong label are those that they have beside the whole file."""
    for seed in range(4):  # so that the damaged one is in more than one part
        noise = {"noise": 0.4, "noise_kind": kind, "held_out": 0.25, "seed": seed}
        whole = load_data(DataOptions("folder", pictures, **noise))
        some = load_data(DataOptions("folder", one_bad, **noise, verify="skip"))
        found = [(of(getattr(whole, part)), of(getattr(some, part))) for part in ("train", "held_out", "test")]
        assert sum(before.pop(BAD, None) is not None for before, _ in found) == 1
        assert all(before == after for before, after in found)


def test_of_files_without_labels_too(pictures, one_bad, tmp_path):
    options = {"root": pictures, "unlabelled": one_bad / "zero"}
    with pytest.raises(UserError, match=r"07\.png is damaged"):
        load_data(DataOptions("folder", **options))
    some = load_data(DataOptions("folder", **options, verify="skip")).train
    assert some.unlabelled == 19 and some.ids[-19:].tolist() == [*range(40, 47), *range(48, 60)]


def test_a_class_of_damaged_files_alone_is_not_left_out_in_silence(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    for file in (root / "one").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match="'one' has none left of 20"):
        load_data(DataOptions("folder", root, test_share=0.1, verify="skip"))
    with pytest.raises(UserError, match=r"\(20 such images in all\)$"):
        load_data(DataOptions("folder", root))


def encoded(name, **options):
    memory = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(memory, name, **options)
    return memory.getvalue()


FORMATS = [("JPEG", {}), ("PNG", {}), ("BMP", {}), ("GIF", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {})]
FORMATS += [("JPEG2000", {})] if features.check("jpg_2000") else []


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_what_is_whole_is_not_decoded(tmp_path, name, options):
    """Of a whole file of each format two short looks are enough; half of one that says its end is seen through."""
    raw = encoded(name, **options)
    contents = [raw, raw[: len(raw) // 2], b"", b"<html>" + raw]
    files = [tmp_path / str(k) for k in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    pixels = FilePixels([*files, tmp_path / "gone"], tmp_path)
    looks = [_looks_whole(pixels, k) for k in range(5)]
    assert looks == [True, name not in ("JPEG", "PNG", "WEBP"), False, False, False]


def test_what_cameras_write_behind_a_picture_is_no_damage(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(4):
            (tmp_path / "pictures" / name / f"{k}.jpg").write_bytes(encoded("JPEG") + bytes(5000 * k))
    data = load_data(DataOptions("folder", tmp_path / "pictures", held_out=0.0))
    assert len(data.train) + len(data.test) == 8


def test_false_looks_at_nothing(one_bad):
    data = load_data(DataOptions("folder", one_bad, verify=False))
    assert sum(len(part) for part in (data.train, data.held_out, data.test)) == 40


@pytest.fixture
def fails(monkeypatch):
    """Make opening the picture ``BAD`` raise an error."""

    def fail(error):
        whole = FilePixels.open

        def opened(self, position):
            if self.name(position) == BAD:
                raise error
            return whole(self, position)

        monkeypatch.setattr(FilePixels, "open", opened)

    return fail


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("how", ["auto", True, "skip"])
def test_a_machine_that_fails_is_no_damaged_image(pictures, fails, code, how):
    """A good picture is not left out because there are too many open files or the disk is gone for a while."""
    fails(OSError(code, os.strerror(code)))
    with pytest.raises(UnreadError) as error:
        load_data(DataOptions("folder", pictures, verify=how))
    said = str(error.value)
    assert said.startswith(f"could not read {pictures / BAD}: {os.strerror(code)}; ")
    assert "\n" not in said and "skip" not in said and "damaged" not in said


@pytest.mark.parametrize("how", ["auto", True, "skip"])
def test_want_of_memory_is_no_damaged_image(one_bad, fails, how):
    fails(MemoryError())
    samples = folder(one_bad).train
    with pytest.raises(MemoryError):
        damaged((samples,), how)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "the disk")])
def test_of_objects_too(error):
    class Images(list):
        targets = (0, 1)

        def __getitem__(self, k):
            if k == 1:
                raise error
            return Image.new("RGB", (8, 8)), k

    samples = from_dataset(Images([0, 1]))
    with pytest.raises(MemoryError if isinstance(error, MemoryError) else UnreadError):
        damaged((samples,), "skip")


def test_a_header_that_leads_nowhere_is_damage(pictures, tmp_path):
    """The system itself refuses to go to such a place, with a number as for a disk that fails."""
    root = shutil.copytree(pictures, tmp_path / "pictures")
    (root / BAD).write_bytes(b"II+\0\x08\0\0\0" + (2**63 - 1).to_bytes(8, "little") + bytes(50))
    data = load_data(DataOptions("folder", root, verify="skip"))
    assert sum(len(part) for part in (data.train, data.held_out, data.test)) == 39


@pytest.mark.parametrize("how", ["auto", True])
def test_few_images_wait_at_a_time(one_bad, monkeypatch, how):
    """All of a large set would fill the memory before the first is looked at; what is found is the same."""
    waiting = []

    class Threads(ThreadPoolExecutor):
        def submit(self, *arguments, **options):
            future = super().submit(*arguments, **options)
            waiting.append(self._work_queue.qsize())
            return future

    monkeypatch.setattr(module, "ThreadPoolExecutor", Threads)
    monkeypatch.setattr(module, "BLOCK", 6)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    with pytest.raises(UserError, match=f"{BAD} is damaged"):
        load_data(DataOptions("folder", one_bad, verify=how))
    assert len(waiting) >= 40 and max(waiting) <= 6


def test_uneven_classes_are_told(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    for k in range(4, 20):
        (root / "one" / f"{k:02d}.png").unlink()
    options = {"test_share": 0.25, "held_out": 0.0}
    uneven = load_data(DataOptions("folder", root, **options)).remarks
    assert sum("'zero' has 15 training images, 'one' 3" in remark for remark in uneven) == 1
    assert not any("uneven" in remark for remark in load_data(DataOptions("folder", pictures, **options)).remarks)


def test_words_give_the_same_data_again(pictures, good, train, tmp_path):
    """What a message tells the user to type is read as what it was made of."""
    (root := tmp_path / "a folder: [x]").symlink_to(pictures)
    options = DataOptions("folder", root, image_size=16, noise=0.25, verify="skip", workers=0, download=False)
    words = shlex.split(options.words())
    assert words[:2] == ["--data", str(root)]
    assert DataOptions("folder", Path("digits")).words() == "--data ./digits"
    assert DataOptions("cifar10", Path("a b")).words() == "--data cifar10 --data.root 'a b'"
    good("train", "--out", tmp_path / "run", *words, "--model", "resnet8x0.5", *train("")[5:])
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert written == {**plain(options), "per_class": 30}
