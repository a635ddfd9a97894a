from __future__ import annotations

import csv
import io
import re

import pytest
from markdown_it import MarkdownIt

from study.reporting.tables import Table
from study.reporting.typeset import csv_table, latex_table, markdown_table

HOSTILE = (
    "</td><script>alert(1)</script>",
    'double " and single \' quotes',
    "two\nlines\r\nand\ttabs",
    "back\\slash \\input{/etc/passwd} \\end{tabular}",
    "pipes | and || more",
    "a & b % c _ d # e $ f ^ g ~ h { i } j",
    "=cmd|' /C calc'!A0",
    "+1-2", "-2+3", "-1 to =A1", "-1 to 2+3", "@SUM(A1)", " =1+1",
    "[1ex] after a row", "* star", "-- dashes --- '' ``", "!`?`",
    "**bold** _it_ `code` [link](http://x) ![image](x) ~~no~~ $x$",
    "&lt;already&gt; &amp;",
    "\x1b[31mred\x00\x07",
    "\u202eright to left\u202c \ufeff\u200b",
    "\ue000private\ue001",
)  # fmt: skip
LATIN = "Ne\u0301vus, Übergröße, Žižek, façade, ñandú, Łódź, Øre, Æ, œ, ı, j\u030c, µ, α ≤ β ± 1 × 2 → … “q” ‘r’ – —"
FOREIGN = "ورم ميلانيني 黑色素瘤"


def table(*cells, **others):
    return Table(("name", "value"), tuple((cell, "1.00 ± 0.50") for cell in cells), **others)


def check_latex(text):
    """What a LaTeX engine asks of the text: braces and environments balanced, and no markup that it was not meant."""
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("%")]
    body = "\n".join(line for line in lines if not line.startswith("%"))
    depth = 0
    for match in re.finditer(r"\\[a-zA-Z]+|\\.|\\\n|[{}]", body):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\(begin|end)\{(\w+)\}", body) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    bare = re.sub(r"\\[a-zA-Z]+|\\[^a-zA-Z]", "", body)
    assert not set(bare) & set('%#$_~\\"`|')
    assert "^" not in bare.replace("\\ensuremath{^", "")
    assert not re.search(r"--|''|,,", body)
    commands = set(re.findall(r"\\([a-zA-Z]+)", body))
    assert not commands & {"input", "write", "include", "def", "csname", "immediate", "openout"}
    named = {chr(int(code, 16)) for code in re.findall(r"U\+([0-9A-F]{4,6})", "\n".join(comments))}
    assert {character for character in body if not character.isascii()} == named
    inner = body.split("\\toprule\n")[1].split("\\bottomrule")[0]
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body).group(1))
    for row in inner.replace("\\midrule\n", "").strip().split("\n"):
        assert row.endswith("\\\\")
        assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
        assert not row.lstrip().startswith(("[", "*"))
    return comments


@pytest.mark.parametrize("cell", [*HOSTILE, LATIN])
def test_any_text_is_text_in_latex_and_needs_nothing_but_booktabs(cell):
    text = latex_table(table(cell, "other"), caption=cell, label="tab:x")
    assert check_latex(text) == ["% Needs \\usepackage{booktabs}."]
    assert text.isascii()


def test_what_pdflatex_cannot_write_is_named_on_top():
    text = latex_table(table(FOREIGN), caption="Öl", label="x")
    _, second = check_latex(text)
    assert second.startswith("% Not for pdfLaTeX: XeLaTeX or LuaLaTeX")
    assert FOREIGN in text


def test_latex_as_it_is_to_be():
    given = Table(
        ("data set", "α", "macro F1, %"),
        (("HAM_10K", "1.0", "84.61 ± 0.20"), ("Näv[us]", "–", "80.00")),
        text_columns=1,
        best=frozenset({(0, 2)}),
    )
    text = latex_table(given, caption="Best α, 100 % of it", label="tab:best α")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}[htbp]",
        "\\centering",
        "\\caption{Best \\ensuremath{\\alpha}, 100 \\% of it}",
        "\\label{tab:best-}",
        "\\begin{tabular}{lrr}",
        "\\toprule",
        "data set & \\ensuremath{\\alpha} & macro F1, \\% \\\\",
        "\\midrule",
        "HAM\\_10K & 1.0 & \\textbf{84.61 \\ensuremath{\\pm} 0.20} \\\\",
        'N\\"{a}v{[}us{]} & \\textendash{} & 80.00 \\\\',
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]


def test_signs_do_not_join_into_others_in_latex():
    text = latex_table(table("!` ?` -- ''"), caption="", label="x")
    assert "!{}\\char96{} ?{}\\char96{} -{}- '{}'" in text


def test_a_table_without_rows_keeps_its_columns():
    empty = Table(("a", "b"), ())
    assert "\\begin{tabular}{lr}" in latex_table(empty, caption="", label="x")
    check_latex(latex_table(empty, caption="", label="x"))
    assert [line.count("|") for line in markdown_table(empty).splitlines()] == [3, 3, 3]
    assert csv_table(empty) == "a,b\n"


def markdown_cells(text):
    """What a reader of the Markdown sees, cell by cell; anything but text and bold text is refused."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    cells, kinds = [], set()
    for token in tokens:
        if token.type == "inline":
            cells.append("".join(child.content for child in token.children))
            kinds |= {child.type for child in token.children}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
    assert {token.type for token in tokens} <= {
        *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"),
        *("tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close", "inline"),
    }
    return cells


@pytest.mark.parametrize("cell", [*HOSTILE, LATIN, FOREIGN])
def test_any_text_is_text_in_markdown(cell):
    cells = markdown_cells(markdown_table(table(cell, "other")))
    visible = "".join(" " if ord(c) < 32 else c for c in cell if c not in "\u202e\u202c\ufeff\u200b\ue000\ue001")
    assert cells == ["name", "value", " ".join(visible.split()), "1.00 ± 0.50", "other", "1.00 ± 0.50"]


def test_markdown_marks_the_best_and_lines_up_numbers():
    given = Table(("a", "b"), (("x", "1.0"), ("y", "2.0")), best=frozenset({(1, 1)}))
    lines = markdown_table(given).splitlines()
    assert re.fullmatch(r"\|:-+\|-+:\|", lines[1])
    assert [cell.strip() for cell in lines[3].split("|")] == ["", "y", "**2.0**", ""]


@pytest.mark.parametrize("cell", [*HOSTILE, LATIN, FOREIGN, "\uff1d1"])
def test_csv_gives_text_back_and_nothing_that_a_spreadsheet_computes(cell):
    rows = list(csv.reader(io.StringIO(csv_table(table(cell)), newline="")))
    assert rows[0] == ["name", "value"]
    (read, figure) = rows[1]
    assert figure == "1.00 ± 0.50"
    assert read.removeprefix("'") == cell or read == cell
    assert not read.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))


@pytest.mark.parametrize(
    "cell",
    ["-0.50", "+3", "-1.2e-05", "-0.30 ± 0.20", "–", "1.0", "", "60.34", "-1.20 to 3.40", "-0.5 to -0.1", "+1 to +2"],
)
def test_numbers_stay_as_they_are_shown_in_csv(cell):
    assert csv_table(Table(("a",), ((cell,), ("end",)))).splitlines()[1] == (cell or '""')


def test_no_form_shows_credentials():
    cell = "postgresql://lmf:secret@host/db and password=hidden"
    for text in (
        latex_table(table(cell), caption=cell, label="x"),
        markdown_table(table(cell)),
        csv_table(table(cell)),
    ):
        assert "secret" not in text
        assert "hidden" not in text
        assert "host/db" in text
