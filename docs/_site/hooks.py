"""What MkDocs is told beside ``mkdocs.yml``: the home page, links out of ``docs``, formulas, and what a page may load.

Pages are written for the repository, where ``../results/x.json`` leads to a file. On the site such a file lies under
``source/``: data as it is, code as a page, a folder as a list of its files. So one link is right in both places.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from html import escape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOME = ROOT / "README.md"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
SHOWN = {".py": "python", ".yaml": "yaml"}
"""Files that a browser would save are shown as pages."""
SIDE = "---\nsearch: {exclude: true}\n---\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Formulas in ```` ```math ```` become MathML, which browsers set without any script."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": formula}]
    return config


def formula(source: str, *_: Any, **__: Any) -> str:
    """A line of LaTeX as MathML."""
    return f'<div class="math" tabindex="0">{convert(source.strip(), display="block")}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """README.md is the home page; whatever a page links to outside of ``docs`` is on the site, too."""
    files.append(File.generated(config, "index.md", content=HOME.read_text(encoding="utf-8")))
    pages = [(ROOT, HOME)]
    pages += [
        (Path(f.abs_src_path).parent, Path(f.abs_src_path)) for f in files.documentation_pages() if f.abs_src_path
    ]
    wanted = {file for folder, page in pages for file in _outside(page.read_text(encoding="utf-8"), folder)}
    wanted |= {child for file in wanted if file.is_dir() for child in file.iterdir() if child.is_file()}
    for file in sorted(wanted):
        files.append(_copy(file, config))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Links are turned to where their file lies on the site."""
    place = page.file.src_uri
    if place.startswith("source/"):
        return markdown
    folder = ROOT if place == "index.md" else (DOCS / place).parent
    here = os.path.dirname(place)

    def turned(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        inside = target.is_relative_to(DOCS)
        site = target.relative_to(DOCS).as_posix() if inside else _site_path(target)
        return os.path.relpath(site, here or ".")

    return _prose(markdown, lambda text: LINK.sub(turned, text))


def on_post_page(output: str, **_: Any) -> str:
    """A page may load nothing from elsewhere and run no script but its own."""
    return _with_policy(output)


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    return _with_policy(output_content) if template_name.endswith(".html") else output_content


def _with_policy(html: str) -> str:
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    known = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    allowed = " ".join(f"'sha256-{digest}'" for digest in sorted(known))
    policy = (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
    )
    return html.replace("<head>", f'<head><meta http-equiv="Content-Security-Policy" content="{policy}">', 1)


def _prose(markdown: str, change: Any) -> str:
    """Change the text of a page and leave its code alone."""
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


def _outside(markdown: str, folder: Path) -> set[Path]:
    """The files of the repository outside of ``docs`` that a page links to; what is not there, MkDocs reports."""
    found: set[Path] = set()
    _prose(markdown, lambda text: found.update((folder / link).resolve() for link in LINK.findall(text)) or text)
    return {f for f in found if f.exists() and f.is_relative_to(ROOT) and not f.is_relative_to(DOCS)} - {HOME}


def _site_path(target: Path) -> str:
    if target == HOME:
        return "index.md"
    path = Path("source") / os.path.relpath(target, ROOT)
    if target.is_dir():
        return (path / "index.md").as_posix()
    return f"{path.as_posix()}.md" if target.suffix in SHOWN else path.as_posix()


def _copy(file: Path, config: MkDocsConfig) -> File:
    name = file.relative_to(ROOT).as_posix()
    if file.is_dir():
        lines = [
            f"- [{child.name}]({os.path.basename(_site_path(child))})" if child.is_file() else f"- {child.name}/"
            for child in sorted(file.iterdir())
            if not child.name.startswith((".", "__"))
        ]
        return File.generated(config, _site_path(file), content=f"{SIDE}# {name}\n\n" + "\n".join(lines) + "\n")
    if file.suffix in SHOWN:
        code = file.read_text(encoding="utf-8")
        shown = f"{SIDE}# {escape(name)}\n\n``````{SHOWN[file.suffix]}\n{code}\n``````\n"
        return File.generated(config, _site_path(file), content=shown)
    return File.generated(config, _site_path(file), abs_src_path=str(file))
