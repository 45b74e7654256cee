"""Waiting for a page in a browser."""


def until(page, condition):
    """Wait until ``condition`` holds in the page, whose policy forbids playwright's own way to wait."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never came true: {condition}")
