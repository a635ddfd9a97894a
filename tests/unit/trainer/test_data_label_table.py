"""Label tables as text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from trainer.data import label_table
from trainer.data.label_table import LabelTable, clean, one_hot_labels, read_label_table
from trainer.errors import DataError

TEXT = "image,dx\na,NV\nb,DF\n"


def table_of(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> LabelTable:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_label_table(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TEXT, "t.csv"),
        (TEXT.replace(",", ";"), "t.txt"),
        (TEXT.replace(",", "\t"), "t"),
        (TEXT.replace("\n", "\r\n"), "t.csv"),
        (TEXT.replace("\n", "\r"), "t.csv"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "t.csv"),
        (b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(), "t.csv"),
        ('"image", dx \n"a",\tNV\n b ,"DF "', "t.csv"),
        (gzip.compress(TEXT.encode()), "t.csv.gz"),
        (gzip.compress(TEXT.replace(",", "\t").encode()), "t.tsv.GZ"),
        (gzip.compress(TEXT[:9].encode()) + gzip.compress(TEXT[9:].encode()), "t.csv.gz"),
    ],
    ids="plain semicolons tabs CRLF CR BOM BOM-CRLF quotes packed packed-tabs packed-twice".split(),
)
def test_tables_of_many_kinds_say_the_same(tmp_path: Path, text: str | bytes, name: str) -> None:
    table = table_of(tmp_path, text, name)
    assert table.path == tmp_path / name
    assert table.header == ("image", "dx")
    assert [(row.line, row.cells) for row in table.rows] == [(2, ("a", "NV")), (3, ("b", "DF"))]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = table_of(tmp_path, '\nimage,note\n\na,"two\nlines"\n,\nb,\n')
    assert [(row.line, row.cells) for row in table.rows] == [(5, ("a", "two lines")), (7, ("b", ""))]
    finding = table.error(table.rows[0], "bad label", "is odd", "a")
    assert finding.message == "t.csv line 5: is odd"
    assert (finding.kind, finding.severity, finding.images) == ("bad label", "error", ("a",))
    assert table.error(table.rows[0], "bad row", "is odd").images == ()


def test_cells_are_cleaned_and_missing_ones_are_empty(tmp_path: Path) -> None:
    assert clean(" e\u0301 x\u00a0") == "é x"
    assert clean("a\r\nb\u2028c") == "a b c"
    row = table_of(tmp_path, "image,dx\na\n").rows[0]
    assert (row.cell(0), row.cell(1), row.cell(None)) == ("a", "", "")


def test_columns_are_found_in_any_case_and_the_first_asked_one_counts(tmp_path: Path) -> None:
    table = table_of(tmp_path, "Image_ID,DX,dx_type\na,b,c\n")
    assert table.find(("image", "image_id")) == 0
    assert table.find(("dx_type", "dx")) == 2
    assert table.find(("label",)) is None
    assert table.column(("dx",), "label") == 1
    with pytest.raises(DataError) as caught:
        table.column(("label", "class"), "label")
    assert str(caught.value) == (
        f"label table {tmp_path}/t.csv: has no label column; expected one of label, class, found Image_ID, DX, dx_type"
    )
    with pytest.raises(DataError, match=r"has no label column; expected label, found Image_ID, DX, dx_type$"):
        table.column(("label",), "label")
    wide = table_of(tmp_path, ",".join(f"c{number}" for number in range(20)) + "\n1\n")
    with pytest.raises(DataError, match=r"found c0, .*, c11, and 8 more$"):
        wide.column(("label",), "label")


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        (None, {"lesion": 1, "patient": 2}),
        ("patient", {"patient": 2, "lesion": 1}),
        ("Lesion", {"Lesion": 1, "patient": 2}),
        ("lesion_id", {"lesion_id": 1, "patient": 2}),
        ("eye", {"eye": 3, "lesion": 1, "patient": 2}),
        ("SITE", {"SITE": 4, "lesion": 1, "patient": 2}),
    ],
)
def test_groups_are_natural_columns_and_the_asked_one_first(
    tmp_path: Path, asked: str | None, columns: dict[str, int]
) -> None:
    table = table_of(tmp_path, "image,lesion_id,ID,eye,site_id\na,b,c,d,e\n")
    natural = {"lesion": ("lesion", "lesion_id"), "patient": ("ID",), "unknown": ("x",)}
    assert list(table.group_columns(natural, asked).items()) == list(columns.items())


def test_a_group_that_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    table = table_of(tmp_path, TEXT)
    assert table.group_columns({"lesion": ("lesion_id",)}, None) == {}
    with pytest.raises(DataError, match="has no group column; expected lesion_id, found image, dx"):
        table.group_columns({"lesion": ("lesion_id",)}, "lesion")
    with pytest.raises(DataError, match="has no group column; expected one of eye, eye_id, found image, dx"):
        table.group_columns({"lesion": ("lesion_id",)}, "eye")


def test_marks_are_zero_and_one_in_any_spelling(tmp_path: Path) -> None:
    table = table_of(tmp_path, "image,MEL,NV\na,1,0\nb,0.0,1.0\nc, 1 ,0.\nd,0e0,1e0\n")
    labels, problems = one_hot_labels(table, 0, {"MEL": 1, "NV": 2})
    assert labels == {2: "MEL", 3: "NV", 4: "MEL", 5: "NV"}
    assert problems == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,0,0", "a has no class marked; expected exactly one"),
        ("a,1,1", "a has 2 classes marked (MEL, NV); expected exactly one"),
        ("a,1", "a has '' under NV; expected 0 or 1"),
        ("a,x,0", "a has 'x' under MEL; expected 0 or 1"),
        ("a,2,-1", "a has '2' under MEL; expected 0 or 1"),
        ("a,0.5,0.5", "a has '0.5' under MEL; expected 0 or 1"),
        ("a,inf,0", "a has 'inf' under MEL; expected 0 or 1"),
        (",1,0", "the image cell is empty"),
        ('"a\nb",0,0', "a b has no class marked; expected exactly one"),
    ],
)
def test_other_marks_are_named_by_line(tmp_path: Path, row: str, said: str) -> None:
    table = table_of(tmp_path, f"image,MEL,NV\nok,0,1\n{row}\n")
    labels, problems = one_hot_labels(table, 0, {"MEL": 1, "NV": 2})
    assert labels == {2: "NV"}
    assert [problem.message for problem in problems] == [f"t.csv line {table.rows[1].line}: {said}"]


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"", "t.csv", "is empty; expected a header and a row for each image"),
        (b"\n,,\n", "t.csv", "is empty"),
        (b"image,dx\n\n", "t.csv", "has a header but no rows"),
        (b'image,dx\na,"NV\n', "t.csv", "is no well-formed CSV"),
        (b'image,dx\na,"N"V\n', "t.csv", "is no well-formed CSV"),
        (b"image,dx\na," + b"x" * 200_000 + b"\n", "t.csv", "is no well-formed CSV: field larger"),
        (TEXT.encode("utf-16"), "t.csv", "is not UTF-8 text; save it as CSV in UTF-8"),
        (TEXT.encode("utf-16-be"), "t.csv", "is not UTF-8 text"),
        ("image,dx\na,Nävus\n".encode("latin-1"), "t.csv", "is not UTF-8 text"),
        (b"PK\x03\x04" + bytes(range(256)), "t.csv", "is not UTF-8 text"),
        (gzip.compress(TEXT.encode()), "t.csv", "is not UTF-8 text"),
        (gzip.compress(TEXT.encode())[:-9], "t.csv.gz", "is damaged; unpack or download it again"),
        (gzip.compress(TEXT.encode())[:-1] + b"x", "t.csv.gz", "is damaged"),
        (gzip.compress(b"")[:10] + b"\xff" * 9, "t.csv.gz", "is damaged"),
        (b"image,dx\na,NV\n", "t.csv.gz", "is damaged"),
        (b"", "t.csv.gz", "is empty"),
        (gzip.compress(TEXT.encode("utf-16")), "t.csv.gz", "is not UTF-8 text"),
    ],
    ids="empty blank header quote quotes huge UTF-16 BE latin binary gz cut sum bits unpacked no-bytes gz-16".split(),
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, data: bytes, name: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        table_of(tmp_path, data, name)
    assert str(caught.value).startswith(f"label table {tmp_path / name}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=f"label table .*{name}: No such file or directory"):
        read_label_table(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"label table .*{name}: Is a directory"):
        read_label_table(tmp_path / name)
    monkeypatch.setattr(label_table, "_MOST_BYTES", 10)
    (tmp_path / name).rmdir()
    with pytest.raises(DataError, match="holds more than 0 MiB; it is no label table"):
        table_of(tmp_path, gzip.compress(TEXT.encode()) if name.endswith(".gz") else TEXT, name)
