from __future__ import annotations

import pytest

from study.reporting import text
from study.reporting.rows import SCORES


@pytest.mark.parametrize(
    ("value", "shown"), [(1.0, "1.0"), (0.55, "0.55"), (0.734812, "0.7348"), (2, "2.0"), (None, "–"), (1e-5, "1e-05")]
)
def test_factors_look_as_in_the_papers_table(value, shown):
    assert text.factor(value) == shown


def test_percent():
    assert text.percent(0.60341) == "60.34"
    assert text.percent(None) == "–"
    assert text.percent_spread(0.5, 0.01234) == "50.00 ± 1.23"
    assert text.percent_spread(None, None) == "–"


def test_every_score_has_a_name_and_what_is_unknown_keeps_its_own():
    assert set(text.SCORE_NAMES) == set(SCORES)
    assert set(SCORES) >= text.COEFFICIENTS
    assert (text.score_name("macro_auc", 0.9), text.score_name("mine")) == ("macro AUC", "mine")


@pytest.mark.parametrize(
    ("specificity", "shown"),
    [(0.95, "95 %"), (0.57, "57 %"), (0.999, "99.9 %"), (0.99999, "99.999 %"), (1.0, "100 %"), (1, "100 %")],
)
def test_sensitivity_names_its_specificity(specificity, shown):
    assert text.score_name("sensitivity_at_specificity", specificity) == f"sensitivity at {shown} specificity"
    assert text.score_name("sensitivity_at_specificity") == "sensitivity at the stated specificity"


def test_fractions_are_shown_in_percent_and_coefficients_as_they_are():
    assert text.score_figure("macro_f1", 0.60341) + text.score_unit("macro_f1") == "60.34 %"
    assert text.score_figure("mcc", 0.60341) + text.score_unit("mcc") == "0.6034"
    assert text.score_figure("recall", 0.5, 0.01234) == "50.00 ± 1.23"
    assert text.score_figure("kappa", -0.5, 0.01234) == "-0.5000 ± 0.0123"
    assert text.score_figure("mcc", -0.00001) == "0.0000"
    assert text.score_figure("mcc", None) == text.score_figure("macro_f1", None, None) == "–"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0.25, "0.2 s"),
        (59.9, "59.9 s"),
        (90, "2 min"),
        (3600, "1 h 0 min"),
        (100_000, "27 h 47 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds, shown):
    assert text.duration(seconds) == shown


def test_counts_agree_with_their_nouns():
    assert [text.counted(n, "point") for n in (0, 1, 2)] == ["0 points", "1 point", "2 points"]
    assert text.counted(2, "class") == "2 classes"


def test_safe_text_has_neither_markup_nor_credentials():
    assert text.safe("<b a='1'>&\"") == "&lt;b a=&#x27;1&#x27;&gt;&amp;&quot;"
    shown = text.safe("postgresql+psycopg://ann:s3cret@db:5432/lmf refused")
    assert shown == "postgresql+psycopg://***@db:5432/lmf refused"
    assert text.safe("s3://bucket/a@b") == "s3://bucket/a@b"


@pytest.mark.parametrize(
    "url", ["mysql://ann:s3@cret@db/lmf", "x://ann:s/cret@db", "x://db/lmf?password=cret&a=b", "PASSWORD=cret host=db"]
)
def test_a_password_goes_whole_wherever_it_stands(url):
    assert "cret" not in text.without_credentials(url)
    assert "db" in text.without_credentials(url)
