"""Writing reports and figures: what is read, where it goes, and that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import StudyError
from study.reporting.rows import StudyData

if TYPE_CHECKING:
    from storage.artifacts import Artifacts
    from storage.database import Database
    from study.reporting.composing import NamedTable
    from study.reporting.picture import Picture

_LONGEST_STEM = 100
_PART_FILE = re.compile(r"(report|study-\d+)-.+")
"""How files of single figures and tables are called."""


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written.

    Attributes:
        paths: its files: the page first.
        problem: why figures were not drawn one by one, in words; None where they were, or were not asked for.
    """

    paths: tuple[Path, ...]
    problem: str | None = None


def write_reports(
    database: Database,
    names: Sequence[str],
    folder: Path,
    *,
    artifacts: Artifacts | None = None,
    output: Path | None = None,
    csv: bool = False,
    static: bool = False,
    patient_data: bool = True,
) -> WrittenReport:
    """Write one report of some studies, and on request the rows behind it and its figures and tables one by one.

    Args:
        database: holds the studies.
        names: the studies, at least one.
        folder: takes the report where `output` is not given; made if it is missing.
        artifacts: has the files of trials; without it there are no predictions and no Grad-CAM in the report.
        output: the report's file.
        csv: also write `REPORT-settings.csv`, `-points.csv`, `-epochs.csv` and `-classes.csv` beside it.
        static: also write every figure as PNG, SVG and PDF, and every table as CSV and LaTeX, into the folder
            `REPORT-files` beside it.
        patient_data: show images and file names, and messages, which may hold some; without them, rows and tables that
            an earlier report left beside this one are written anew, too.

    Raises:
        StudyError: a file cannot be written.
        StorageError: a study cannot be read.
    """
    from study.reporting.page import make_report
    from study.reporting.reading import read_studies
    from study.reporting.static_files import FORMS, MissingBrowserError, write_figures

    studies = read_studies(database, names, artifacts)
    path = output or folder / f"{report_stem(names)}.html"
    report = make_report(studies, patient_data=patient_data)
    write_text(path, report.html)
    written = [path]
    beside = path.with_name(f"{path.stem}-files")
    # What an earlier report left beside this one may hold what must not be shown any more.
    if csv or (not patient_data and any(file.exists() for file in _sheet_paths(path))):
        written += write_sheets(studies, path, patient_data=patient_data)
    problem = None
    if static or (not patient_data and (beside / "tables").is_dir()):
        written += write_tables(report.tables, beside / "tables")
        _remove_others(beside / "tables", written, (".csv", ".tex"))
    if static:
        try:
            written += write_figures(report.pictures, beside / "figures")
            _remove_others(beside / "figures", written, tuple(f".{form}" for form in FORMS))
        except MissingBrowserError as error:
            problem = str(error)
    return WrittenReport(tuple(written), problem)


def write_report(studies: Sequence[StudyData], path: Path) -> Path:
    """Write the report of at least one study to a file and return its path.

    Raises:
        StudyError: the file cannot be written.
    """
    from study.reporting.page import report_page

    write_text(path, report_page(studies))
    return path


def write_sheets(studies: Sequence[StudyData], report: Path, *, patient_data: bool = True) -> list[Path]:
    """Write the rows behind a report as CSV files beside it and return their paths.

    Args:
        studies: the studies.
        report: the report's file.
        patient_data: also write messages, which may name images.

    Raises:
        StudyError: a file cannot be written.
    """
    from study.reporting.sheets import sheets

    paths = []
    for name, text in sheets(studies, messages=patient_data).items():
        paths.append(report.with_name(f"{report.stem}-{name}.csv"))
        write_text(paths[-1], text)
    return paths


def _sheet_paths(report: Path) -> list[Path]:
    """Where the rows behind a report lie, or would lie."""
    from study.reporting.sheets import NAMES

    return [report.with_name(f"{report.stem}-{name}.csv") for name in NAMES]


def _remove_others(folder: Path, written: Sequence[Path], suffixes: tuple[str, ...]) -> None:
    """Remove what an earlier report wrote into a folder and this one did not.

    Raises:
        StudyError: a file cannot be removed.
    """
    kept = set(written)
    for path in sorted(folder.glob("*")):
        if path.suffix in suffixes and path not in kept and _PART_FILE.fullmatch(path.stem):
            try:
                path.unlink()
            except OSError as error:
                raise StudyError(f"{path}: cannot be removed: {error.strerror}; --output names another file") from None


def write_tables(tables: Sequence[NamedTable], folder: Path) -> list[Path]:
    """Write tables as CSV and LaTeX files into a folder, which is made if it is missing, and return their paths.

    Raises:
        StudyError: a file cannot be written.
    """
    from study.reporting.typeset import csv_table, latex_table

    paths = []
    for named in tables:
        latex = latex_table(named.table, caption=named.caption, label=f"tab:{named.name}")
        for suffix, text in ((".csv", csv_table(named.table)), (".tex", latex)):
            paths.append(folder / f"{named.name}{suffix}")
            write_text(paths[-1], text)
    return paths


def write_figure(picture: Picture, path: Path) -> Path:
    """Write one picture to a file and return its path; the suffix says how.

    Args:
        picture: the picture.
        path: `.html` is a page that needs no network; `.png`, `.svg` and `.pdf` need kaleido and a browser.

    Raises:
        StudyError: the suffix is another one, what draws the picture is missing, or the file cannot be written.
    """
    from study.reporting.still_image import FORMS, still_image

    suffix = path.suffix.lower()
    if suffix == ".html":
        from study.reporting.page import figure_page

        content = figure_page(picture).encode(errors="backslashreplace")
    elif suffix[1:] in FORMS:
        try:
            content = still_image(picture, suffix[1:])
        except StudyError as error:
            raise StudyError(f"{path}: {error}") from error
    else:
        known = ", ".join(f".{form}" for form in FORMS)
        raise StudyError(f"{path}: a figure's file ends in .html, {known}; not in {suffix or 'nothing'}")
    write_bytes(path, content, "name another file")
    return path


def report_stem(names: Sequence[str]) -> str:
    """A file name, without suffix, that tells which studies a report is of.

    Names that are too long, or not fit for a file, are cut to what is, and a digest keeps them apart.
    """
    whole = "+".join(dict.fromkeys(names))
    fit = re.sub(r"[^A-Za-z0-9._+-]+", "-", whole).lstrip(".-")[:_LONGEST_STEM]
    if fit == whole:
        return fit
    return f"{fit}-{hashlib.sha256(whole.encode(errors='backslashreplace')).hexdigest()[:8]}".lstrip("-")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 whole or not at all; its folder is made if it is missing.

    Raises:
        StudyError: the folder or the file cannot be written.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes, advice: str = "--output names another file") -> None:
    """Write a file whole or not at all; its folder is made if it is missing.

    Args:
        path: the file.
        content: what it is to hold.
        advice: what to do where it cannot be written.

    Raises:
        StudyError: the folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name[:60]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise StudyError(f"{path}: is not a file that can be replaced; {advice}")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}; {advice}") from None
