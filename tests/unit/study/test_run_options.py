from __future__ import annotations

from typing import Any

import pytest

from study.run_options import RunOptions


def test_defaults_are_sound_and_hide_the_storage() -> None:
    options = RunOptions(storage="postgresql://u:secret@h/d")
    assert options.problems() == []
    assert "secret" not in repr(options)
    assert (options.keep_weights, options.max_attempts, options.lease_seconds) == (1, 2, 60.0)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"workers": 0}, "workers: 0 is less than 1"),
        ({"per_gpu": 0}, "per_gpu: 0 is less than 1"),
        ({"per_gpu": 2, "workers": 2}, "per_gpu: cannot go with --workers; give one of them"),
        ({"per_gpu": "auto", "workers": 2}, "per_gpu: cannot go with --workers; give one of them"),
        ({"device": "gpu"}, "device: 'gpu' is no device; expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "device: 'cuda:x' is no device; expected auto, cpu, cuda or cuda:N"),
        ({"keep_weights": 0}, "keep_weights: 0 is less than 1; none keeps no weights"),
        ({"max_attempts": 0}, "max_attempts: 0 is less than 1"),
        ({"lease_seconds": 0.5}, "lease_seconds: 0.5 is outside [1, 86400]"),
        ({"lease_seconds": 1e6}, "lease_seconds: 1e+06 is outside [1, 86400]"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], problem: str) -> None:
    assert RunOptions(**values).problems() == [problem]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
@pytest.mark.parametrize("keep_weights", ["all", "none", 5])
def test_all_that_help_names_is_allowed(device: str, keep_weights: Any) -> None:
    assert RunOptions(workers=1, device=device, keep_weights=keep_weights, lease_seconds=1).problems() == []


@pytest.mark.parametrize(("keep_weights", "count"), [("all", None), ("none", 0), (3, 3)])
def test_kept_count_is_a_number_but_for_all(keep_weights: Any, count: int | None) -> None:
    assert RunOptions(keep_weights=keep_weights).kept_count == count


def test_all_problems_are_found_together() -> None:
    assert len(RunOptions(workers=-1, device="", keep_weights=-1, max_attempts=0, lease_seconds=0).problems()) == 5
