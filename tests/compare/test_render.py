"""Tables as text, read back by a Markdown parser, by csv, and by a small reader of LaTeX."""

import csv
import html
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dlkd.compare.render import csv_text, latex, markdown

COLUMNS = ("method", "clean", "noisy 40 %")
ROWS = [("kd, T=4", "70.1 ± 0.2", "−1.5"), ("dlkd", "*not run*", "a|b\nc")]
NASTY = "".join(chr(c) for c in range(33, 127)) + " ±−×é"
texts = st.text(st.sampled_from(NASTY), max_size=12).map(str.strip)
tables = st.integers(1, 4).flatmap(
    lambda c: st.tuples(
        st.lists(texts, min_size=c, max_size=c),
        st.lists(st.lists(texts, min_size=c, max_size=c), max_size=3),
    )
)


def test_markdown():
    assert markdown(COLUMNS, ROWS) == (
        "| method | clean | noisy 40 % |\n"
        "| --- | --: | --: |\n"
        "| kd, T=4 | 70.1 ± 0.2 | −1.5 |\n"
        "| dlkd | \\*not run\\* | a\\|b<br>c |\n"
    )
    assert markdown(COLUMNS, [], "rcl").splitlines()[1] == "| --: | :-: | --- |"
    assert markdown(["w_kd", "_a_", "x\r\ny"], []).startswith("| w_kd | \\_a\\_ | x<br>y |\n")


def shown(text):
    """The cells as a reader sees them; what is markup stays a tag."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in page.split("<tr>")[1:]]
    return [[html.unescape(cell) for cell in line] for line in lines]


@settings(deadline=None, max_examples=150)
@given(tables)
def test_a_markdown_parser_shows_what_was_given(table):
    columns, rows = table
    assert shown(markdown(columns, rows)) == [columns, *rows]


@pytest.mark.parametrize(
    "cell", ["a\\|b", "\\*", "~~a~~", "&amp; &#35;", "`a`", "[a](b)", "<b>", "**a**", "_a_", "__a__"]
)
def test_markdown_escapes(cell):
    assert shown(markdown([cell], [[cell], [f"x {cell} y"]])) == [[cell], [cell], [f"x {cell} y"]]


def test_latex():
    assert latex(COLUMNS, [("dlkd_robust & co", "70.1 ± 0.2", "−1.5")], "lrc") == (
        "\\begin{tabular}{lrc}\n"
        "\\toprule\n"
        "method & clean & noisy 40 \\% \\\\\n"
        "\\midrule\n"
        "dlkd\\_robust \\& co & 70.1 $\\pm$ 0.2 & $-$1.5 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("&%$#_{}", r"\&\%\$\#\_\{\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("\\alpha{}", r"\textbackslash{}alpha\{\}"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("[2pt] *", "{[}2pt] {*}"),
        ("--final --- a-b", r"-{}-final -{}-{}- a-b"),
        ("T² ≥ τ·γ × σ → −1", r"T$^2$ $\geq$ $\tau$$\cdot$$\gamma$ $\times$ $\sigma$ $\rightarrow$ $-$1"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_latex_escapes(given, written):
    assert latex([given], [[given]]).splitlines()[2::2] == [rf"{written} \\", rf"{written} \\", r"\end{tabular}"]


READ = {"textbackslash{}": "\\", "textasciitilde{}": "~", "textasciicircum{}": "^"}
READ |= {"textless{}": "<", "textgreater{}": ">", "textbar{}": "|"} | {c: c for c in "&%$#_{}"}


def read_cell(cell):
    """Of what TeX does to text: commands, braces that group, mathematics of one sign, hyphens that are one dash."""
    commands = "|".join(re.escape(c) for c in READ)
    parts = re.findall(rf"\\(?:{commands})|\$\\?[a-z−-]+\$|[{{}}]|-+|.", cell)
    signs = {r"$\pm$": "±", "$-$": "−", r"$\times$": "×", "{": "", "}": "", "--": "–", "---": "—"}
    return "".join(READ[p[1:]] if p[0] == "\\" and p[1:] in READ else signs.get(p, p) for p in parts)


@settings(deadline=None, max_examples=150)
@given(tables)
def test_a_reader_of_latex_sees_what_was_given(table):
    columns, rows = table
    lines = latex(columns, rows).splitlines()
    head, *body = [lines[2], *lines[4:-2]]
    read = [[read_cell(c) for c in re.split(r"(?<!\\) ?& ?", line.removesuffix(r"\\")[:-1])] for line in (head, *body)]
    squeezed = [[" ".join(cell.split()) for cell in row] for row in (columns, *rows)]
    assert [[cell.strip() for cell in row] for row in read] == squeezed
    # Nothing a rule or the end of a row before it would take for its option.
    assert not any(line.lstrip().startswith(("[", "*")) for line in (head, *body))


@settings(deadline=None, max_examples=60)
@given(tables)
def test_csv_reads_back(table):
    columns, rows = table
    assert list(csv.reader(io.StringIO(csv_text(columns, rows), newline=""))) == [columns, *rows]


def test_csv():
    assert csv_text(("a", "b"), [("1,5", 'x"y'), ("two\nlines", "−")]) == 'a,b\n"1,5","x""y"\n"two\nlines",−\n'


def test_errors():
    for render in (markdown, latex, csv_text):
        with pytest.raises(ValueError, match="row 2 to have 2 cells, but got 1"):
            render(("a", "b"), [("1", "2"), ("3",)])
        with pytest.raises(ValueError, match="to have columns"):
            render((), [])
    for render in (markdown, latex):
        for align in ("l", "lrx", "lx"):
            with pytest.raises(ValueError, match=f"2 columns, but got '{align}'"):
                render(("a", "b"), [], align)
