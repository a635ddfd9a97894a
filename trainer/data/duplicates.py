"""Images that are in a dataset more than once, byte for byte or as copies that look the same.

Two images look the same where at most `MAX_DISTANCE` of the 768 bits of their `perceptual_hash` differ. Measured on
2,941 real images (HAM10000, ISIC 2019, ODIR-5K, COVID-19 Radiography): different images differed in 85 bits or more
(fundus photographs; skin lesions in 125, X-rays in 140), while over 99 % of copies that were saved again as JPEG of
quality 50 to 90, resized, stretched, made grey, or made 15 % darker or 20 % richer in contrast, and 98 % of those made
15 % brighter, were within 60. Of copies whose edges were cut by 1 % on each side, 98 % of skin lesions and X-rays were,
but 11 % of fundus photographs; of those cut by 2 %, 11 %. Flipped and turned copies are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.findings import Finding
from trainer.data.inspection import Hashes, Inspection
from trainer.data.splits import Split

Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices]

MAX_DISTANCE = 60

_QUARTERS = 4
_QUARTER_BITS = 16
_CHUNK_PAIRS = 2**17
_ALL_PAIRS_SHARE = 4
_ROWS = 512
_PARTS = ("training", "validation", "test")


def duplicate_findings(inspection: Inspection, dataset: ImageDataset, split: Split | None) -> tuple[Finding, ...]:
    """A warning for each group of images that are the same, directly or through others of the group.

    Its kind is `label conflict` where their classes differ, else `duplicate` where they are the same byte for byte,
    else `near duplicate`.

    Args:
        inspection: of the dataset.
        dataset: the images' names and labels.
        split: of all its images; None where there is none, and nothing is said of parts.

    Returns:
        First the groups in both training and test, then others in several parts, then those in one; of each, label
        conflicts first.
    """
    content = np.arange(len(dataset), dtype=np.int64)
    usable = np.flatnonzero(inspection.usable)
    _join(content, *_to_first(usable, inspection.digests))
    looks = content.copy()
    shown = np.flatnonzero(inspection.usable & ~inspection.blank & (content == np.arange(len(dataset))))
    for first, second in similar_pairs(inspection.hashes[shown]):
        _join(looks, shown[first], shown[second])
    part_of = np.zeros(len(dataset), dtype=np.int64)
    if split:
        part_of[split.val], part_of[split.test] = 1, 2
    ranked: list[tuple[tuple[bool, bool, bool, int], Finding]] = []
    for members in _groups(looks):
        parts = sorted(set(part_of[members].tolist())) if split else []
        finding = _finding(dataset, members, parts, bool((content[members] == content[members[0]]).all()))
        rank = (not {0, 2} <= {*parts}, len(parts) < 2, finding.kind != "label conflict", int(members[0]))
        ranked.append((rank, finding))
    return tuple(finding for _, finding in sorted(ranked, key=lambda item: item[0]))


def similar_pairs(hashes: Hashes, max_distance: int = MAX_DISTANCE) -> Iterator[Pairs]:
    """Find the pairs of hashes that differ in few bits, without comparing all with all.

    None is missed. The bits are dealt to so many disjoint bands that a pair, to differ in two bits of each, would
    have to differ in more than `max_distance`. So there is a band in which it differs in one bit at most, and of the
    four quarters of that band it is equal in three: only hashes that are equal in three quarters of a band are
    compared. The most evenly distributed bits are dealt first, one to each band in turn. Where that still leaves a
    good part of all pairs, as among thousands of copies of one image, all are compared.

    Args:
        hashes: uint64, shape ``(num_hashes, num_words)``.
        max_distance: bits, below half of all.

    Yields:
        Pairs as two int64 arrays of indices; a pair may come several times. Equal hashes are paired with the first of
        them only, and that one alone with others.
    """
    everything = np.arange(len(hashes), dtype=np.int64)
    later, first = _to_first(everything, hashes)
    yield later, first
    different = np.setdiff1d(everything, later)
    for one, other in _search(np.ascontiguousarray(hashes[different]), max_distance):
        yield different[one], different[other]


def _search(hashes: Hashes, max_distance: int) -> Iterator[Pairs]:
    count = len(hashes)
    if count < 2:
        return
    allowed = count * (count - 1) // 2 // _ALL_PAIRS_SHARE
    for keys in _band_keys(hashes, max_distance):
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        followers = np.searchsorted(ordered, ordered, side="right") - np.arange(1, count + 1)
        allowed -= int(followers.sum())
        if allowed < 0:
            yield from _all_pairs(hashes, max_distance)
            return
        for first, second in _pairs_within(followers):
            one, other = order[first], order[second]
            near = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1) <= max_distance
            yield one[near], other[near]


def _band_keys(hashes: Hashes, max_distance: int) -> Iterator[NDArray[np.uint64]]:
    """For each band and each quarter of it: what every hash has in the other three quarters."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    bands = max_distance // 2 + 1
    order = np.argsort(np.abs(bits.mean(axis=0) - 0.5), kind="stable")
    for band in range(bands):
        quarters = [order[band::bands][quarter::_QUARTERS][:_QUARTER_BITS] for quarter in range(_QUARTERS)]
        codes = [(bits[:, quarter] @ 2.0 ** np.arange(len(quarter))).astype(np.uint64) for quarter in quarters]
        for left_out in range(_QUARTERS):
            key = np.zeros(len(hashes), dtype=np.uint64)
            for code in codes[:left_out] + codes[left_out + 1 :]:
                key = (key << np.uint64(_QUARTER_BITS)) | code
            yield key


def _pairs_within(followers: Indices) -> Iterator[Pairs]:
    """Each position with each of the so many that follow it, in bounded chunks."""
    ends = np.concatenate([[0], np.cumsum(followers)])
    start = 0
    while start < len(followers):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + _CHUNK_PAIRS, side="right")) - 1)
        counts = followers[start:stop]
        first = np.repeat(np.arange(start, stop), counts)
        nth = np.arange(len(first)) - np.repeat(ends[start:stop] - ends[start], counts)
        if len(first):
            yield first, first + 1 + nth
        start = stop


def _all_pairs(hashes: Hashes, max_distance: int) -> Iterator[Pairs]:
    signs = np.unpackbits(hashes.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    least = signs.shape[1] - 2 * max_distance
    for start in range(0, len(signs), _ROWS):
        one, other = np.nonzero(signs[start : start + _ROWS] @ signs[start:].T >= least)
        later = other > one
        yield one[later] + start, other[later] + start


def _to_first(indices: Indices, rows: NDArray[Any]) -> Pairs:
    """Of those rows that are equal, the later ones, and for each of them the first."""
    whole = np.ascontiguousarray(rows[indices]).view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    target = first[inverse]
    later = target != np.arange(len(indices))
    return indices[later], indices[target[later]]


def _join(group_of: Indices, first: Indices, second: Indices) -> None:
    """Unite the groups of some pairs; a group's number is its smallest index."""
    while True:
        one, other = group_of[first], group_of[second]
        apart = one != other
        if not apart.any():
            return
        one, other = one[apart], other[apart]
        np.minimum.at(group_of, np.maximum(one, other), np.minimum(one, other))
        while (group_of != (parents := group_of[group_of])).any():
            group_of[:] = parents


def _groups(group_of: Indices) -> list[Indices]:
    """The members of each group that has several."""
    order = np.argsort(group_of, kind="stable")
    starts = np.flatnonzero(np.diff(group_of[order])) + 1
    return [members for members in np.split(order, starts) if len(members) > 1]


def _finding(dataset: ImageDataset, members: Indices, parts: list[int], same_bytes: bool) -> Finding:
    names = [dataset.image_names[index] for index in members.tolist()]
    classes = [dataset.class_names[label] for label in dataset.labels[members].tolist()]
    kind = "duplicate" if same_bytes else "near duplicate"
    what = "are the same file" if same_bytes else "look the same"
    shown = names
    if len(set(classes)) > 1:
        kind = "label conflict"
        what += f" but are labelled {_listed(sorted(set(classes)))}"
        shown = [f"{name} ({label})" for name, label in zip(names, classes, strict=True)]
    where = _listed([_PARTS[part] for part in parts])
    if where:
        what += f", across {where}" if len(parts) > 1 else f", all in {where}"
    return Finding(kind, "warning", f"{len(names):,} images {what}: {first_few(shown)}", tuple(names))


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
