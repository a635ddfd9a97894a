"""Where a worker looks for the data of a study that was planned elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.images import data_places


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders of `LMF_DATA`, the second of which holds `skin`, and one that is not there."""
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "skin").mkdir(parents=True)
    first.mkdir()
    monkeypatch.setenv("LMF_DATA", f"{first}:{second}:{tmp_path / 'gone'}")
    return first, second


def test_the_planned_place_comes_first_then_the_roots(roots: tuple[Path, Path]) -> None:
    first, second = roots
    planned = Path("/elsewhere/skin")
    assert data_places("ham10000", planned) == [
        ("ham10000", planned),
        ("ham10000", first),
        ("ham10000", second / "skin"),
        ("ham10000", second),
    ]


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_a_path_in_the_name_is_sought_as_well(roots: tuple[Path, Path], kind: str) -> None:
    first, second = roots
    assert data_places(f"{kind}:/elsewhere/skin", None) == [
        (f"{kind}:/elsewhere/skin", None),
        (f"{kind}:{first}", None),
        (f"{kind}:{second / 'skin'}", None),
        (f"{kind}:{second}", None),
    ]


@pytest.mark.parametrize("dataset", ["digits-lt", "medmnist:dermamnist"])
@pytest.mark.usefixtures("roots")
def test_what_has_no_place_has_none(dataset: str) -> None:
    assert data_places(dataset, None) == [(dataset, None)]


def test_without_roots_there_is_the_planned_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMF_DATA", raising=False)
    assert data_places("ham10000", Path("/x")) == [("ham10000", Path("/x"))]
