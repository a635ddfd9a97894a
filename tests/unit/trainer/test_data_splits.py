"""Training, validation and test parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from trainer.data.dataset import Labels
from trainer.data.splits import Split, class_counts, grouped_split, split_fingerprint, stratified_split
from trainer.errors import DataError


def labels_of(*counts: int) -> Labels:
    """So many labels of each class, mixed."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.asarray(np.random.RandomState(1).permutation(labels), dtype=np.int64)


def parts_of(split: Split) -> tuple[list[int], list[int], list[int]]:
    return split.train.tolist(), split.val.tolist(), split.test.tolist()


def counts_of(labels: Labels, split: Split, num_classes: int) -> list[tuple[int, ...]]:
    return [class_counts(labels, part, num_classes) for part in (split.train, split.val, split.test)]


@pytest.mark.parametrize(
    ("count", "held_out"), [(4, 1), (9, 1), (10, 2), (16, 2), (17, 3), (23, 3), (30, 5), (50, 8), (70, 11), (90, 14)]
)
def test_each_class_gives_15_percent_rounded_half_up(count: int, held_out: int) -> None:
    labels = labels_of(count, 100)
    split = stratified_split(labels, 2, 23)
    assert counts_of(labels, split, 2) == [(count - 2 * held_out, 70), (held_out, 15), (held_out, 15)]


@pytest.mark.parametrize("grouped", [False, True])
def test_parts_are_sorted_share_nothing_and_hold_everything(grouped: bool) -> None:
    labels = labels_of(40, 9, 21)
    groups = [str(index // 2) for index in range(70)]
    split = grouped_split(labels, groups, 3, 1) if grouped else stratified_split(labels, 3, 1)
    parts = parts_of(split)
    assert sorted(index for part in parts for index in part) == list(range(70))
    assert all(part == sorted(part) for part in parts)
    assert split.train.dtype == split.val.dtype == split.test.dtype == np.int64


def test_the_seed_alone_decides() -> None:
    labels = labels_of(40, 12)
    groups = [str(index) for index in range(52)]
    makers: list[Callable[[int], Split]] = [
        lambda seed: stratified_split(labels, 2, seed),
        lambda seed: grouped_split(labels, groups, 2, seed),
    ]
    for make in makers:
        assert parts_of(make(5)) == parts_of(make(5))
        assert parts_of(make(5)) != parts_of(make(6))


def test_a_known_split_stays_as_it_is() -> None:
    assert stratified_split(labels_of(8, 6), 2, 23).val.tolist() == [4, 13]
    assert grouped_split(labels_of(8, 6), list("aabbccddeeffgg"), 2, 23).val.tolist() == [4, 5]


def check_groups(split: Split, groups: Sequence[str]) -> None:
    """No group is in two parts."""
    train, val, test = ({groups[index] for index in part} for part in parts_of(split))
    assert train.isdisjoint(val)
    assert test.isdisjoint(train | val)


def test_groups_of_one_give_the_counts_of_a_plain_split() -> None:
    labels = labels_of(100, 17, 4)
    groups = [str(index) for index in range(121)]
    for seed in range(5):
        by_group = grouped_split(labels, groups, 3, seed)
        assert counts_of(labels, by_group, 3) == counts_of(labels, stratified_split(labels, 3, seed), 3)


def test_large_groups_stay_whole_and_shares_stay_near() -> None:
    random = np.random.RandomState(3)
    groups = [f"patient {number}" for number in random.randint(0, 60, 400)]
    labels = np.asarray(random.choice(4, 400, p=[0.6, 0.25, 0.1, 0.05]), dtype=np.int64)
    split = grouped_split(labels, groups, 4, 23)
    check_groups(split, groups)
    wanted = counts_of(labels, stratified_split(labels, 4, 23), 4)
    assert np.abs(np.array(counts_of(labels, split, 4)) - wanted).max() <= 5


def test_large_groups_reach_every_part_in_their_share() -> None:
    groups = [f"large {index // 4}" for index in range(160)] + [f"small {index}" for index in range(160)]
    labels = np.zeros(324, dtype=np.int64)
    labels[320:] = 1
    split = grouped_split(labels, groups + list("wxyz"), 2, 23)
    shares = [np.mean(part < 160) for part in (split.train, split.val, split.test)]
    assert np.ptp(shares) < 0.1


@pytest.mark.parametrize("sizes", [(4, 2, 1), (3, 3, 1), (20, 1, 1), (2, 1, 1), (9, 9, 9)])
def test_three_groups_are_enough_for_a_class_to_reach_every_part(sizes: tuple[int, int, int]) -> None:
    rare = [name for name, size in zip("abc", sizes, strict=True) for _ in range(size)]
    labels = np.array([1] * len(rare) + [0] * 30, dtype=np.int64)
    split = grouped_split(labels, rare + [f"g{index}" for index in range(30)], 2, 23)
    assert sorted(counts[1] for counts in counts_of(labels, split, 2)) == sorted(sizes)


def test_too_few_groups_name_the_class() -> None:
    labels = np.array([0] * 20 + [1] * 6, dtype=np.int64)
    groups = [f"g{index}" for index in range(20)] + list("aaabbb")
    with pytest.raises(DataError, match="split by groups: too few groups of DF to have one in the test part"):
        grouped_split(labels, groups, 2, 23, class_names=("NV", "DF"))


@pytest.mark.parametrize("grouped", [False, True])
def test_small_classes_are_all_named(grouped: bool) -> None:
    def split(labels: Labels, num_classes: int, seed: int, names: tuple[str, ...] | None = None) -> Split:
        if grouped:
            return grouped_split(labels, [str(i) for i in range(len(labels))], num_classes, seed, class_names=names)
        return stratified_split(labels, num_classes, seed, class_names=names)

    with pytest.raises(DataError) as caught:
        split(labels_of(9, 3, 4, 1), 4, 23, ("NV", "DF", "MEL", "VASC"))
    assert str(caught.value) == (
        "each class needs at least 4 images for training, validation and test, but DF has 3, VASC has 1; "
        "add images or leave the class out"
    )
    with pytest.raises(DataError, match="but class 2 has 0"):
        split(labels_of(9, 9), 3, 23)
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        split(labels_of(9), 1, 23)
    for seed in (-1, 2**32):
        with pytest.raises(DataError, match=f"the split's seed is {seed}, expected 0 to 4294967295"):
            split(labels_of(9, 9), 2, seed)


def test_class_counts_hold_every_class() -> None:
    labels = np.array([2, 0, 2, 1, 2], dtype=np.int64)
    assert class_counts(labels, np.array([0, 2, 3]), 4) == (0, 1, 2, 0)
    assert all(type(count) is int for count in class_counts(labels, np.array([0]), 3))


def test_a_splits_fingerprint_is_over_names_and_parts() -> None:
    labels = labels_of(10, 10)
    names = [f"{index}.png" for index in range(20)]
    split = stratified_split(labels, 2, 1)
    digest = split_fingerprint(split, names)
    assert len(digest) == 64
    assert split_fingerprint(stratified_split(labels, 2, 1), names) == digest
    others = {
        split_fingerprint(stratified_split(labels, 2, 2), names),
        split_fingerprint(Split(split.train, split.test, split.val), names),
        split_fingerprint(split, [f"x{name}" for name in names]),
    }
    assert len(others | {digest}) == 4
