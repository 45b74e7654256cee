"""Real runs on names and links that were chosen with care: reports, tables, folders."""

import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

NAMES = (
    "<script>alert(1)<script>",
    "\"'><svg onload=alert(1)>",
    "{{ 7*7 }} {% raise %} ${alert(1)}",
    "[red]bold[-red] :smile: $\\frac{",
    "\x1b[31mred\x07\u202e",
)
ALLOWED = {
    *("html", "meta", "title", "style", "h1", "h2", "p", "table", "tr", "th", "td", "ul", "li"),
    *("div", "section", "img", "details", "summary", "pre"),
}


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data

    def check(self):
        """Our own elements alone, nothing that acts, nothing from elsewhere."""
        assert set(self.tags) <= ALLOWED and self.tags.count("style") == self.tags.count("title") == 1
        assert not [name for name, _ in self.attributes if name.startswith("on")]
        assert all(value.startswith("data:image/png;base64,") for name, value in self.attributes if name == "src")
        assert not [value for name, value in self.attributes if name in ("href", "action", "srcset")]


def folder_of(root, names):
    """Ten images of each class, bright in a place of their own."""
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for k in range(10):
            pixels = np.random.default_rng((label, k)).integers(0, 60, (16, 16, 3), np.uint8)
            pixels[2 * label : 2 * label + 2] = 250
            Image.fromarray(pixels).save(root / name / f"{names[(label + k) % len(names)]}.{k}.png")
    return root


def options(root, *more):
    return (
        *(
            "--data.name",
            "folder",
            "--data.root",
            root,
            "--data.image_size",
            16,
            "--data.workers",
            0,
            "--device",
            "cpu",
        ),
        *more,
    )


@pytest.fixture(scope="module")
def evil(tmp_path_factory, good):
    """A run on such classes, with its report; the folder of the images and that of the run."""
    base = tmp_path_factory.mktemp("evil")
    root, out = folder_of(base / "<b>[bold]", NAMES), base / NAMES[1]
    engine = ("--engine.threads", 1, "--engine.tensorboard", "false", "--epochs", 2, "--optim.batch_size", 10)
    done = good("train", "--out", out, "--model.name", "resnet8x0.5", *options(root, *engine))
    return root, out, done


def test_a_report_of_strange_names(evil):
    Page(evil[1] / "report.html").check()


def test_the_terminal_shows_names_and_does_not_obey_them(evil):
    out = evil[2].out
    assert "<script>alert(1)<script>" in out and "[red]bold[-red]" in out  # no markup of rich either
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_a_page_of_difficulty_of_strange_names(evil, good, tmp_path, table):
    root, run, _ = evil
    out = tmp_path / "[bold]t.csv"
    done = good("difficulty", "--out", out, "--teacher.weights", run, *options(root))
    assert not {"\x1b", "\x07"} & set(done.out)
    page = Page(out.with_suffix(".html"))
    page.check()
    rows = table(out)
    assert {row["given_label"] for row in rows} == {*NAMES}
    assert {row["path"].split("/")[0] for row in rows} == {*NAMES}


def test_figures_of_strange_names(evil, good, dlkd):
    root, run, _ = evil
    done = good("evaluate", "--weights", run, *options(root))
    assert "\x1b" not in done.out
    done = dlkd("evaluate", "--weights", run, *options(root, "--data.per_class", 0))
    assert done.status == 2 and done.err.count("\n") == 1


def test_a_class_that_closes_the_style(tmp_path, good):
    """No folder can have a slash in its name, but an array of names can."""
    names = ["</style><script>alert(1)</script>", "</pre></details><img src=x onerror=alert(1)>"]
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=np.arange(40) % 2, class_names=np.array(names))
    good(
        *("train", "--out", tmp_path / "run", "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "npz", "--data.root", tmp_path / "d.npz", "--optim.batch_size", 8, "--data.noise", 0.2),
        *("--engine.threads", 1, "--engine.tensorboard", "false"),
    )
    Page(tmp_path / "run" / "report.html").check()


def test_an_image_that_is_a_link_to_a_text_says_nothing_of_it(tmp_path, photos, dlkd):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "secret.txt").write_text("password: 1234")
    (tmp_path / "photos" / "one" / "link.png").symlink_to(tmp_path / "secret.txt")
    done = dlkd("train", "--out", tmp_path / "new", *options(tmp_path / "photos", "--data.verify", "true"))
    assert done.status == 2 and done.err.count("\n") == 1
    assert "link.png is damaged or no image" in done.err and "1234" not in done.err


def test_replacing_a_run_leaves_what_its_links_lead_to(tmp_path, good, train, teacher):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    run = tmp_path / "run"
    shutil.copytree(teacher, run)
    (run / "folder").symlink_to(tmp_path / "precious")
    (run / "labels.npz").unlink()
    (run / "labels.npz").symlink_to(tmp_path / "precious" / "thesis.txt")
    good(*train(run, "--overwrite"))
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"
    assert not (run / "folder").exists() and not (run / "labels.npz").is_symlink()


def test_locks_never_empty_what_a_link_leads_to(tmp_path, sound, dlkd):
    from bad_input_cases import Place

    place = Place(tmp_path, sound)
    store, victim = place.copy("store"), place.write("precious", "mine")
    shutil.rmtree(store / ".locks", ignore_errors=True)
    (tmp_path / "elsewhere").mkdir()
    (store / ".locks").symlink_to(tmp_path / "elsewhere")
    min(store.glob("view-*")).unlink()
    assert "link to another place" in dlkd(*place.with_store(store)).err
    assert not list((tmp_path / "elsewhere").iterdir()) and victim.read_text() == "mine"
