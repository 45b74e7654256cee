"""The tables of a comparison out of what it found, by hand; the files and the page that it leaves."""

import csv
import html
import io
import re

import pytest

from dlkd.compare.job import report
from dlkd.compare.tables import TITLES, flat, headline, parts, print_tables, sentences
from dlkd.evaluate.words import difference, mean_and_sd

EMPTY = {"seeds": {}, "not_run": [0, 1], "failed": {}, "figures": {}, "deciles": []}


def row(method, condition="all", ours=False, **figures):
    """Of two seeds, one point above and below the mean."""
    return {
        **{"row": method, "pair": "all", "condition": condition, "method": method, "ours": ours, "deciles": []},
        **{"options": {}, "settings": None, "not_run": [], "failed": {}},
        "seeds": {str(k): {n: v + 2 * k - 1 for n, v in figures.items()} for k in (0, 1)},
        "figures": {n: {"mean": v, "sd": 2**0.5, "n": 2} for n, v in figures.items()},
    }


def compared(method, against, figure="held_out", condition="all", best=False, **more):
    return {
        **{"pair": "all", "condition": condition, "method": method, "against": against, "figure": figure},
        **{"best_baseline": best, "mean": 0.5, "sd": 0.1, "n": 2, "low": -0.4, "high": 1.4, "p": 0.2, "p_holm": 0.4},
        **{"verdict": "no difference", "images": None, **more},
    }


def found(*rows, of=(), baseline="kd"):
    return {"seeds": [0, 1], "baseline": baseline, "ours": ["dlkd"], "rows": list(rows), "compared": list(of)}


def test_numbers():
    assert mean_and_sd({"mean": 70.126, "sd": 0.314, "n": 3}) == "70.13 ± 0.31"
    assert mean_and_sd({"mean": -1.0, "sd": None, "n": 1}) == "−1.00"
    assert mean_and_sd({"mean": 12.6, "sd": 0.4, "n": 2}, digits=0) == "13 ± 0" and mean_and_sd(None) == ""
    assert difference({"mean": 0.8, "low": 0.314, "high": 1.286}) == "+0.80 [+0.31, +1.29]"
    assert difference({"mean": -0.8, "low": -1.0, "high": 0.0}) == "−0.80 [−1.00, +0.00]"
    assert difference({"mean": -0.8, "low": None, "high": None}) == "−0.80" and difference(None) == ""


def test_the_accuracy_that_counts():
    clean, noisy = row("a", held_out=1), row("b", held_out=1, held_out_clean=2)
    read = row("c", held_out=1, held_out_clean=2, test=3)
    assert headline([clean, noisy]) == "held_out" and headline([noisy, {**read, "method": "x"}]) == "held_out_clean"
    assert headline([read]) == "test" and headline([read, noisy]) == "held_out_clean"
    # A row that was not run does not hide what the others have.
    assert headline([read, {**clean, **EMPTY}]) == "test"
    assert headline([{**clean, **EMPTY}]) == "held_out"


def test_differences_stand_beside_their_row():
    rows = [
        row("ce", held_out=60),
        row("kd", held_out=70),
        row("tuned", held_out=71),
        row("dlkd", ours=True, held_out=72),
    ]
    of = [compared("ce", "kd", mean=-10, low=-11, high=-9), compared("dlkd", "ce"), compared("dlkd", "kd", mean=2)]
    (part,) = parts(found(*rows, of=[*of, compared("dlkd", "tuned", best=True, mean=1)]))
    assert part.columns[0] == "method" and len(part.rows) == 4 and {len(r) for r in part.rows} == {len(part.columns)}
    assert [r[0] for r in part.rows] == ["ce", "kd", "tuned", "dlkd"]
    by_name = {r[0]: r for r in part.rows}
    assert by_name["ce"][1] == "60.00 ± 1.41" and by_name["ce"][-2:] == ["−10.00 [−11.00, −9.00]", ""]
    assert by_name["dlkd"][-2:] == ["+2.00 [−0.40, +1.40]", "+1.00 [−0.40, +1.40]"]
    assert by_name["kd"][-2:] == ["", ""] and "tuned" in part.columns[-1] and "kd" in part.columns[-2]


def test_a_table_for_each_condition_with_its_own_headline():
    rows = [row("kd", "clean", held_out=70), row("dlkd", "clean", held_out=71, ours=True)]
    rows += [row("kd", "noisy", held_out=40, held_out_clean=60), row("dlkd", "noisy", held_out=41, held_out_clean=62)]
    of = [
        *(compared("dlkd", "kd", condition=c, best=True, mean=1) for c in ("clean", "noisy")),
        compared("dlkd", "kd", "held_out_clean", "noisy", best=True, mean=2),
    ]
    clean, noisy = parts(found(*rows, of=of))
    assert (clean.title, noisy.title) == ("clean", "noisy")
    assert clean.rows[1][-1].startswith("+1.00") and noisy.rows[1][-1].startswith("+2.00")


def rows_of_page(page):
    """Of its only table, each as header → cell."""
    head, *lines = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    names = [html.unescape(name).strip() for name in re.findall(r"<th[^>]*>([^<]*)", head)]
    cells = ([html.unescape(cell) for cell in re.findall(r"<td>([^<]*)", line)] for line in lines)
    return [dict(zip(names, line, strict=True)) for line in cells]


def test_conditions_of_different_figures_on_one_page():
    """A cell stands under its own header, wherever the others have theirs; what a condition lacks is empty."""
    rows = [row("kd", "clean", held_out=70, ece=4, seconds=9), row("dlkd", "clean", held_out=71, ece=5, ours=True)]
    rows += [row("kd", "noisy", held_out=40, held_out_clean=60, ece=6), row("own", "noisy", held_out=44, ece=7)]
    of = [compared("dlkd", "kd", condition="clean", mean=1), compared("kd", "own", condition="noisy", best=True)]
    shown = rows_of_page(report(found(*rows, of=of)))
    assert [(r["where"], r["method"]) for r in shown] == [(r["condition"], r["method"]) for r in rows]
    assert list(shown[0]) == ["where", "method", "held-out %", "true labels %", "ECE %", "seconds", "− kd", "− own"]
    kd, dlkd, noisy, own = ({k: v for k, v in r.items() if v} for r in shown)
    assert kd == {"where": "clean", "method": "kd", "held-out %": "70.00 ± 1.41", "ECE %": "4.00 ± 1.41"} | {
        "seconds": "9 ± 1"
    }
    assert dlkd["ECE %"] == "5.00 ± 1.41" and dlkd["− kd"].startswith("+1.00") and "− own" not in dlkd
    assert (noisy["true labels %"], noisy["ECE %"]) == ("60.00 ± 1.41", "6.00 ± 1.41") and "− own" in noisy
    assert own.keys() == {"where", "method", "held-out %", "ECE %"}


def test_rows_that_were_not_run():
    rows = [row("ce", held_out=60), {**row("kd"), **EMPTY}, {**row("dlkd", held_out=61), "not_run": [1]}]
    rows[2]["seeds"].pop("1")
    (part,) = parts(found(*rows))
    assert {len(r) for r in part.rows} == {len(part.columns)}
    assert part.rows[1][:2] == ["kd", "not run"] and set(part.rows[1][2:]) <= {""}
    assert part.rows[2][0] == "dlkd (1 of 2 seeds)"
    columns, lines = flat(found(*rows))
    assert [line[2:] for line in lines] == [
        *(["ce", "0", "59"], ["ce", "1", "61"], ["kd", "0", "not run"], ["kd", "1", "not run"]),
        *(["dlkd", "0", "60"], ["dlkd", "1", "not run"]),
    ]
    assert columns == ["pair", "condition", "method", "seed", "held_out"]
    said = sentences(found(*rows))
    assert "3 cells were not run." in said


def test_nothing_was_run():
    nothing = found({**row("kd"), **EMPTY}, {**row("dlkd"), **EMPTY, "failed": {"0": "why not"}})
    (part,) = parts(nothing)
    columns, lines = flat(nothing)
    assert {len(r) for r in part.rows} == {len(part.columns)} and all("not run" in r for r in part.rows)
    assert {len(line) for line in lines} == {len(columns)} and all("not run" in line for line in lines)
    assert sentences(nothing)[-1] == "dlkd seed 0: why not"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"verdict": "ahead"}, "ahead by more than the interval"),
        ({"verdict": "behind"}, "behind by more than the interval"),
        ({"verdict": "no difference"}, "the interval has 0 in it"),
        ({"verdict": "one seed", "low": None, "high": None, "p_holm": None}, "one seed, which can show no difference"),
        ({"p_holm": 0.0123}, "p 0.012 by Holm"),
        ({"verdict": "ahead", "p_holm": 0.06}, "ahead by more than the interval, but not by Holm: no sure difference"),
        (
            {"verdict": "behind", "p_holm": 0.3, "images": {"mean": -0.5, "low": -1, "high": 0}},
            "behind by more than the interval, but not by Holm and not over images: no sure difference",
        ),
        (
            {"verdict": "ahead", "p_holm": 0.01, "images": {"mean": 0.5, "low": 0.1, "high": 1}},
            "ahead by more than the interval; p 0.01",
        ),
        ({"images": {"mean": 0.5, "low": -0.3, "high": 1.2}}, "over images [−0.30, +1.20]"),
    ],
)
def test_the_verdict_on_the_best_baseline(more, words):
    rows = [row("ce", held_out=1), row("kd", held_out=2), row("dlkd", held_out=3, ours=True)]
    of = [compared("dlkd", "kd", best=True, **more), compared("dlkd", "ce", verdict="ahead")]
    (line,) = [line for line in sentences(found(*rows, of=of)) if line.startswith("dlkd − ")]
    assert line.startswith("dlkd − kd, the best baseline: ") and words in line


def test_a_narrow_screen_and_a_file(monkeypatch, capsys):
    """Ten methods and their differences are whole in a file, which has no width."""
    names = [f"method-{k}-with-a-long-name" for k in range(10)]
    rows = [row(n, held_out=60.25, held_out_clean=70.5, ece=4, wrong_label=3, seconds=1234) for n in names]
    of = [
        compared(n, other, "held_out_clean", best=other == names[1]) for n in names for other in names[:2] if n != other
    ]
    monkeypatch.setenv("COLUMNS", "60")
    print_tables(found(*rows, of=of, baseline=names[0]))
    lines = capsys.readouterr().out.splitlines()
    for name in names[2:]:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.count("+0.50 [−0.40, +1.40]") == 2 and "60.25 ± 1.41" in line and "1234" in line


def test_files_of_a_comparison(left_alone):
    out, done = left_alone
    files = {"results.json", "results.csv", "table.md", "table.tex", "report.html"}
    assert {p.name for p in out.iterdir()} == files | {"cells", "stores"}
    assert f"Report: {out / 'report.html'}" in done.out and done.err == ""


def rows_of_markdown(text):
    """Of its tables, each row as header → cell, led by the title of its table."""
    for title, table in re.findall(r"^### (.*)\n\n((?:\|.*\n)+)", text, re.MULTILINE):
        head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        yield from ({"where": title, **dict(zip(head, line, strict=True))} for line in lines)


def test_every_table_has_the_same_cells(left_alone, read):
    """In Markdown, LaTeX, the page and on the screen; means and deviations are those of results.json, each under the
    header of its figure. One condition has figures that the other has not."""
    out, done = left_alone
    markdown, latex = ((out / f"table.{end}").read_text() for end in ("md", "tex"))
    rows = read(out / "results.json")["rows"]
    tables = [list(rows_of_markdown(markdown)), rows_of_page((out / "report.html").read_text())]
    assert {r["condition"] for r in rows if "held_out_clean" in r["figures"]} == {"noisy"}
    for r in rows:
        cells = {}
        for figure in TITLES.keys() & r["figures"].keys():
            of, digits = r["figures"][figure], 0 if figure == "seconds" else 2
            cells[TITLES[figure]] = cell = f"{of['mean']:.{digits}f} ± {of['sd']:.{digits}f}"
            assert cell in done.out and cell.replace("±", r"$\pm$") in latex
        for table in tables:
            (shown,) = [row for row in table if (row["where"], row["method"]) == (r["condition"], r["method"])]
            assert {name: shown[name] for name in TITLES.values() if shown.get(name)} == cells
    assert len(re.findall(r"^### ", markdown, re.MULTILINE)) == latex.count(r"\begin{tabular}") == 2
    assert all(len(table) == len(rows) for table in tables) and "not run" not in markdown + latex + done.out


def test_the_page_is_alone_and_whole(left_alone, read):
    out, _ = left_alone
    page = (out / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 4  # accuracies and tenths of the difficulty, of two conditions
    assert html.unescape(page).count('"figure": "held_out"') == 6  # the whole of results.json is in it
    csv_rows = list(csv.reader(io.StringIO((out / "results.csv").read_text())))
    assert len(csv_rows) == 13 and len({len(r) for r in csv_rows}) == 1


def test_where_the_comparison_lies_is_not_in_what_is_shared(left_alone):
    out, _ = left_alone
    for name in ("results.json", "results.csv", "table.md", "table.tex", "report.html"):
        text = html.unescape((out / name).read_text())
        assert str(out.parent) not in text, name
