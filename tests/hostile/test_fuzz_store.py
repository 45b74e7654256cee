"""Manifests and shards of strangers: read exactly as they were written, or refused in one line."""

import hashlib
import json
import math

import pytest
import safetensors.torch
import torch
from hypothesis import given
from mutations import changed, fuzz, in_time, mutated

from dlkd.errors import UserError
from dlkd.regular import read_regular
from dlkd.store import MANIFEST, Manifest, Shards, Storage
from dlkd.store.manifest import _text

SOUND = Manifest(
    identity={
        "family": "f",
        "content": {"seed": 0},
        "teacher": "t",
        "probes": [{"sparsity": 0.3}],
        "precision": "fp32",
    },
    samples=100,
    classes=10,
    scores=(("distance", 1.0),),
    probe_logits=False,
    storage=Storage("fp16", 3),
    rows=40,
    views=4,
    made_by={"dlkd": "1"},
)
TEXT = _text(SOUND._content()).encode()
NAME, KEY = "view-00000-0000", "key"
FORM, ROWS, CLASSES, COLUMN = Storage("fp16"), 4, 3, "one/l2/tau1"


def read(folder):
    with in_time():
        try:
            return Manifest.read(folder)
        except UserError as error:
            assert "\n" not in str(error)
            return None


@given(content=mutated(TEXT, [b"[" * 3000, b"9" * 5000, b"NaN", b"1e999", b'"format": 3,', b"\xff\xfe", b"\x00"]))
@fuzz(80)
def test_a_manifest_is_the_one_that_was_written_or_refused(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    assert read(tmp_path) == (SOUND if content == TEXT else None)


@given(content=changed(json.loads(TEXT)))
@fuzz(120)
def test_a_forged_manifest_is_possible_or_refused(tmp_path, content):
    """Its checksum is right, as anybody can make it."""
    content.pop("checksum", None)
    (tmp_path / MANIFEST).write_text(_text(content))
    if (found := read(tmp_path)) is not None:
        assert len(found.expected(min(found.views or 1, 1000))) <= 10**7 and len(found.key) == 64
        assert found.storage.bytes_per_sample(found.classes, 1, probe_logits=found.probe_logits) > 0
        assert all(math.isfinite(tau) for _, tau in found.scores) and found.lacks(SOUND) is not None


def test_a_manifest_without_end(tmp_path):
    (tmp_path / MANIFEST).symlink_to("/dev/zero")
    with in_time(), pytest.raises(UserError, match="no ordinary file"):
        Manifest.read(tmp_path)
    (tmp_path / "large").write_bytes(bytes(11))
    assert read_regular(tmp_path / "large", 11) == bytes(11)
    with pytest.raises(ValueError, match="larger than"):
        read_regular(tmp_path / "large", 10)


def tensors():
    return {"logits": torch.arange(12).half().view(4, 3), COLUMN: torch.arange(4).float()}


SHARD = safetensors.torch.save(tensors(), {"shard": f"{KEY}/{NAME}"})


def opened(folder, content, signed):
    digest = hashlib.sha256(content if signed else SHARD).hexdigest()[:16]
    file = folder / f"{NAME}.{digest}.safetensors"
    file.write_bytes(content)
    shards = Shards(folder, KEY)
    try:
        with in_time():
            damage = shards.damage(file)
            try:
                found = shards.read(NAME)
            except UserError as error:
                assert "\n" not in str(error) and damage is not None
                return None
            assert damage is None
            return {name: values.clone() for name, values in found.items()}
    finally:
        file.unlink()


@given(content=mutated(SHARD))
@fuzz(60)
def test_a_shard_is_the_one_that_was_written_or_refused(tmp_path, content):
    assert (opened(tmp_path, content, signed=False) is None) == (content != SHARD)


@given(content=mutated(SHARD, [b"[" * 500, b"F64", b"I64", b'"logits"', b"99999999999999999999", b"\xff" * 8]))
@fuzz(120)
def test_a_forged_shard_is_tensors_that_are_looked_at_or_refused(tmp_path, content):
    found = opened(tmp_path, content, signed=True)
    if found is not None:
        reason = FORM.misfit(found, ROWS, CLASSES, {COLUMN}, probe_logits=False)
        same = {k: (v.shape, v.dtype) for k, v in found.items()} == {
            k: (v.shape, v.dtype) for k, v in tensors().items()
        }
        assert (reason is None) == same


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {}, "logits is not in it"),
        (lambda t: {**t, "extra": t["logits"]}, "extra is in it"),
        (lambda t: {**t, "logits/rest": t["logits/rest"][:2]}, "logits/rest is [2] of torch.float32, expected [4]"),
        (lambda t: {**t, "logits": t["logits"].double()}, "logits is [4, 2] of torch.float64"),
        (lambda t: {**t, "logits/index": t["logits/index"] + 3}, "logits/index is of classes that there are not"),
        (lambda t: {**t, "logits/index": t["logits/index"] - 9}, "logits/index is of classes that there are not"),
    ],
)
def test_what_no_lesson_leaves(change, reason):
    from dlkd.store import Lesson

    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    form = Storage("fp16", 2)
    whole = form.encode(Lesson(logits, {COLUMN: torch.zeros(4)}))
    assert form.misfit(whole, 4, 5, {COLUMN}, probe_logits=False) is None
    assert form.misfit(whole, 5, 5, {COLUMN}, probe_logits=False).startswith("one/l2/tau1 is [4]")
    assert form.misfit(change(whole), 4, 5, {COLUMN}, probe_logits=False).startswith(reason)
    assert form.misfit(whole, 4, 5, {COLUMN}, probe_logits=True).startswith("probe_logits is not in it")
