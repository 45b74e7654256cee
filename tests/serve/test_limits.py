"""What a server survives: uploads that are too large, lie, or are no pictures; too many; strangers; its end."""

import io
import re
import select
import shutil
import signal
import socket
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused

GIGABYTE = 10**9
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\n"


def memory(server, which="VmHWM"):
    """MB of the server, by default the most that it ever had."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process has")
    return int(re.search(rf"{which}:\s+(\d+)", status.read_text()).group(1)) / 1024


def pour(server, head, chunk, total, rest):
    """Send up to ``total`` bytes as fast as they are taken, until there is an answer; it, and how many were sent."""
    sent = 0
    with server.connect() as connection:
        connection.sendall(head)
        connection.setblocking(False)
        left = memoryview(b"")
        while sent < total:
            readable, writable, _ = select.select([connection], [connection], [], 60)
            if readable or not writable:
                break
            left = left or memoryview(chunk)
            taken = connection.send(left)
            left, sent = left[taken:], sent + taken
        connection.settimeout(60)
        return rest(connection), sent


@pytest.mark.parametrize("kind", ["raw", "form", "chunked"])
def test_a_gigabyte_is_refused_while_it_comes(server, rest, digits, kind):
    server.predict(digits[0].read_bytes())  # what is made at the first picture is there
    before = max(memory(server), memory(server, "VmRSS"))
    chunk = bytes(1 << 16)
    if kind == "chunked":
        head, chunk = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), b"10000\r\n" + chunk + b"\r\n"
    else:
        form = "Content-Type: multipart/form-data; boundary=x\r\n" if kind == "form" else ""
        head = f"{HEAD}{form}Content-Length: {GIGABYTE}\r\n\r\n".encode()
    reply, sent = pour(server, head, chunk, GIGABYTE, rest)
    assert reply.status == 413 and "expected a picture of at most 10,000,000 bytes" in reply.error
    assert reply.headers["connection"] == "close"
    assert sent < GIGABYTE / 10  # up to the limit, and what lay in buffers by then
    assert memory(server) - before < 64
    assert server.predict(digits[0].read_bytes()).status == 200


def test_who_sends_all_before_it_listens_has_the_answer_all_the_same(server):
    reply = server.predict(bytes(12_000_000))
    assert reply.status == 413 and "10,000,000 bytes" in reply.error
    boundary = b"--x\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n"
    form = boundary + bytes(10_000_001) + b"\r\n--x--\r\n"
    reply = server.predict(form, content_type="multipart/form-data; boundary=x")
    assert reply.status == 413 and "10,000,000 bytes" in reply.error


def test_lengths_that_are_lies(server, digits, rest):
    content = digits[0].read_bytes()
    with server.connect() as connection:  # more comes than was said
        connection.sendall(f"{HEAD}Content-Length: 10\r\n\r\n".encode() + content)
        assert rest(connection).status in (400, 415)
    for _ in range(12):  # less comes than was said: more often than there are places
        with server.connect() as connection:
            connection.sendall(f"{HEAD}Content-Length: {len(content) + 1}\r\n\r\n".encode() + content)
            connection.shutdown(socket.SHUT_WR)
            assert rest(connection) is None
    for lengths in ("Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: -5\r\n", "Content-Length: x\r\n"):
        with server.connect() as connection:
            connection.sendall(f"{HEAD}{lengths}\r\nabcde".encode())
            assert rest(connection).status == 400
    assert server.predict(content).status == 200


def png(width, height):
    """The head of a PNG of that size with no pixels to speak of."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def of(kind, image, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cut_jpeg():
    whole = of("JPEG", Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    return whole[: len(whole) // 2]


BAD = {
    "a decompression bomb": (png(50_000, 50_000), 413, "at most 50,000,000 pixels"),
    "one that Pillow does not see as such": (png(8_000, 8_000), 413, "but got one of 8,000 × 8,000"),
    "a web page": (b"<!doctype html><script>alert(1)</script>", 415, "in no known format"),
    "a vector picture": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "in no known format"),
    "a program for printers": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "in no known format"),
    "nothing": (b"", 400, "has no bytes"),
    "half of a photo": (cut_jpeg(), 400, "is damaged (image file is truncated"),
    "a PNG without pixels": (png(20, 20), 400, "is damaged"),
    "pixels without a range": (of("TIFF", Image.new("F", (9, 9))), 400, "floating-point pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_has_one_line(server, name):
    content, status, words = BAD[name]
    before = memory(server)
    reply = server.predict(content, content_type="image/png")
    assert (reply.status, words in reply.error) == (status, True), reply
    assert memory(server) - before < 64
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form = head + content + b"\r\n--x--\r\n"
    assert server.predict(form, content_type="multipart/form-data; boundary=x").error == reply.error


@pytest.mark.parametrize(
    "body, kind, words",
    [
        (b"", "multipart/form-data", "boundary"),
        (b"no form", "multipart/form-data; boundary=x", ""),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "expected a f"),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "a file in the field image",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
            "multipart/form-data; boundary=x",
            "Too many files",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="t"\r\n\r\n' + bytes(70_000) + b"\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            "maximum size",
        ),
    ],
)
def test_forms_that_are_none(server, body, kind, words):
    reply = server.predict(body, content_type=kind)
    assert reply.status == 400 and words in reply.error


def test_other_paths_and_methods(server):
    assert server.ask("GET", "/nothing").status == 404 and server.ask("GET", "/nothing").error
    assert server.ask("GET", "/predict").status == 405 and server.ask("PUT", "/predict", b"x" * 99).error
    assert server.ask("GET", "/../../etc/passwd").status == 404
    page = server.ask("GET", "/")
    policy = page.headers["content-security-policy"]
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    for reply in (page, server.ask("GET", "/health"), server.ask("GET", "/nothing")):
        assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_other_hosts_and_pages_of_others_are_refused(server, digits):
    content, own = digits[0].read_bytes(), server.url.rstrip("/")
    for name in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", "[::1", "", "127.0.0.1.x"):
        reply = server.ask("GET", "/", Host=name)
        assert reply.status == 400 and "its Host is" in reply.error, name
        assert server.predict(content, Host=name).status == 400
    for name in (f"localhost:{server.port}", "LOCALHOST", "127.0.0.1", f"[::1]:{server.port}"):
        assert server.ask("GET", "/health", Host=name).status == 200, name
    for origin in (
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1:1",
        f"{own}.evil.example",
        "file://",
        "http://[x",
    ):
        reply = server.predict(content, Origin=origin)
        assert reply.status == 403 and "its Origin is" in reply.error, origin
    assert server.predict(content, Origin=own).status == 200
    preflight = server.ask("OPTIONS", "/predict", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert preflight.status == 403


def test_more_than_can_wait_are_told_to_come_again(hostile, digits, rest):
    content = digits[0].read_bytes()
    with hostile.begin(content) as first, hostile.begin(content) as second:
        for _ in range(3):
            reply = hostile.predict(content)
            assert reply.status == 503 and "try again" in reply.error and reply.headers["retry-after"] == "1"
        assert hostile.ask("GET", "/health").status == 200
        for each in (first, second):
            each.sendall(content)
            assert rest(each).status == 200
    assert hostile.predict(content).status == 200


def test_many_at_once_say_the_same(server, digits):
    expected = server.predict(digits[0].read_bytes()).json
    found = [None] * 10

    def ask(k):
        found[k] = server.predict(digits[0].read_bytes())

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(reply.status == 200 for reply in found)
    for reply in found:
        assert reply.json["difficulty"]["distance"] == pytest.approx(expected["difficulty"]["distance"], abs=1e-6)


def ended(server):
    """The exit code and what was said at the end."""
    out, err = server.process.communicate(timeout=60)
    assert err == ""
    return server.process.returncode, out


def test_a_request_in_flight_is_finished(run, begun, digits, rest):
    server, content = begun(run, "--teacher", "false"), digits[0].read_bytes()
    with server.begin(content) as connection:
        idle = server.connect()  # nobody waits for a connection without a request
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            for _ in range(1000):
                server.connect().close()
                time.sleep(0.02)
        connection.sendall(content)
        reply = rest(connection)
    assert reply.status == 200 and reply.json["predictions"]
    assert ended(server) == (0, "stopped\n")
    idle.close()


def test_a_slow_upload_another_host_and_ctrl_c(run, begun, digits, rest):
    server = begun(run, "--teacher", "false", "--seconds", 0.2, "--host", "0.0.0.0", "--max_bytes", 100_000)
    reading, note, warning, serving = server.said
    assert (
        reading == f"reading {run} …"
        and note == "note: no teacher: it was not asked for"
        and warning.startswith("warning: --host 0.0.0.0: everybody")
    )
    assert f"http://0.0.0.0:{server.port}/" in serving
    assert server.ask("GET", "/health", Host="any.example").status == 200
    with server.begin(digits[0].read_bytes()) as connection:
        reply = rest(connection)
    assert reply.status == 408 and "within 0.2 seconds" in reply.error
    assert server.predict(bytes(100_001)).status == 413
    server.process.send_signal(signal.SIGINT)
    assert ended(server) == (0, "stopped\n")


def test_told_to_end_while_the_model_is_read(run, dlkd_started):
    process = dlkd_started(["serve", run, "--port", 0])
    assert process.stdout.readline().startswith("reading ")
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1], err) == (0, "stopped", "")


def test_a_port_in_use(server, run, dlkd):
    refused(dlkd("serve", run, "--port", server.port), f"could not listen at 127.0.0.1, port {server.port}", "--port")
    assert server.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    "options, words",
    [
        (("--host", "no.such.host.invalid"), "expected --host to be an address of this machine"),
        (("--host", "192.0.2.1", "--port", 0), "could not listen at 192.0.2.1"),
        (("--port", 70_000), "--port"),
        (("--concurrency", 0), "--concurrency"),
        (("--waiting", -1), "--waiting"),
        (("--max_pixels", 10**12), "--max_pixels"),
        (("--max_bytes", 0), "--max_bytes"),
        (("--seconds", "nan"), "--seconds"),
        (("--top", 0), "--top"),
        (("--device", "tpu"), "--device"),
    ],
)
def test_options_that_make_no_sense(run, dlkd, options, words):
    refused(dlkd("serve", run, "--port", 0, *options), words)


def test_models_that_are_none(run, dlkd, tmp_path):
    refused(dlkd("serve", tmp_path / "gone"), "but there is nothing")
    refused(dlkd("serve", tmp_path, "--port", 0), tmp_path)
    shutil.copytree(run, tmp_path / "damaged")
    whole = (run / "student.safetensors").read_bytes()
    (tmp_path / "damaged" / "student.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(dlkd("serve", tmp_path / "damaged", "--port", 0), "student.safetensors")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    refused(dlkd("serve", tmp_path / "model.onnx", "--port", 0), "preprocessing.json")
