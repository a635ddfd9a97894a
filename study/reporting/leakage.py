"""What training shares with validation and test, in words: lesions, patients or other groups with images in both.

Everything here takes what `StudyRecord.leakage` has: an entry for each known kind of group, the most important first,
with `group` (the kind), `groups`, `leaking_groups` and `leaking_val_groups` (groups with images in training and in
test, or in training and in validation), `test_images`, and `leaking_test_images` (test images whose group is in
training too). No entry means that nothing is known of groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Leakage = Sequence[Mapping[str, Any]]

UNKNOWN = "Nothing is known of lesions or patients, so leaks between training and test could not be looked for."

_NOUNS = ("lesion", "patient")


def has_leaks(leakage: Leakage) -> bool:
    """Whether any group has images in training and also in test or validation."""
    return any(entry["leaking_groups"] or entry["leaking_val_groups"] for entry in leakage)


def headline(leakage: Leakage) -> Mapping[str, Any] | None:
    """The entry to name where there is room for one: the first that leaks into test, else the first; None without any.

    An entry that leaks into validation alone comes before one that does not leak.
    """
    by_test = (entry for entry in leakage if entry["leaking_groups"])
    by_val = (entry for entry in leakage if entry["leaking_val_groups"])
    return next(by_test, None) or next(by_val, None) or next(iter(leakage), None)


def leakage_sentence(leakage: Leakage) -> str:
    """How many groups of each kind leak and what to do about it, or that none does, or that nothing is known."""
    if not leakage:
        return UNKNOWN
    test = [entry for entry in leakage if entry["leaking_groups"]]
    val = [entry for entry in leakage if entry["leaking_val_groups"]]
    sentences = [_test_sentence(test) if test else _clean_sentence(leakage)]
    if val:
        shared, count = _groups(val, "leaking_val_groups")
        also = "also " if test else ""
        sentences.append(
            f"{shared} {_is(count)} {also}in training and in validation, which chooses α and β"
            f"{'' if test else _advice(val)}."
        )
    return " ".join(sentences)


def leakage_notice(leakage: Leakage) -> str | None:
    """The sentence to print with scores, None where nothing is known of groups and so nothing can be said."""
    return leakage_sentence(leakage) if leakage else None


def leakage_short(leakage: Leakage) -> str:
    """The same in a few words, for a table: `813 lesions leak`, `none`, `unknown`."""
    if not leakage:
        return "unknown"
    test = [entry for entry in leakage if entry["leaking_groups"]]
    val = [entry for entry in leakage if entry["leaking_val_groups"]]
    if not test and not val:
        return "none"
    shared, count = _groups(test, "leaking_groups") if test else _groups(val, "leaking_val_groups")
    return f"{shared} {'leaks' if count == 1 else 'leak'}{'' if test else ' into validation'}"


def leakage_line(leakage: Leakage) -> str:
    """The same in one short sentence, to stand beside scores; empty where nothing is known."""
    if not leakage:
        return ""
    if not has_leaks(leakage):
        return _clean_sentence(leakage)
    parts = []
    for figure, part in (("leaking_groups", "test"), ("leaking_val_groups", "validation")):
        entries = [entry for entry in leakage if entry[figure]]
        if entries:
            shared, count = _groups(entries, figure)
            parts.append((f"{shared} {'leaks' if count == 1 else 'leak'} from training into {part}", part))
    scores = " and ".join(part for _, part in parts)
    return f"{', '.join(text for text, _ in parts)}: {scores} scores are too good."


def _test_sentence(entries: Leakage) -> str:
    shared, count = _groups(entries, "leaking_groups")
    if len(entries) == 1:
        (entry,) = entries
        one = entry["leaking_test_images"] == 1
        if entry["group"] == "lesion":
            verb = "shows" if one else "show"
        else:
            verb = "is of" if one else "are of"
        images = f" ({_images(entry)} {verb} {'it' if count == 1 else 'one'})"
    else:
        shared = _joined(f"{_counted(entry, 'leaking_groups')} ({_images(entry)})" for entry in entries)
        images = ""
    return f"Test scores are too good: {shared} {_is(count)} in training and in test{images}{_advice(entries)}."


def _clean_sentence(leakage: Leakage) -> str:
    kinds = [_noun(entry["group"], 1) for entry in leakage]
    return f"No {' and no '.join(kinds)} is in both training and test."


def _advice(entries: Leakage) -> str:
    return "; " + ", ".join(f"--group {entry['group']} keeps {_noun(entry['group'], 2)} whole" for entry in entries)


def _groups(entries: Leakage, figure: str) -> tuple[str, int]:
    """The groups that leak, kind after kind, and how many there are in all."""
    return _joined(_counted(entry, figure) for entry in entries), sum(entry[figure] for entry in entries)


def _counted(entry: Mapping[str, Any], figure: str) -> str:
    return f"{entry[figure]:,} {_noun(entry['group'], entry[figure])}"


def _images(entry: Mapping[str, Any]) -> str:
    test_images = entry["test_images"]
    return f"{entry['leaking_test_images']:,} of {test_images:,} test {'image' if test_images == 1 else 'images'}"


def _noun(kind: str, count: int) -> str:
    """A lesion or a patient by that name; a column may be called anything, so its groups are groups of it."""
    noun, rest = (kind, "") if kind in _NOUNS else ("group", f" of {kind}")
    return f"{noun if count == 1 else noun + 's'}{rest}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _joined(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
