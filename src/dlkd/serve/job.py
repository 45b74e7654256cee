"""``dlkd serve``: a page and a JSON endpoint for one model, on this machine alone unless told otherwise."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from dlkd.errors import UserError
from dlkd.train.device import pick_device

PACKAGES = ("starlette", "uvicorn", "python_multipart")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""
PATIENCE = 10
"""Seconds in which requests are finished when the server is told to end."""


@dataclass(frozen=True)
class ServeOptions:
    """Show what a trained model says of pictures, on a page and as JSON.

    Attributes:
        model: a run, its student.safetensors, an exported .onnx with its JSON file, or a folder of dlkd export.
        teacher: ask the teacher of the run as well, if it is still there.
        host: address to listen at; the default can be reached from this machine alone.
        port: to listen at; 0 takes one that is free.
        max_bytes: of an upload.
        max_pixels: of a picture.
        concurrency: pictures that are looked at side by side.
        waiting: pictures that are taken in meanwhile; more are refused.
        seconds: within which an upload has to come.
        top: so many classes, the most probable first.
        device: auto, cpu, cuda, cuda:1, mps; ONNX files run on the CPU.
        threads: of the CPU; by default torch's choice.
        name: factory of the student, package.module:factory, if it was made by one.
    """

    model: Path
    teacher: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    max_bytes: int = 10_000_000
    max_pixels: int = 50_000_000
    concurrency: int = 2
    waiting: int = 8
    seconds: float = 30.0
    top: int = 5
    device: str = "auto"
    threads: int | None = None
    name: str | None = None

    def check(self) -> None:
        """Raise UserError where a value makes no sense, or a library is missing."""
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise UserError(f"dlkd serve needs {', '.join(missing)}: pip install 'dlkd[serve]'")
        if not self.model.exists():
            raise UserError(f"expected a run or an exported model at {self.model}, but there is nothing")
        if not 0 <= self.port < 1 << 16:
            raise UserError(f"expected --port to be in 0 to 65535, but got {self.port}")
        least = {"max_bytes": 1, "max_pixels": 1, "concurrency": 1, "waiting": 0, "top": 1, "threads": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UserError(f"expected --{name} to be at least {lowest}, but got {value}")
        if Image.MAX_IMAGE_PIXELS is not None and self.max_pixels > Image.MAX_IMAGE_PIXELS:
            raise UserError(
                f"expected --max_pixels to be at most {Image.MAX_IMAGE_PIXELS}, above which Pillow sees a "
                f"decompression bomb, but got {self.max_pixels}"
            )
        if not 0 < self.seconds < float("inf"):
            raise UserError(f"expected --seconds to be above 0, but got {self.seconds}")


def serve(options: ServeOptions) -> None:
    """Answer until Ctrl-C or SIGTERM; requests that were begun are finished.

    Raises:
        UserError: no such model, a damaged one, or an address that cannot be had.
    """
    options.check()
    try:
        # First: to load a model may take long, and a port that is taken is known at once.
        with _listening(options.host, options.port) as listener:
            print(f"reading {options.model} …", flush=True)
            _run(options, listener)
    except KeyboardInterrupt:
        pass  # SIGTERM raises one as well
    print("stopped", flush=True)


def _run(options: ServeOptions, listener: socket.socket) -> None:
    import uvicorn

    from dlkd.serve.answer import open_answerer
    from dlkd.serve.app import Site, make_app

    # What a form is not, its sender is told.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    answer = open_answerer(
        options.model,
        name=options.name,
        teacher=options.teacher,
        top=options.top,
        max_pixels=options.max_pixels,
        device=pick_device(options.device),
    )
    address, port = listener.getsockname()[:2]
    local = ipaddress.ip_address(address).is_loopback
    site = Site(
        answer,
        options.model.resolve().name,
        options.max_bytes,
        options.concurrency,
        options.waiting,
        options.seconds,
    )
    for note in answer.notes:
        print(f"note: {note}")
    if not local:
        print(f"warning: --host {options.host}: everybody who reaches this machine there can use the server")
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"serving {options.model} at http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(
        make_app(site, [*LOOPBACK, options.host] if local else None),
        # Those that are always there, so that the same is served whatever else is installed.
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host`` and ``port``.

    Raises:
        UserError: there is no such address here, or somebody else listens there.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"expected --host to be an address of this machine, but got {host!r:.80} ({error})") from error
    try:
        # A port of connections that have just ended is free; on Windows the same word would share one that is taken.
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen()
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UserError(
            f"could not listen at {host}, port {port}: {reason}; give another --port (0 takes one that is free), or "
            "another --host"
        ) from error
    return listener
