"""The site: built strictly, whole, and seen in a browser that reaches nothing else."""

import functools
import http.server
import importlib
import os
import re
import subprocess
import sys
import threading
import zlib
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import yaml
from doc_blocks import DOCS, ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
ROOMS = (
    "",
    ".losses",
    ".difficulty",
    ".methods",
    ".teacher",
    ".models",
    ".data",
    ".store",
    ".evaluate",
    ".integrations",
)
ROOMS += (".export",)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return out


class Read(HTMLParser):
    """Links, what is loaded, and the names of places of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.names, self.policies = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.names |= {of[k] for k in ("id", "name") if of.get(k)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        if tag in ("img", "script", "iframe", "source") and of.get("src"):
            self.loaded.append(of["src"])
        if tag == "link" and of.get("rel") != "canonical" and of.get("href"):
            self.loaded.append(of["href"])
        if of.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(of["content"])


@pytest.fixture(scope="module")
def read(site):
    return {path.relative_to(site).as_posix(): Read(path) for path in site.rglob("*.html")}


def test_every_page_of_the_docs_is_there(read):
    made = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md")}
    wanted = {f"{name.removesuffix('index')}/index.html".replace("//", "/") for name in made}
    assert len(wanted) > 30 and wanted | {"index.html", "404.html"} <= read.keys()


def test_links_lead_to_pages_and_places(site, read):
    base = "http://site/"
    checked = 0
    for name, page in read.items():
        if name == "404.html":
            continue
        for link in (*page.links, *page.loaded):
            target, place = urldefrag(urljoin(base + name, link))
            if not target.startswith(base):
                continue
            path = unquote(target.removeprefix(base)).split("?")[0]
            path += "index.html" if path.endswith("/") or not path else ""
            assert (site / path).is_file(), (name, link)
            assert not place or path not in read or unquote(place) in read[path].names, (name, link)
            checked += 1
    assert checked > 1000


def test_nothing_is_loaded_from_elsewhere(read):
    for name, page in read.items():
        assert page.loaded and not [url for url in page.loaded if re.match(r"(https?:)?//", url)], name
        (policy,) = page.policies
        assert policy.startswith("default-src 'none'; script-src 'self' 'sha256-") and "http" not in policy


def test_one_readme_and_the_links_of_the_repository(read):
    assert "guide/" in read["index.html"].links and "source/results/quickstart.json" in read["index.html"].links
    assert "../source/results/score.json" in read["evidence/index.html"].links or any(
        link.endswith("source/results/") for link in read["evidence/index.html"].links
    )
    assert not any(link.endswith(".md") for page in read.values() for link in page.links)


@pytest.mark.parametrize("room", ROOMS)
def test_the_api_has_every_public_name(site, room):
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    there = {line.split(" ")[0] for line in inventory.splitlines()}
    for name in importlib.import_module(f"dlkd{room}").__all__:
        # A function that has the name of its module stands under that of the module.
        assert {f"dlkd{room}.{name}", f"dlkd{room}.{name}.{name}"} & there, name


def test_roles_of_docstrings_are_links_or_code(site, read):
    for path in (site / "api").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r":(func|class|meth|mod|data):|<p>::|code-block::", text), path
    assert "#dlkd.losses.kl_divergence" in read["api/losses/index.html"].links  # of kd_loss's docstring


def test_formulas_are_set_without_a_script(site):
    written = (DOCS / "methods.md").read_text(encoding="utf-8").count("```math")
    assert written and (site / "methods" / "index.html").read_text(encoding="utf-8").count("<math ") == written


def test_the_command_builds_it_as_strictly():
    assert re.search(r"^site:.*\n\t.*mkdocs build --strict$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = re.sub(r"!!python\S* ?", "", (ROOT / "mkdocs.yml").read_text())
    assert yaml.safe_load(text)["theme"]["font"] is False


@pytest.fixture(scope="module")
def served(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("page", ["", "how-dlkd-works/", "methods/", "faq/", "api/losses/", "source/results/"])
def test_in_a_browser(visit, served, page):
    seen = visit(served + page)
    assert seen.locator("h1").first.is_visible()
    assert seen.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)")


def test_a_formula_is_seen(visit, served):
    formula = visit(served + "methods/").locator("math").first
    assert formula.bounding_box()["height"] > 10 and formula.bounding_box()["width"] > 40


def test_the_policy_holds(visit, served):
    page = visit(served, expected="Content Security Policy")
    answer = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
        fetch("http://127.0.0.1:9/").catch(() => setTimeout(done, 1000, "asked"));
    })""")
    assert answer == "connect-src"


def test_search_finds_a_page(visit, served):
    page = visit(served)
    page.get_by_placeholder("Search").press_sequentially("bomb")
    found = page.locator(".md-search-result__link").first
    found.wait_for()
    found.click()
    page.wait_for_url(re.compile("/(export|hostile|serve)/"))


@pytest.mark.parametrize("page", ["", "choosing/", "how-dlkd-works/", "methods/", "api/losses/"])
def test_on_a_phone_nothing_is_wider_than_the_page(visit, served, page):
    seen = visit(served + page, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert seen.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit, served, scheme):
    page = visit(served, color_scheme=scheme)
    colours = """["backgroundColor", "color"].map((name) => getComputedStyle(document.body)[name]
        .match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"""
    ground, text = page.evaluate(colours)
    assert (ground < 80 and text > 130) if scheme == "dark" else (ground > 200 and text < 80)
    if folder := os.environ.get("DLKD_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/site-{scheme}.png")
