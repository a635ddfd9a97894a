from __future__ import annotations

import pytest

from study.reporting.leakage import (
    UNKNOWN,
    has_leaks,
    headline,
    leakage_line,
    leakage_notice,
    leakage_sentence,
    leakage_short,
)


def test_a_kind_that_leaks_is_counted_and_a_way_out_is_named(leaks):
    found = [leaks("lesion", 813, images=955, test_images=1502), leaks("patient")]
    assert leakage_sentence(found) == (
        "Test scores are too good: 813 lesions are in training and in test (955 of 1,502 test images show one); "
        "--group lesion keeps lesions whole."
    )
    assert leakage_short(found) == "813 lesions leak"
    assert leakage_line(found) == "813 lesions leak from training into test: test scores are too good."
    assert has_leaks(found)


def test_every_kind_that_leaks_is_named(leaks):
    found = [leaks("lesion", 1200, images=1300, test_images=1502), leaks("site"), leaks("patient", 1, images=2)]
    assert leakage_sentence(found) == (
        "Test scores are too good: 1,200 lesions (1,300 of 1,502 test images) and 1 patient (2 of 30 test images) are "
        "in training and in test; --group lesion keeps lesions whole, --group patient keeps patients whole."
    )
    assert leakage_short(found) == "1,200 lesions and 1 patient leak"


def test_one_group_is_told_in_the_singular(leaks):
    assert leakage_sentence([leaks("patient", 1, images=1, test_images=1)]) == (
        "Test scores are too good: 1 patient is in training and in test (1 of 1 test image is of it); "
        "--group patient keeps patients whole."
    )
    assert leakage_short([leaks("patient", 1)]) == "1 patient leaks"
    assert "(2 of 30 test images show it)" in leakage_sentence([leaks("lesion", 1)])
    assert "(1 of 30 test images shows it)" in leakage_sentence([leaks("lesion", 1, images=1)])


def test_a_column_of_any_name_is_named_as_groups_of_it(leaks):
    assert leakage_sentence([leaks("patients", 2)]) == (
        "Test scores are too good: 2 groups of patients are in training and in test (3 of 30 test images are of one); "
        "--group patients keeps groups of patients whole."
    )
    assert leakage_short([leaks("site_id", 1)]) == "1 group of site_id leaks"
    assert leakage_sentence([leaks("site_id")]) == "No group of site_id is in both training and test."


def test_leaks_into_validation_are_told_too(leaks):
    both = leakage_sentence([leaks("lesion", 5, val=4)])
    assert both.endswith(
        "keeps lesions whole. 4 lesions are also in training and in validation, which chooses α and β."
    )
    assert leakage_line([leaks("lesion", 5, val=4)]) == (
        "5 lesions leak from training into test, 4 lesions leak from training into validation: "
        "test and validation scores are too good."
    )
    only = [leaks("lesion", val=1)]
    assert leakage_sentence(only) == (
        "No lesion is in both training and test. 1 lesion is in training and in validation, which chooses α and β; "
        "--group lesion keeps lesions whole."
    )
    assert leakage_short(only) == "1 lesion leaks into validation"
    assert leakage_line(only) == "1 lesion leaks from training into validation: validation scores are too good."
    assert has_leaks(only)


def test_where_nothing_leaks_that_is_said(leaks):
    found = [leaks("lesion"), leaks("patient")]
    assert leakage_sentence(found) == "No lesion and no patient is in both training and test."
    assert leakage_line(found[:1]) == leakage_notice(found[:1]) == "No lesion is in both training and test."
    assert leakage_short(found) == "none"
    assert not has_leaks(found)


def test_where_nothing_is_known_that_is_said():
    assert leakage_sentence(()) == UNKNOWN
    assert leakage_short(()) == "unknown"
    assert leakage_line(()) == ""
    assert leakage_notice(()) is None
    assert not has_leaks(())
    assert headline(()) is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([(0, 0), (0, 2), (3, 0), (5, 0)], 2), ([(0, 0), (0, 2), (0, 3)], 1), ([(0, 0), (0, 0)], 0)],
)
def test_the_headline_is_the_first_that_leaks_into_test(leaks, counts, expected):
    entries = [leaks(f"kind {number}", test, val) for number, (test, val) in enumerate(counts)]
    assert headline(entries) is entries[expected]
