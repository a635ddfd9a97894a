"""What stands on a page: figures and tables get ids that are unique on it, and are kept for files beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from study.reporting.markup import figure_id, figures_html, table_html
from study.reporting.picture import Picture
from study.reporting.tables import Table
from study.reporting.text import safe


@dataclass(frozen=True)
class NamedTable:
    """A table of a report.

    Attributes:
        name: a short name in lower case, unique in the report: also its file's.
        caption: what it shows, in plain text.
        table: its text.
    """

    name: str
    caption: str
    table: Table


@dataclass(frozen=True)
class Report:
    """A report, and what stands in it.

    Attributes:
        html: the page, one document that needs no network.
        pictures: its figures by their ids, which are unique in the report.
        tables: its tables in their order on the page.
    """

    html: str
    pictures: Mapping[str, Picture]
    tables: tuple[NamedTable, ...]


@dataclass(frozen=True)
class Composer:
    """Gives figures and tables their places on a page, those of one study under its own prefix.

    Attributes:
        prefix: begins the ids of what is placed.
        pictures: the page's figures so far, by id.
        tables: the page's tables so far, by id.
        sections: ids and titles of this study's sections so far.
        shows_patient_data: whether images and file names may be shown.
        level: of its sections' headings: 2 where the page has no study of its own heading, else 3.
    """

    prefix: str
    pictures: dict[str, Picture] = field(default_factory=dict)
    tables: dict[str, NamedTable] = field(default_factory=dict)
    sections: list[tuple[str, str]] = field(default_factory=list)
    shows_patient_data: bool = True
    level: int = 2

    def part(self, prefix: str, level: int) -> Composer:
        """A composer of the same page for a study."""
        return Composer(prefix, self.pictures, self.tables, [], self.shows_patient_data, level)

    def heading(self, text: str) -> str:
        """A heading within a section."""
        return f"<h{self.level + 1}>{safe(text)}</h{self.level + 1}>"

    def fold(self, title: str, content: str) -> str:
        """Content that is folded away on a screen, and shown on paper."""
        return f"<details><summary>{safe(title)}</summary>\n{self.heading(title)}{content}</details>"

    def section(self, title: str, sentence: str, content: str, note: str = "") -> str:
        """One section: a heading, the sentence that says what to read from it, and its content.

        Args:
            title: plain text.
            sentence: plain text.
            content: HTML.
            note: HTML between the two.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        place = f"{self.prefix}-{slug}"
        self.sections.append((place, title))
        head = f'<h{self.level} class="section">{safe(title)}</h{self.level}>'
        return f'<section id="{place}">{head}\n<p>{safe(sentence)}</p>\n{note}{content}</section>'

    def figures(self, *pictures: Picture) -> str:
        """HTML of the places of some figures, side by side as far as the screen is wide; empty for none."""
        self.pictures.update({figure_id(self.prefix, picture): picture for picture in pictures})
        return figures_html(self.prefix, pictures) if pictures else ""

    def table(self, name: str, caption: str, table: Table, *, dense: bool = False) -> str:
        """HTML of a table.

        Args:
            name: a short name, unique within the study.
            caption: what it shows; also the caption of its file.
            table: its text.
            dense: it has so many columns that it must be set small on paper.
        """
        place = f"{self.prefix}-{name}"
        self.tables[place] = NamedTable(place, caption, table)
        return table_html(table, dense=dense, label=caption)
