from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmf_testing.training import BATCH_SIZES, CLASSES, Data, Trial, config_of
from torch import nn

import trainer.learner
import trainer.train
from trainer.config import Recipe
from trainer.errors import CheckpointError, DeviceMemoryError, DivergedError
from trainer.learner import Learner
from trainer.models import build_model
from trainer.train import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")


class TestFailures:
    def fail_at(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[torch.Tensor], Any]) -> None:
        """Lets the training batch number `at` return what `act` makes of its losses."""
        calls = []
        train_batch = Learner.train_batch

        def failing(learner: Learner, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            losses = train_batch(learner, pixels, targets)
            return act(losses) if len(calls) == at else losses

        monkeypatch.setattr(Learner, "train_batch", failing)

    @pytest.mark.parametrize("value", ["nan", "inf"])
    def test_a_loss_that_is_no_number_names_epoch_and_step(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ):
        self.fail_at(monkeypatch, len(BATCH_SIZES) + 3, lambda losses: losses * float(value))
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(DivergedError, match=rf"became {value} in epoch 2, step 3 of 4; .*0\.001") as error:
            trial.go()
        assert "\n" not in str(error.value)
        assert [epoch.epoch for epoch in trial.epochs] == [1]

    def test_real_divergence_is_found(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def build(recipe: Recipe, num_classes: int, weights_folder: Path | None) -> nn.Module:
            model = build_model(recipe, num_classes)
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("inf"))
            return model

        monkeypatch.setattr(trainer.learner, "build_model", build)
        with pytest.raises(DivergedError, match=r"nan in epoch 1, step 1 of 4; .* or fp32 instead of bf16"):
            Trial(config_of(precision="bf16"), data, tmp_path).go()

    def test_a_long_epoch_is_not_trained_to_its_end(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(trainer.train, "_CHECK_STEPS", 2)
        self.fail_at(monkeypatch, 1, lambda losses: losses * float("nan"))
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(DivergedError, match="epoch 1, step 1 of 4"):
            trial.go()
        assert trial.calls == 1

    def test_a_loss_that_runs_away_ends_the_trial(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(lr=10.0, epochs=4), data, tmp_path)
        with pytest.raises(
            DivergedError, match=r"rose from .* before the first update to .* in epoch \d; .* smaller .* than 10"
        ) as error:
            trial.go()
        assert "\n" not in str(error.value)

    def test_before_a_trial_fails_its_last_epoch_is_reported(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Even where its checkpoint is still being written."""
        diverged = threading.Event()
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: (diverged.wait(30), fsync(descriptor)))

        def act(losses: torch.Tensor) -> torch.Tensor:
            diverged.set()
            return losses * float("nan")

        self.fail_at(monkeypatch, len(BATCH_SIZES) + 1, act)
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(DivergedError):
            trial.go()
        assert [epoch.epoch for epoch in trial.epochs] == [1]

    def test_nor_is_it_lost_where_memory_runs_out(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.fail_at(monkeypatch, len(BATCH_SIZES) + 1, lambda losses: (_ for _ in ()).throw(MemoryError()))
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(DeviceMemoryError):
            trial.go()
        assert [epoch.epoch for epoch in trial.epochs] == [1]

    def test_predictions_that_are_no_numbers(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(
            Learner,
            "evaluate",
            lambda self, indices, after: (np.full((len(indices), CLASSES), np.nan, np.float32), 1.0),
        )
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(DivergedError, match=r"predictions .* in epoch 1"):
            trial.go()
        assert trial.epochs == []

    @pytest.mark.parametrize(
        ("exhaust", "figure"),
        [
            (lambda losses: torch.empty(1 << 50), "4503599.63 GB more were asked for, "),
            (
                lambda losses: (_ for _ in ()).throw(
                    torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.50 GiB. GPU 0 has")
                ),
                "2.68 GB more were asked for, ",
            ),
            (lambda losses: (_ for _ in ()).throw(MemoryError()), ""),
        ],
        ids=["processor", "gpu", "python"],
    )
    def test_running_out_of_memory_gives_the_figures_and_says_what_to_try(
        self,
        data: Data,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        exhaust: Callable[[torch.Tensor], Any],
        figure: str,
    ):
        self.fail_at(monkeypatch, 2, exhaust)
        with pytest.raises(DeviceMemoryError) as error:
            Trial(config_of(), data, tmp_path).go()
        said = str(error.value)
        assert f"batches of 5 images of 32 x 32 ({figure}" in said
        assert re.search(r"[\d.]+ GB of [\d.]+ GB were free\): use a smaller batch, .* fewer --workers", said)
        assert "\n" not in said

    def test_other_errors_keep_their_type(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.fail_at(monkeypatch, 1, lambda losses: torch.zeros(2, 3) @ torch.zeros(2, 3))
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            Trial(config_of(), data, tmp_path).go()

    def test_a_full_disk_ends_the_trial_before_the_epoch_is_reported(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=1)
        before = trial.path.read_bytes()

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(CheckpointError, match="No space left on device"):
            trial.go(resume=True)
        assert trial.epochs == []
        assert trial.path.read_bytes() == before
