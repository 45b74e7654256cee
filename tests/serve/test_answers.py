"""What the server says of a picture, against ``dlkd predict``, ``dlkd difficulty`` and what the run itself wrote."""

import json

import numpy as np
import pytest
from PIL import Image

from dlkd.train.checkpoint import load_checkpoint


def predicted(good, model, images, out):
    """What ``dlkd predict`` says of files, in their order."""
    good("predict", model, "--images", *images, "--out", out, "--device", "cpu")
    return [json.loads(line) for line in out.read_text().splitlines()]


def close(found, expected, tolerance=1e-5):
    """The same classes, in the same order, as sure."""
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    shares = [each["confidence"] for each in expected]
    assert [each["confidence"] for each in found] == pytest.approx(shares, abs=tolerance)


@pytest.fixture(scope="module")
def answers(server, digits):
    found = [server.predict(path.read_bytes()) for path in digits]
    assert all(reply.status == 200 for reply in found)
    return [reply.json for reply in found]


def test_student_says_what_dlkd_predict_says(answers, digits, run, good, tmp_path):
    for found, line in zip(answers, predicted(good, run, digits, tmp_path / "p.jsonl"), strict=True):
        close(found["predictions"], line["top"])
        assert len(found["predictions"]) == 5
        assert set(found) == {"predictions", "teacher", "probe", "difficulty", "temperature"}


def test_teacher_and_probe_say_what_dlkd_difficulty_says(answers, digits, teacher, good, table, tmp_path):
    data = ("--data.per_class", 30, "--split", "test", "--device", "cpu")
    good("difficulty", "--teacher.weights", teacher, *data, "--out", tmp_path / "d.csv")
    rows = {int(row["id"]): row for row in table(tmp_path / "d.csv")}
    for found, path in zip(answers, digits, strict=True):
        row = rows[int(path.stem)]
        assert found["teacher"][0]["label"] == f"{row['teacher_label']:.0f}"
        assert found["teacher"][0]["confidence"] == pytest.approx(row["teacher_confidence"], abs=1e-5)
        assert found["probe"][0]["label"] == f"{row['probe_label']:.0f}"
        assert found["difficulty"]["distance"] == pytest.approx(row["distance"], abs=1e-5)
        assert found["difficulty"]["score"] == "distance"
        assert found["difficulty"]["value"] == found["difficulty"]["distance"]


def test_level_is_the_rank_among_the_reference_distances_and_the_temperature_follows(answers, digits, run):
    kept, level = np.load(run / "predictions.npz"), load_checkpoint(run).state["level"]
    distance = dict(zip(kept["test_ids"].tolist(), kept["test_distance"].tolist(), strict=True))
    reference = level["quantiles"].double().numpy()
    shown = []
    for found, path in zip(answers, digits, strict=True):
        d = found["difficulty"]["distance"]
        assert d == pytest.approx(distance[int(path.stem)], abs=1e-5)
        assert found["difficulty"]["level"] == pytest.approx(np.interp(d, reference, np.linspace(0, 1, 1025)), abs=1e-4)
        # T = T_easy + (T_hard − T_easy)·level, 2 and 6 by default.
        expected = pytest.approx(2 + 4 * found["difficulty"]["level"], abs=1e-5)
        assert found["temperature"] == {"teacher": expected, "student": expected}
        shown.append(found["difficulty"]["level"])
    assert max(shown) - min(shown) > 0.2


def test_a_form_and_raw_bytes_are_the_same(server, digits):
    content = digits[0].read_bytes()
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + content + b"\r\n--x--\r\n"
    of_form = server.predict(form, content_type="multipart/form-data; boundary=x")
    # curl --data-binary says that it sends a form of another kind.
    raw = server.predict(content, content_type="application/x-www-form-urlencoded")
    assert of_form.json == raw.json == server.predict(content).json
    assert of_form.headers["content-type"] == "application/json"


def kinds(folder, noise_picture):
    """Pictures of kinds that decoders stumble over."""
    yield noise_picture(folder / "cmyk.jpg", "CMYK")
    yield noise_picture(folder / "alpha.png", "RGBA")
    yield noise_picture(folder / "palette.png", "P", transparency=3)
    yield noise_picture(folder / "bits.png", "1")
    yield noise_picture(folder / "picture.webp")
    frames = [Image.new("P", (9, 9), k) for k in (3, 200, 90)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    yield folder / "moving.gif"
    deep = np.random.default_rng(1).integers(0, 1 << 16, (20, 20), np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    yield folder / "deep.png"
    turned = Image.new("RGB", (30, 20))
    turned.paste("white", (0, 0, 15, 10))
    turned.getexif()[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=turned.getexif())
    yield folder / "turned.jpg"


def test_pictures_of_odd_kinds(server, run, good, noise_picture, tmp_path):
    paths = list(kinds(tmp_path, noise_picture))
    for path, line in zip(paths, predicted(good, run, paths, tmp_path / "p.jsonl"), strict=True):
        reply = server.predict(path.read_bytes())
        assert reply.status == 200 and line["error"] is None, (path, reply, line)
        close(reply.json["predictions"], line["top"])


def test_health(server, hostile):
    assert server.ask("GET", "/health").json == {
        **{"status": "ok", "model": "student", "classes": 10, "teacher": True, "notes": []}
    }
    found = hostile.ask("GET", "/health").json
    assert found["teacher"] is False and found["notes"] == ["no teacher: the classes of its images are others now"]
    assert hostile.said[1] == f"note: {found['notes'][0]}"


def test_classes_of_any_name_come_back(hostile, digits):
    found = hostile.predict(digits[0].read_bytes()).json
    assert "caf\udce9" in {each["label"] for each in found["predictions"]} and len(found["predictions"]) == 10
    assert sum(each["confidence"] for each in found["predictions"]) == pytest.approx(1)
    assert found["teacher"] is found["probe"] is found["difficulty"] is found["temperature"] is None
