from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lmf_testing.training import BATCH_SIZES, CLASSES, Data, Trial, assert_same, config_of
from torch import nn

import trainer.learner
from trainer.train import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")


class Small(nn.Module):
    """A network that compiles within seconds: of each kind of layer that matters, one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.conv(pixels)).relu().mean(dim=(2, 3)))
        return logits


class TestCompiling:
    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++) on a processor")
    def test_a_compiled_model_trains_like_another_and_resumes_bit_for_bit(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(trainer.learner, "build_model", lambda recipe, num_classes, weights_folder: Small())
        plain = Trial(config_of(epochs=2), data, tmp_path / "plain").go()
        expected = Trial(config_of(epochs=2, compile=True), data, tmp_path / "compiled").go()
        assert expected.history[0].train_loss == pytest.approx(plain.history[0].train_loss, rel=1e-3)
        assert list(expected.best_state) == list(plain.best_state)
        torch._dynamo.reset()
        trial = Trial(config_of(epochs=2, compile=True), data, tmp_path / "stopped")
        with pytest.raises(Interrupted):
            trial.go(stop_at=3)
        # Only the larger last batch of the epoch is left: sizes come in another order than before.
        torch._dynamo.reset()
        assert_same(trial.go(resume=True), expected)

    def test_only_a_recipe_that_says_so_is_compiled(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        asked: list[dict[str, Any]] = []
        ran: list[int] = []

        def compile_model(model: nn.Module, **options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
            asked.append(options)
            return lambda pixels: ran.append(len(pixels)) or model(pixels)

        monkeypatch.setattr(torch, "compile", compile_model)
        Trial(config_of(epochs=1), data, tmp_path / "plain").go()
        assert asked == []
        Trial(config_of(epochs=1, compile=True), data, tmp_path / "compiled").go()
        assert asked == [{"dynamic": False}]
        assert ran == [*BATCH_SIZES, len(data.split.val), len(data.split.test)]
