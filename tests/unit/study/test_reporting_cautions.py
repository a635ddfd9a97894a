from __future__ import annotations

from dataclasses import replace
from typing import Any

from study.reporting.cautions import Caution, cautions
from study.reporting.page import report_page


def test_the_same_warning_of_several_trials_is_said_once(records: Any) -> None:
    points = [
        records.point(1.0, 1.0, 0.5, 0.5, warnings=("beta hardly matters", "never predicted: DF")),
        records.point(1.0, 0.5, 0.5, 0.5),
        records.point(0.5, 1.0, warnings=("beta hardly matters",)),
    ]
    assert cautions(records.study(points)) == (
        Caution("beta hardly matters", (0, 2)),
        Caution("never predicted: DF", (0,)),
    )
    assert cautions(records.study()) == ()


def test_many_trials_are_counted_and_the_first_named() -> None:
    assert Caution("w", (3,)).line == "trial 3: w"
    assert Caution("w", (3, 4)).line == "2 trials (3, 4): w"
    assert Caution("w", tuple(range(7))).line == "7 trials (0, 1, 2, 3, 4, ...): w"


def test_the_report_shows_them_as_text(records: Any) -> None:
    point = records.point(1.0, 1.0, 0.5, 0.5, warnings=("never predicted: <b>DF</b>",))
    page = report_page([records.data(records.study([point]))])
    assert "What trainings warned of" in page
    assert "never predicted: &lt;b&gt;DF&lt;/b&gt;" in page
    quiet = report_page([records.data(records.study([replace(point, warnings=())]))])
    assert "What trainings warned of" not in quiet
