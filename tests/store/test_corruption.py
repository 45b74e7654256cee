"""200 damaged stores: 200 are found out, and no wrong lesson is taught."""

import numpy as np
import pytest
import torch
from store_toys import MIXINGS, N, family, live, opened, samples

from dlkd.errors import UserError
from dlkd.jobs.store import StoreFolder, verify_store
from dlkd.store import MANIFEST, Storage, build

VIEWS, TRIALS = 2, 200


def lessons(path):
    """All that a run of two epochs reads; the teacher stands by and counts how often it is asked."""
    views, teacher = family(MIXINGS[1]), live()
    store = opened(path, teacher, views, storage=None)
    said = [store(views.batch(views.order(v), np.full(N, v))) for v in range(VIEWS)] + [store.plain(samples())]
    return said, teacher.teacher.models[0].calls


def damaged(whole, random):
    """One byte changed, or the end cut off."""
    if random.integers(2):
        at = random.integers(len(whole))
        return whole[:at] + bytes([whole[at] ^ random.integers(1, 256)]) + whole[at + 1 :]
    return whole[: random.integers(len(whole))]


def one_line(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_200_damaged_stores(tmp_path, capsys):
    path = tmp_path / "s"
    store = opened(path, views=family(MIXINGS[1]), rows=4, storage=Storage("fp16"))
    assert build(store, VIEWS, made=lambda _: None)
    store.plain(samples())
    right, asked = lessons(path)
    assert asked == 0
    files = sorted(p for p in path.iterdir() if p.is_file())
    assert len(files) == VIEWS * 3 + 2
    random, seen = np.random.default_rng(0), set()
    for _ in range(TRIALS):
        file = files[random.integers(len(files))]
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, random))
        seen.add(file)
        named = MANIFEST if file.name == MANIFEST else file.name
        assert named in one_line(verify_store, StoreFolder(path))
        assert "damaged" in (said := one_line(lessons, path)) and named in said
        file.write_bytes(whole)
    assert seen == {*files}
    verify_store(StoreFolder(path))
    assert capsys.readouterr().out == f"{path}: 7 shards, 2 views of each image, every byte as it was written\n"
    again, asked = lessons(path)
    assert asked == 0  # whatever is read is the right lesson
    for one, other in zip(right, again, strict=True):
        assert one.tensors().keys() == other.tensors().keys()
        assert all(torch.equal(one.tensors()[k], v) for k, v in other.tensors().items())
