"""A study in which all has happened that can happen to points, made without training."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from storage.file_names import describe_file
from storage.planning import DatasetFacts, retry_failed

LEAKAGE = (
    {
        "group": "lesion",
        "groups": 9,
        "leaking_groups": 1,
        "leaking_val_groups": 0,
        "test_images": 3,
        "leaking_test_images": 1,
    },
)
FACTS = DatasetFacts(
    "skin",
    "f" * 64,
    "s" * 64,
    ("nv", "mel"),
    {"train": (8, 4), "val": (2, 1), "test": (2, 1)},
    "rrrrrrrrrrrrvvvttt",
    LEAKAGE,
)
WEIGHTS = "weights-0"


def make_history(lab: Any) -> int:
    """Plan a study and let its points meet every fate; gives its id.

    p0 and p1 are complete with two epochs and a file each, p0's weights are kept; p2 was pruned, p3 failed and was
    retried with success, p4 failed, p5 was released, p6 lost its worker after an epoch, p7 waits.
    """
    study_id: int = lab.plan(8, facts=FACTS)
    for number, value in enumerate((0.25, 1 / 3)):
        complete(lab, study_id, value, None if number else WEIGHTS)
    pruned = begin(lab, study_id)
    lab.ledger.prune(pruned, "pruned after epoch 1")
    lab.mirror.tell(pruned.trial_id, TrialState.PRUNED, 0.05)
    lab.ledger.close(pruned)
    fail(lab, study_id)
    with lab.database.lock("plan"):
        assert retry_failed(lab.database, lab.mirror, study_id) == 1
    complete(lab, study_id, 0.125)
    fail(lab, study_id)
    released = begin(lab, study_id)
    lost = begin(lab, study_id)
    lab.ledger.record_epochs(lost, [lab.epoch(1)])
    lab.mirror.report(lost.trial_id, {1: 0.1})
    lab.ledger.release(released, "stopped as asked")
    lab.expire(lost)
    return study_id


def begin(lab: Any, study_id: int) -> Any:
    """Claim the next point and start its trial."""
    lease = lab.claim(study_id)
    lab.mirror.start(lease.trial_id)
    lab.ledger.begin_training(lease, 0)
    return lease


def complete(lab: Any, study_id: int, value: float, weights: str | None = None) -> Any:
    """Bring the next point to its end, with two epochs and a file."""
    lease = begin(lab, study_id)
    lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2, halves={"ldam": 0.1}, warnings=("overflow",))])
    lab.mirror.report(lease.trial_id, {1: 0.1, 2: value})
    files = [describe_file(f"file-{lease.trial_number}", "predictions.csv")]
    lab.ledger.finish(lease, value, {"val": {"macro_f1": value}, "test": {"macro_f1": 0.1}}, files, weights)
    lab.mirror.describe(lease.trial_id, {"val_macro_f1": value, "confusion": [[1, 2], [3, 4]]})
    lab.mirror.attach(lease.trial_id, files)
    lab.mirror.tell(lease.trial_id, TrialState.COMPLETE, value)
    lab.ledger.close(lease)
    return lease


def fail(lab: Any, study_id: int) -> Any:
    """Let the next point fail for good."""
    lease = begin(lab, study_id)
    assert lab.ledger.fail(lease, "NaN loss in epoch 1", 1)
    lab.mirror.describe(lease.trial_id, {"fail_reason": "NaN loss in epoch 1"})
    lab.mirror.tell(lease.trial_id, TrialState.FAIL)
    lab.ledger.close(lease)
    return lease
