from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lmf_testing.training import CALLS_PER_EPOCH, Data, Trial, assert_same, config_of, without_times
from torch import nn

import trainer.learner
from trainer.checkpoint import write_checkpoint
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import Recipe, TrialConfig
from trainer.data.splits import Split
from trainer.errors import CheckpointError
from trainer.results import EpochResult
from trainer.train import Abandoned, Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def dropping_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds the recipe's model with dropout and drop path, which draw from the global random state."""

    def build(recipe: Recipe, num_classes: int, weights_folder: Path | None) -> nn.Module:
        model = timm.create_model(recipe.model, num_classes=num_classes, drop_rate=0.3, drop_path_rate=0.3)
        assert isinstance(model, nn.Module)
        return model

    monkeypatch.setattr(trainer.learner, "build_model", build)


class TestResuming:
    @pytest.fixture(
        params=["batch norm", "dropout and drop path", "augmented", "baseline", "bf16", "fp16"],
    )
    def config(self, request: pytest.FixtureRequest) -> TrialConfig:
        if request.param == "dropout and drop path":
            request.getfixturevalue("dropping_model")
        return {
            "batch norm": config_of(model="test_resnet"),
            "dropout and drop path": config_of(),
            "augmented": config_of(augment="standard", normalize=True),
            "baseline": config_of(loss="wcce", alpha=None, beta=None),
            "bf16": config_of(precision="bf16"),
            # Small enough that the gradient scaler finds its scale within the first epoch and steps are taken.
            "fp16": config_of(precision="fp16", epochs=2, alpha=0.01, beta=0.01),
        }[request.param]

    def test_stopped_after_every_batch_and_resumed_it_ends_alike_bit_for_bit(
        self, config: TrialConfig, data: Data, tmp_path: Path
    ):
        undisturbed = Trial(config, data, tmp_path / "undisturbed")
        expected = undisturbed.go()
        assert undisturbed.calls == config.recipe.epochs * CALLS_PER_EPOCH + 1
        trial = Trial(config, data, tmp_path / "stopped")
        goes = 0
        result = None
        while result is None:
            torch.manual_seed(goes)
            np.random.seed(goes)
            try:
                result = trial.go(stop_at=trial.calls + 1, resume=goes > 0)
            except Interrupted:
                goes += 1
            if goes > undisturbed.calls:
                # The last stop falls on the test images, which leave no position behind: let it end.
                result = trial.go(resume=True)
        assert_same(result, expected)
        assert without_times(trial.epochs) == without_times(expected.history)

    def test_lost_after_any_epoch_and_resumed_it_ends_alike_bit_for_bit(
        self, config: TrialConfig, data: Data, tmp_path: Path
    ):
        expected = Trial(config, data, tmp_path / "undisturbed").go()
        trial = Trial(config, data, tmp_path / "lost")

        def lose(result: EpochResult) -> None:
            trial.epochs.append(result)
            raise ConnectionError

        trial.on_epoch = lose
        for epoch in range(1, config.recipe.epochs + 1):
            with pytest.raises(ConnectionError):
                trial.go(resume=epoch > 1)
            torch.manual_seed(epoch)
        result = trial.go(resume=True)
        assert_same(result, expected)
        assert result.resumed_from == config.recipe.epochs
        assert [len(history) for history in trial.started] == list(range(config.recipe.epochs + 1))
        assert without_times(trial.started[-1]) == without_times(expected.history)

    def test_lost_within_an_epoch_that_epoch_is_trained_again(self, config: TrialConfig, data: Data, tmp_path: Path):
        expected = Trial(config, data, tmp_path / "undisturbed").go()
        trial = Trial(config, data, tmp_path / "lost")
        with pytest.raises(Abandoned):
            trial.go(after=1, order="abandon")
        assert trial.calls > CALLS_PER_EPOCH
        result = trial.go(resume=True)
        assert_same(result, expected)
        assert result.resumed_from == 1

    def test_lost_before_an_epoch_is_on_disk_that_epoch_was_not_reported(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = config_of()
        expected = Trial(config, data, tmp_path / "undisturbed").go()
        trial = Trial(config, data, tmp_path / "lost")
        fsync, abandoned = os.fsync, threading.Event()
        monkeypatch.setattr(os, "fsync", lambda descriptor: (abandoned.wait(30), fsync(descriptor)))
        monkeypatch.setattr(
            CheckpointWriter,
            "close",
            lambda writer, close=CheckpointWriter.close: (writer._cancelled.set(), abandoned.set(), close(writer)),
        )
        with pytest.raises(Abandoned):
            trial.go(stop_at=CALLS_PER_EPOCH + 2, order="abandon")
        monkeypatch.undo()
        assert trial.epochs == []
        assert os.listdir(tmp_path / "lost") == []
        assert_same(trial.go(), expected)


class TestRefusedCheckpoints:
    @pytest.fixture
    def stopped(self, data: Data, tmp_path: Path) -> Trial:
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=1)
        return trial

    def refusal(self, trial: Trial) -> str:
        with pytest.raises(CheckpointError) as error:
            trial.go(resume=True)
        assert "\n" not in str(error.value)
        assert str(trial.path) in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"alpha": 0.7}, "alpha: 0.8 stored, 0.7 asked"),
            ({"seed": 1}, "seed: 23 stored, 1 asked"),
            ({"loss": "cce", "alpha": None, "beta": None}, "loss: lmf stored, cce asked"),
            ({"lr": 0.1}, "lr: 0.001 stored, 0.1 asked"),
            ({"epochs": 9}, "epochs: 3 stored, 9 asked"),
            ({"threads": 2}, "threads: 1 stored, 2 asked"),
        ],
    )
    def test_one_of_another_trial(self, stopped: Trial, change: dict[str, Any], named: str):
        stopped.config = config_of(**change)
        assert named in self.refusal(stopped)

    @pytest.mark.parametrize("what", ["labels", "split"])
    def test_one_of_other_data(self, stopped: Trial, what: str):
        data = stopped.data
        split = data.split
        stopped.data = {
            "labels": replace(data, labels=np.roll(data.labels, 1)),
            "split": replace(data, split=Split(split.train, split.test, split.val)),
        }[what]
        assert "other labels or another split" in self.refusal(stopped)

    def test_a_truncated_one(self, stopped: Trial):
        stopped.path.write_bytes(stopped.path.read_bytes()[:-100])
        assert "damaged" in self.refusal(stopped)

    def test_a_whole_one_of_something_else(self, stopped: Trial):
        write_checkpoint({"weights": torch.zeros(3)}, stopped.path)
        assert "no checkpoint of a trial" in self.refusal(stopped)
