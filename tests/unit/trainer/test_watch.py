from __future__ import annotations

import numpy as np
import pytest
import torch
from lmf_testing.waiting import no_waiting

from trainer.watch import LossLog, Watch, gradient_shares

CPU = torch.device("cpu")
NAMES = ("loss", "ldam", "focal")
CLASSES = ("NV", "MEL", "DF")


def log_of(rows: list[list[float]], steps: int = 4) -> LossLog:
    log = LossLog(steps, NAMES, CPU)
    for step, row in enumerate(rows):
        log.add(step, torch.tensor(row))
    return log


def predicted(*classes: int) -> np.ndarray:
    """Probabilities of one image for each of the classes that are to be predicted."""
    return np.eye(len(CLASSES))[list(classes)]


def warnings(watch: Watch, epoch: int, probabilities: np.ndarray, last_epoch: int = 60, **halves: float):
    return watch.warnings(epoch, last_epoch, probabilities, CLASSES, halves or None, {"ldam": 0.5, "focal": 2.0})


class TestLossLog:
    def test_what_was_added_is_read_up_to_a_step(self):
        log = log_of([[3, 2, 1], [6, 5, 4]])
        assert log.read(2).tolist() == [[3, 2, 1], [6, 5, 4]]
        assert log.read(1).tolist() == [[3, 2, 1]]

    def test_an_interrupted_epoch_goes_on_with_what_it_had(self):
        log = log_of([])
        log.restore(log_of([[3, 2, 1]]).values)
        log.add(1, torch.tensor([6.0, 5, 4]))
        assert log.read(2).tolist() == [[3, 2, 1], [6, 5, 4]]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_a_loss_that_is_no_number_is_seen(self, value: float):
        log = log_of([[3, 2, 1], [6, 5, value], [value, 1, 1]])
        assert not log.looks_wrong(1)
        assert log.looks_wrong(2)
        wrong = log.first_wrong(log.read(3))
        assert wrong == (1, f"the training loss's focal became {value}")
        assert log.first_wrong(log.read(1)) is None

    def test_the_loss_itself_is_named_first(self):
        log = log_of([[float("nan")] * 3])
        assert log.first_wrong(log.read(1)) == (0, "the training loss became nan")

    @pytest.mark.gpu
    def test_a_gpu_answers_without_being_waited_for(self, gpu: torch.device):
        log = LossLog(4, NAMES, gpu)
        bad, good = (torch.tensor([value, 1.0, 1.0], device=gpu) for value in (float("nan"), 1.0))
        log.add(0, good)
        torch.cuda.synchronize()
        with no_waiting():
            assert not log.looks_wrong(1)
            log.add(1, bad)
            log.looks_wrong(2)
        torch.cuda.synchronize()
        assert log.looks_wrong(2)


class TestRunaway:
    def test_an_epoch_that_ends_far_above_the_start_is_told(self):
        watch = Watch()
        assert watch.runaway(np.array([2.0, 1.0, 1.0, 1.0])) is None
        said = watch.runaway(np.array([1.0, 1.0, 1.0, 41.0]))
        assert said == "the training loss rose from 2 before the first update to 41"

    def test_a_rise_that_is_over_by_the_end_of_the_epoch_is_none(self):
        assert Watch().runaway(np.array([2.0, 5000.0, 3.0, 1.0])) is None

    def test_the_first_epoch_is_judged_by_its_own_first_step(self):
        assert Watch().runaway(np.array([1.0, 2.0, 3.0, 21.0])) is not None
        assert Watch().runaway(np.array([1.0, 2.0, 3.0, 19.0])) is None

    def test_it_survives_a_checkpoint(self):
        watch = Watch()
        watch.runaway(np.array([2.0, 1.0]))
        assert Watch(**watch.to_dict()).runaway(np.array([1.0, 41.0])) is not None


class TestNeverPredicted:
    def test_classes_that_no_epoch_predicted_are_named_once(self):
        watch = Watch()
        assert [warnings(watch, epoch, predicted(0, 0)) for epoch in (1, 2, 3, 4)] == [()] * 4
        assert warnings(watch, 5, predicted(0, 1)) == ("never predicted on validation by epoch 5: DF",)
        assert warnings(watch, 6, predicted(0)) == ()

    def test_a_class_that_was_predicted_in_an_earlier_epoch_counts(self):
        watch = Watch()
        warnings(watch, 1, predicted(2))
        watch = Watch(**watch.to_dict())
        assert warnings(watch, 5, predicted(0, 1)) == ()

    def test_a_short_training_is_judged_by_its_last_epoch(self):
        assert warnings(Watch(), 2, predicted(0), last_epoch=2) == (
            "never predicted on validation by epoch 2: MEL, DF",
        )


class TestDrownedHalf:
    def test_shares_are_of_the_weighted_gradients(self):
        halves = {"ldam": 9.0, "focal": 9.0, "ldam_gradient": 3.0, "focal_gradient": 1.0}
        assert gradient_shares(halves, {"ldam": 1.0, "focal": 1.0}) == {"ldam": 0.75, "focal": 0.25}
        assert gradient_shares(halves, {"ldam": 1.0, "focal": 3.0}) == {"ldam": 0.5, "focal": 0.5}
        assert gradient_shares(halves | {"ldam_gradient": 0.0, "focal_gradient": 0.0}, {"ldam": 1, "focal": 1}) == {}

    @pytest.mark.parametrize(
        ("ldam", "focal", "said"),
        [(1.0, 1.0, None), (0.5, 1.0, None), (400.0, 0.5, "focal"), (0.001, 1.0, "ldam")],
    )
    def test_a_half_below_a_hundredth_is_told_with_its_factor(self, ldam: float, focal: float, said: str | None):
        found = warnings(Watch(), 1, predicted(0, 1, 2), ldam=1, focal=1, ldam_gradient=ldam, focal_gradient=focal)
        if said is None:
            assert found == ()
        else:
            factor = {"ldam": "alpha", "focal": "beta"}[said]
            (line,) = found
            assert line.startswith(f"the {said} half gives less than 1% of the gradient")
            assert line.endswith(f"{factor} hardly matters")

    def test_only_the_first_epoch_counts(self):
        halves = {"ldam": 1.0, "focal": 1.0, "ldam_gradient": 1e6, "focal_gradient": 1.0}
        assert warnings(Watch(), 2, predicted(0, 1, 2), **halves) == ()
