"""The example notebook is executed in a kernel, and its committed outputs are small and of one whole execution."""

import json
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FILE = Path(__file__).parents[2] / "examples" / "distill.ipynb"


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def outputs(book):
    """What the code cells showed, by kind: text that was printed, pages of HTML."""
    shown = [output for cell in code(book) for output in cell.outputs]
    printed = "".join(o.text for o in shown if o.output_type == "stream" and o.name == "stdout")
    return printed, [o.data["text/html"] for o in shown if "text/html" in o.get("data", {})]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook as its user runs it, in an empty folder: the folder, and every output."""
    folder = tmp_path_factory.mktemp("example")
    book = nbformat.read(FILE, as_version=4)
    for cell in code(book):
        cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()  # and raises what a cell raised
    return folder, book


def test_it_shows_what_the_runs_say(executed):
    folder, book = executed
    printed, pages = outputs(book)
    run, teacher, own = (
        json.loads((folder / "runs" / n / "results.json").read_text()) for n in ("student", "teacher", "own")
    )
    assert run["baseline"]["verdict"] in printed
    assert f"{run['parameters']} parameters instead of {teacher['parameters']}" in printed
    table, frame, last = pages
    for accuracy in (run["test"]["accuracy"], run["teacher"]["test"]["accuracy"], run["baseline"]["accuracy"]):
        assert f"<td>{accuracy:.2f}</td>" in table
    assert f"<td>{own['test']['accuracy']:.2f}</td>" in last
    assert '<iframe sandbox srcdoc="' in frame and "<script" not in frame


def test_the_committed_file_is_an_execution_without_the_page():
    book = nbformat.read(FILE, as_version=4)
    nbformat.validate(book)
    assert FILE.stat().st_size < 200_000
    assert [cell.execution_count for cell in code(book)] == [*range(1, len(code(book)) + 1)]
    assert {cell.source for cell in code(book) if not cell.outputs} == {code(book)[0].source, "run.show()"}
    printed, pages = outputs(book)
    assert "The same student trained alone is right on" in printed and len(pages) == 2
    assert not any(output.output_type == "error" for cell in code(book) for output in cell.outputs)
    assert not any(place in FILE.read_text() for place in ("/tmp", "/home", "/root"))
