"""Which class of a dataset is which of a model."""

from __future__ import annotations

import pytest

from study.class_names import match_classes
from study.errors import StudyError

OURS = ("MEL", "NV", "Viral Pneumonia", "a=b", "c,d")


def targets(theirs: tuple[str, ...], *mapping: str) -> dict[str, int | None]:
    return dict(match_classes(theirs, OURS, mapping).pairs)


def test_the_same_name_is_the_same_class() -> None:
    assert targets(("NV", "MEL", "BCC")) == {"NV": 1, "MEL": 0, "BCC": None}


def test_case_and_accents_form_do_not_matter() -> None:
    assert targets(("nv", "viral pneumonia")) == {"nv": 1, "viral pneumonia": 2}
    assert dict(match_classes(("cafe\u0301",), ("café", "tea")).pairs) == {"cafe\u0301": 0}


def test_a_name_that_may_mean_two_classes_is_not_guessed() -> None:
    assert match_classes(("nv",), ("NV", "Nv")).targets == (None,)
    assert match_classes(("Nv",), ("NV", "Nv")).targets == (1,)


def test_the_users_word_goes_before_the_name() -> None:
    assert targets(("nevus", "melanoma", "NV"), "nevus=NV, melanoma=MEL", "NV=MEL") == {
        "nevus": 1,
        "melanoma": 0,
        "NV": 0,
    }


def test_names_may_hold_signs_and_commas() -> None:
    assert targets(("x=y", "u,v"), "x=y=a=b", '"u,v=c,d"') == {"x=y": 3, "u,v": 4}


def test_all_problems_of_a_mapping_are_told_together() -> None:
    with pytest.raises(StudyError) as error:
        targets(("nevus", "mole"), "nevus", "spot=NV", "nevus=WART", "mole=NV,mole=MEL")
    for said in (
        "--map: ",
        "'nevus' is not of the form THEIRS=OURS",
        "'spot' is no class of the dataset, whose classes are nevus, mole",
        "'WART' is no class of the model, whose classes are MEL, NV",
        "'mole' is named twice",
    ):
        assert said in str(error.value)
