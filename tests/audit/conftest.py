"""A real browser without a window; skipped where there is none, but not where every change is tested."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """Ends with its module: the event loop of playwright would be in the way of other tests' own."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    if program is None:
        missing(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Open a file as a new user; in the end nothing but what was expected failed, and no request left the page."""
    contexts, requests, problems, allowed = [], [], [], []

    def opened(file, before="", expected=None, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        if before:
            context.add_init_script(before)
        if expected:
            allowed.append(expected)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: line.type == "error" and problems.append(line.text))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in problems if not any(words in line for words in allowed)] == []
    assert all(any(words in line for line in problems) for words in allowed)
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
