"""What a store says about itself."""

import json
from dataclasses import replace

import pytest

from dlkd.errors import UserError
from dlkd.store import MANIFEST, DamagedManifest, Manifest, Storage
from dlkd.store.manifest import _text

FAMILY = {"samples": "s", "augment": "crop", "mixing": "none", "seed": 0}
BASE = Manifest(
    identity={"family": "f0", "content": FAMILY, "teacher": "t", "probes": [{"sparsity": 0.3}], "precision": "fp32"},
    samples=100,
    classes=10,
    scores=(("distance", 1.0), ("entropy_gap", 1.0)),
    probe_logits=True,
    storage=Storage("fp16", 3),
    rows=40,
    views=4,
    made_by={"dlkd": "1", "machine": "ours"},
)


def of(**identity):
    return replace(BASE, identity={**BASE.identity, **identity})


def other_family(**changes):
    left = {k: v for k, v in {**FAMILY, **changes}.items() if v is not None}
    return of(family="f1", content=left)


def test_it_comes_back(tmp_path):
    BASE.write(tmp_path)
    assert Manifest.read(tmp_path) == BASE and BASE.shards == 3 and replace(BASE, samples=80).shards == 2


def refused(folder, mended=True):
    """The refusal; is the manifest one that a repair may write anew?"""
    with pytest.raises(UserError) as error:
        Manifest.read(folder)
    assert "\n" not in str(error.value) and isinstance(error.value, DamagedManifest) == mended
    return str(error.value)


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    BASE.write(tmp_path)
    file, whole = tmp_path / MANIFEST, (tmp_path / MANIFEST).read_bytes()
    for at in range(len(whole)):
        # 0x20 makes another letter of a letter.
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1, 0x20, 0xFF)[at % 3]]) + whole[at + 1 :])
        assert f"{MANIFEST} is damaged" in refused(tmp_path)
    for at in [*range(0, len(whole), 11), len(whole) - 1]:
        file.write_bytes(whole[:at])
        assert f"{MANIFEST} is damaged" in refused(tmp_path)
    for other in (whole + b" ", b"\n" + whole, whole[:-1] + b" \n", b"[" * 50):
        file.write_bytes(other)
        assert f"{MANIFEST} is damaged" in refused(tmp_path)
    file.unlink()
    assert "No such file" in refused(tmp_path)


@pytest.mark.parametrize("content", ["null", "[3]", '{"name": "a page"}', '{"format": "x"}', '{"checksum": "0"}'])
def test_what_another_program_wrote_is_not_called_damaged(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    assert f"{MANIFEST} is that of another program" in refused(tmp_path, mended=False)


def test_what_is_no_file_is_not_called_damaged(tmp_path):
    (tmp_path / MANIFEST).mkdir()
    assert f"{MANIFEST} cannot be read (it is no ordinary file)" in refused(tmp_path, mended=False)


@pytest.mark.parametrize("version", [2, 4])
def test_other_versions_are_told(tmp_path, version):
    content = {**json.loads((_written(tmp_path)).read_text()), "format": version}
    del content["checksum"]
    (tmp_path / MANIFEST).write_text(json.dumps(content) if version == 2 else _text(content))
    assert "another version of dlkd" in refused(tmp_path, mended=False)


def _written(folder):
    BASE.write(folder)
    return folder / MANIFEST


def test_the_key_names_the_content():
    assert replace(BASE, views=None, made_by={}).key == BASE.key
    others = [
        of(teacher="u"),
        replace(BASE, samples=101),
        replace(BASE, classes=11),
        replace(BASE, scores=BASE.scores[:1]),
        replace(BASE, probe_logits=False),
        replace(BASE, storage=Storage("fp32", 3)),
        replace(BASE, storage=Storage("fp16")),
        replace(BASE, rows=42),
    ]
    assert len({BASE.key, *(other.key for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (BASE, []),
        (replace(BASE, made_by={}, views=9, rows=2, storage=Storage("fp32")), []),
        (replace(BASE, scores=BASE.scores[1:], probe_logits=False), []),
        (replace(BASE, scores=()), []),
        (replace(BASE, scores=(*BASE.scores, ("l1", 1.0))), ["scores"]),
        (replace(BASE, scores=(("distance", 2.0),)), ["scores"]),
        (replace(BASE, samples=99), ["samples"]),
        (replace(BASE, classes=9), ["samples"]),
        (of(teacher="u"), ["teacher"]),
        (of(probes=[{"sparsity": 0.5}], precision="bf16"), ["precision", "probes"]),
        (of(fold=True), ["fold"]),
        (other_family(seed=1, mixing="mixup"), ["mixing", "seed"]),
        (other_family(erase={"p": 0.5}), ["erase"]),
        (other_family(), ["family"]),
    ],
)
def test_what_a_store_lacks(wanted, named):
    assert BASE.lacks(wanted) == named


def test_what_a_store_lacks_is_seen_from_both_sides():
    # The hash of a family without erasing has no word about it.
    assert other_family(erase={"p": 0.5}).lacks(BASE) == ["erase"]
    assert replace(BASE, probe_logits=False).lacks(BASE) == ["probe_logits"]
    assert {k: v for k, v in BASE.identity.items() if k != "probes"}.keys() < BASE.identity.keys()
    assert replace(BASE, identity={k: v for k, v in BASE.identity.items() if k != "probes"}).lacks(BASE) == ["probes"]


def test_views_only_grow():
    assert BASE.grown(None) is BASE and BASE.grown(3) is BASE and BASE.grown(4) is BASE
    assert BASE.grown(5) == replace(BASE, views=5)
    assert replace(BASE, views=None).grown(2).views == 2
