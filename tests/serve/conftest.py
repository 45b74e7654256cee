"""Servers in processes of their own, and what is sent to them over real sockets."""

import http.client
import json
import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from dlkd.data import load_data, plain_batches
from dlkd.jobs.of_run import data_of_run

HOSTILE = ["<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=2>", "caf\udce9", "a\nb"]


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one line of an error, which is all that there is."""
        content = self.json
        assert list(content) == ["error"] and "\n" not in content["error"] and self.status >= 400, self
        return content["error"]


class Server(NamedTuple):
    """A running ``dlkd serve``."""

    process: object
    port: int
    said: list

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method, path, body=None, **headers):
        """One request; names of headers with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        found = Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        connection.close()
        return found

    def predict(self, content, **headers):
        return self.ask("POST", "/predict", content, **headers)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def begin(self, content):
        """An upload whose head is read, and whose picture is waited for: the server asks for it."""
        taken = self.connect()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        taken.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert taken.recv(1000).startswith(b"HTTP/1.1 100 ")
        return taken


def rest_of(connection):
    """The reply on a socket, up to its end as its length says; None where the connection was closed without one."""
    reply = http.client.HTTPResponse(connection)
    try:
        reply.begin()
    except (http.client.HTTPException, ConnectionError):
        return None
    return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())


@pytest.fixture(scope="session")
def rest():
    return rest_of


@pytest.fixture(scope="session")
def begun(dlkd_started):
    """Start ``dlkd serve ARGUMENTS`` at a free port and wait until it serves; it ends with exit code 0."""
    servers = []

    def start(model, *arguments, **options):
        process = dlkd_started(["serve", model, "--port", 0, "--device", "cpu", *arguments], **options)
        said = []
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if line.startswith("serving "):
                break
        assert said and said[-1].startswith("serving "), (said, process.communicate()[1])
        servers.append(Server(process, int(said[-1].split("/ (")[0].rsplit(":", 1)[1]), said))
        return servers[-1]

    yield start
    ends = []
    for server in servers:
        if server.process.poll() is None:
            server.process.terminate()
            ends.append((server.process, *server.process.communicate(timeout=60)))
    assert all((process.returncode, out, err) == (0, "stopped\n", "") for process, out, err in ends), ends


@pytest.fixture(scope="session")
def run(tmp_path_factory, good, distill):
    """The folder of a ``dlkd distill`` run, called runs/student in its working folder."""
    out = tmp_path_factory.mktemp("serve") / "runs" / "student"
    good(*distill(out, "--epochs", 6, "--optim.batch_size", 16))
    return out


@pytest.fixture(scope="session")
def server(run, begun):
    """Student and teacher, with the limits that it has by default."""
    return begun("runs/student", cwd=run.parents[1])


@pytest.fixture(scope="session")
def hostile(run, begun, tmp_path_factory):
    """A student whose name and classes are markup; one picture at a time, and one that waits."""
    folder = tmp_path_factory.mktemp("serve") / HOSTILE[1]
    shutil.copytree(run, folder)
    about = json.loads((folder / "student.json").read_text())
    names = [*HOSTILE, *(f"class {k}" for k in range(len(HOSTILE), 10))]
    (folder / "student.json").write_text(json.dumps(about | {"class_names": names}))
    return begun(folder, "--concurrency", 1, "--waiting", 1, "--top", 10)


@pytest.fixture(scope="session")
def digits(run, tmp_path_factory):
    """Twelve test images as PNG files, named by their numbers."""
    root, test = tmp_path_factory.mktemp("serve") / "digits", load_data(data_of_run(run)).test
    root.mkdir()
    images = torch.cat([images for images, _ in plain_batches(test)])
    for number, image in zip(test.ids[:12], images[:12], strict=True):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(root / f"{number:04d}.png")
    return sorted(root.iterdir())


@pytest.fixture(scope="session")
def photo_run(tmp_path_factory, good, photos):
    """A student and its teacher of image files in colour."""
    root = tmp_path_factory.mktemp("serve")
    small = (
        *("--data.name", "folder", "--data.root", photos, "--data.image_size", 28, "--data.workers", 0),
        *("--epochs", 2, "--optim.batch_size", 8, "--device", "cpu", "--force"),
        *("--engine.threads", 1, "--engine.tensorboard", "false", "--engine.report", "false"),
    )
    good("train", "--out", root / "teacher", "--model.name", "resnet8x0.5", *small)
    taught = ("--teacher.weights", root / "teacher", "--student.name", "resnet8x0.5")
    good("distill", "--out", root / "student", *taught, *small)
    return root / "student"


@pytest.fixture(scope="session")
def noise_picture():
    """A file of a picture that no model was trained on."""

    def write(path, mode="RGB", size=(40, 30), **options):
        shape = (size[1], size[0], 4)
        values = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        image = Image.fromarray(values, "RGBA")
        (image if mode == "RGBA" else image.convert("RGB").convert(mode)).save(path, **options)
        return Path(path)

    return write
