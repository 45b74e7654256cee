"""Files whose names carry their checksum; maps within a budget; locks between processes."""

import hashlib
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from store_toys import APART, hold

from dlkd.errors import UserError
from dlkd.store import Shards
from dlkd.store.shards import is_ours


def tensors(k=0, floats=8):
    return {"logits": torch.arange(floats, dtype=torch.float32) + k, "one/l2/tau1": torch.full((2,), float(k))}


def test_the_name_is_the_checksum_of_every_byte(tmp_path):
    shards = Shards(tmp_path, "key")
    assert shards.find("view-00000-0000") is None and shards.read("view-00000-0000") is None
    shards.write("view-00000-0000", tensors())
    (file,) = tmp_path.iterdir()
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert file.name == f"view-00000-0000.{checksum}.safetensors" and is_ours(file.name)
    assert shards.find("view-00000-0000") == file and shards.names() == {"view-00000-0000"}
    for reader in (shards, Shards(tmp_path, "key")):
        assert all(torch.equal(reader.read("view-00000-0000")[k], v) for k, v in tensors().items())
    shards.write("view-00000-0000", tensors())  # the same again is the same file
    assert [*tmp_path.iterdir()] == [file] and shards.files() == [file]
    assert not any(map(is_ours, ("view-00000-0000.safetensors", "thesis.txt", f"A{file.name}", f"{file.name}.txt")))


def test_a_copy_beside_a_shard_is_not_the_shard(tmp_path):
    shards, name = Shards(tmp_path, "key"), "view-00000-0000"
    for other in (f"{name}.{'0' * 16} (1).safetensors", f"{name}.safetensors", f"{name}.old.safetensors"):
        (tmp_path / other).write_text("copy")
    assert shards.find(name) is None and shards.read(name) is None and not shards.names()
    shards.write(name, tensors())
    assert shards.find(name).name in os.listdir(tmp_path) and shards.names() == {name}


def test_unfinished_files_go_but_for_those_that_are_being_written(tmp_path):
    left = [f".view-0000{k}-0000.{k:016x}.safetensors.ab_d3fg{k}.tmp" for k in range(3)]
    others = [".config.yaml.ab_d3fgh.tmp", ".view-00000-0000.tmp", "notes.tmp"]
    for name in (*left, *others, ".manifest.json.ab_d3fgh.tmp"):
        (tmp_path / name).write_text("half")
    with Shards(tmp_path, "key").lock("view-00001-0000", wait=True):
        Shards(tmp_path, "key").clean()
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {left[1], *others}


def test_what_a_killed_writer_left_goes_with_the_next_write_of_the_shard(tmp_path):
    left = [f".view-00000-0000.{k:016x}.safetensors.ab_d3fg{k}.tmp" for k in range(2)]
    others = [".view-00001-0000.0123456789abcdef.safetensors.ab_d3fgh.tmp", ".view-00000-0000.tmp", "notes.tmp"]
    for name in (*left, *others):
        (tmp_path / name).write_text("half")
    Shards(tmp_path, "key").write("view-00000-0000", tensors())
    found = {p.name for p in tmp_path.iterdir()}
    assert found - {p.name for p in tmp_path.glob("*.safetensors")} == set(others)


def test_what_is_wrong_with_a_file(tmp_path):
    shards, name = Shards(tmp_path, "key"), "view-00000-0000"
    shards.write(name, tensors())
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    assert shards.damage(file) is None
    other = safetensors.torch.save(tensors(), {"shard": f"key/{name}"}) + b"x"  # not a byte of the header
    for bad, reason in (
        (whole[:-1], "not those that were written"),
        (b"", "not those that were written"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "not those that were written"),
    ):
        file.write_bytes(bad)
        assert reason in shards.damage(file).reason
        with pytest.raises(UserError, match="bytes are not those that were written; dlkd store repair") as error:
            Shards(tmp_path, "key").read(name)
        assert str(file) in str(error.value) and "\n" not in str(error.value)
    file.unlink()
    for content, reason in (
        (other, ""),
        (b"no tensors at all", ""),
        (safetensors.torch.save(tensors(), {"shard": f"other/{name}"}), "belongs to another store"),
        (safetensors.torch.save(tensors()), "belongs to another store"),
        (safetensors.torch.save(tensors(), {"shard": "key/view-00001-0000"}), "another shard"),
    ):
        file = tmp_path / f"{name}.{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        file.write_bytes(content)
        assert reason in shards.damage(file).reason and "\n" not in shards.damage(file).reason
        with pytest.raises(UserError, match="is damaged"):
            Shards(tmp_path, "key").read(name)
        file.unlink()
    (tmp_path / f"{name}.safetensors").write_bytes(whole)
    assert shards.damage(tmp_path / f"{name}.safetensors").reason == "its name has no checksum"
    assert shards.read("view-00009-0000") is None


def mapped(folder):
    """Bytes of files of the folder that this process has mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    return sum(int(b, 16) - int(a, 16) for a, b in (line[0].split("-") for line in lines))


def anonymous():
    """Bytes of this process that are not pages of files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(status["RssAnon"].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_a_store_larger_than_its_budget_is_not_read_whole(tmp_path):
    size, count, budget = 1 << 22, 12, 10 << 20
    writer = Shards(tmp_path, "key")
    for k in range(count):
        writer.write(f"view-{k:05d}-0000", tensors(k, size // 4))
    before, sums, most = anonymous(), [], 0
    shards = Shards(tmp_path, "key", budget)
    for k in [*range(count), *range(count)]:
        values = shards.read(f"view-{k:05d}-0000")["logits"]
        sums.append(float(values[::1024].double().sum()))  # touches every page
        del values
        most = max(most, mapped(tmp_path))
        assert anonymous() - before < budget
    assert size < most <= budget < count * size
    assert sums == [float(tensors(k, size // 4)["logits"][::1024].double().sum()) for k in range(count)] * 2
    free = Shards(tmp_path, "key", 1 << 30)
    kept = [free.read(f"view-{k:05d}-0000") for k in range(count)]
    assert mapped(tmp_path) >= count * size and len(kept) == count  # and the measure sees what is mapped


def test_the_one_in_use_is_mapped_whatever_the_budget(tmp_path):
    Shards(tmp_path, "key").write("view-00000-0000", tensors(3))
    assert torch.equal(Shards(tmp_path, "key", 1).read("view-00000-0000")["logits"], tensors(3)["logits"])


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    shards = Shards(tmp_path, "key")
    held, go = APART.Event(), APART.Event()
    child = APART.Process(target=hold, args=(tmp_path, "view-00000-0000", held, go))
    child.start()
    assert held.wait(60)
    with shards.lock("view-00000-0000", wait=False) as mine, shards.lock("view-00001-0000", wait=False) as other:
        assert not mine and other
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    with shards.lock("view-00000-0000", wait=False) as mine:
        assert mine
    with shards.lock("view-00000-0000", wait=True) as mine:  # and by its end
        assert mine


def test_a_folder_without_locks_is_one_line(tmp_path):
    (tmp_path / ".locks").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"^could not lock view-00000-0000 of the store .*give another --store$"),
        Shards(tmp_path, "key").lock("view-00000-0000", wait=False),
    ):
        pass
