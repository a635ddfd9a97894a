from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainer.learner
from trainer.config import Recipe, TrialConfig
from trainer.data.batches import augmentation_table
from trainer.errors import RecipeError
from trainer.learner import Learner, learning_rate
from trainer.losses import build_loss

CPU = torch.device("cpu")
COUNTS = (4, 2)
LABELS = np.array([0, 0, 0, 0, 1, 1])

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder(nn.Module):
    """Averages each colour and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
        self.head = nn.Linear(3, 2)
        self.seen: list[torch.Tensor] = []
        self.modes: list[bool] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(pixels)
        self.modes.append(self.training)
        logits: torch.Tensor = self.head(pixels.mean(dim=(2, 3)))
        return logits


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    monkeypatch.setattr(trainer.learner, "build_model", lambda recipe, num_classes, weights_folder: recorder)
    return recorder


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(LABELS), 4, 4, 3), dtype=np.uint8)


def learner_of(*, loss: str = "cce", alpha=None, beta=None, **recipe: Any) -> Learner:
    config = TrialConfig(Recipe(**({"batch_size": 2, "lr": 0.01} | recipe)), loss, alpha, beta, seed=23)
    return Learner(config, COUNTS, images(), LABELS, CPU)


def step(learner: Learner, indices: list[int], table: torch.Tensor | None = None) -> torch.Tensor:
    """Trains on one batch."""
    ((pixels, targets),) = learner.batches(np.array(indices), [slice(0, len(indices))], table)
    return learner.train_batch(pixels, targets)


class TestLearningRate:
    @pytest.mark.parametrize(
        ("epoch", "expected"), [(1, 1e-4), (30, 1e-4), (31, 1e-5), (60, 1e-5), (61, 1e-6), (100, 1e-7)]
    )
    def test_it_falls_tenfold_every_thirty_epochs_as_in_the_paper(self, epoch: int, expected: float):
        assert learning_rate(Recipe(), epoch) == pytest.approx(expected)

    def test_starting_an_epoch_sets_the_optimizer(self, model: Recorder):
        weight = model.head.weight
        learner = learner_of(lr=0.5, lr_step_epochs=1, lr_gamma=1e-3, weight_decay=0.0)
        for epoch, rate in ((2, 5e-4), (1, 0.5)):
            before = weight.detach().clone()
            assert learner.start_epoch(epoch) == pytest.approx(rate)
            step(learner, [0, 4])
            # Adam's first steps move each weight by about the learning rate.
            assert (weight - before).abs().max().item() == pytest.approx(rate, rel=0.6)


def test_a_precision_that_is_still_to_be_chosen_is_refused(model: Recorder):
    with pytest.raises(RecipeError, match="precision: auto is to be replaced"):
        learner_of(precision="auto")


class TestTrainBatch:
    def test_the_losses_are_named(self, model: Recorder):
        assert learner_of().loss_names == ("loss",)
        assert learner_of(loss="lmf", alpha=1.0, beta=1.0).loss_names == (
            "loss",
            "ldam",
            "focal",
            "ldam_gradient",
            "focal_gradient",
        )

    def test_lmf_returns_the_sum_its_halves_and_their_gradients_norms(self, model: Recorder):
        learner = learner_of(loss="lmf", alpha=0.5, beta=2.0)
        criterion = build_loss("lmf", COUNTS, alpha=0.5, beta=2.0)
        indices = [0, 4, 5]
        pixels = torch.from_numpy(images()[indices]).permute(0, 3, 1, 2) / 255
        logits, targets = model(pixels).detach().requires_grad_(), torch.from_numpy(LABELS[indices])
        losses = step(learner, indices)
        assert not losses.requires_grad
        halves = criterion.halves(logits, targets)
        norms = [torch.autograd.grad(half, logits)[0].square().sum().sqrt() for half in halves]
        torch.testing.assert_close(losses, torch.stack([criterion(logits, targets), *halves, *norms]).detach())

    @pytest.mark.parametrize("loss", ["lmf", "focal"])
    def test_the_step_is_that_of_the_losss_own_gradient(self, model: Recorder, loss: str):
        weights = {"alpha": 0.5, "beta": 2.0} if loss == "lmf" else {}
        learner = learner_of(loss=loss, **weights)
        criterion = build_loss(loss, COUNTS, **weights)
        indices = [0, 4, 5]
        pixels = torch.from_numpy(images()[indices]).permute(0, 3, 1, 2) / 255
        value = criterion(model(pixels), torch.from_numpy(LABELS[indices]))
        expected = torch.autograd.grad(value, model.head.weight)[0]
        step(learner, indices)
        assert model.head.weight.grad is not None
        torch.testing.assert_close(model.head.weight.grad, expected)

    def test_the_model_is_in_training_mode_and_sees_the_augmented_pixels(self, model: Recorder):
        learner = learner_of()
        learner.evaluate(np.array([0]), lambda: None)
        step(learner, [0, 4])
        step(learner, [0, 4], augmentation_table(len(LABELS), 23, 1))
        assert model.modes == [False, True, True]
        assert not torch.equal(model.seen[1], model.seen[2])

    def test_normalisation_uses_the_statistics_of_the_model(self, model: Recorder):
        step(learner_of(normalize=False), [0, 4])
        step(learner_of(normalize=True), [0, 4])
        plain, normalised = model.seen
        mean, deviation = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        torch.testing.assert_close(normalised, (plain - mean) / deviation)

    @pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
    def test_the_model_computes_in_lower_precision_and_the_loss_in_float32(
        self, model: Recorder, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
    ):
        made = []
        model.register_forward_hook(lambda module, given, logits: made.append(logits.dtype))
        learner = learner_of(precision=precision)
        assert step(learner, [0, 4]).dtype == torch.float32
        probabilities, _ = learner.evaluate(np.array([0, 4]), lambda: None)
        assert made == [dtype, dtype]
        assert probabilities.dtype == np.float32


class TestEvaluate:
    @pytest.mark.parametrize("count", [1, 4, 5, 6])
    def test_every_image_is_predicted_in_order(self, model: Recorder, count: int):
        learner = learner_of()
        indices = np.arange(count)[::-1].copy()
        asked = []
        probabilities, loss = learner.evaluate(indices, lambda: asked.append(1))
        assert len(asked) == len(model.seen) == (1 if count <= 4 else 2)
        pixels = torch.from_numpy(images()[indices]).permute(0, 3, 1, 2) / 255
        logits = model(pixels).detach()
        np.testing.assert_allclose(probabilities, logits.softmax(1).numpy(), rtol=1e-5)
        assert loss == pytest.approx(nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[indices])).item())

    def test_the_loss_is_over_all_images_at_once_where_batches_weigh_differently(self, model: Recorder):
        learner = learner_of(loss="wcce")
        probabilities, loss = learner.evaluate(np.arange(6), lambda: None)
        expected = build_loss("wcce", COUNTS)(torch.from_numpy(probabilities).log(), torch.from_numpy(LABELS))
        assert loss == pytest.approx(expected.item(), rel=1e-5)

    def test_it_uses_no_random_numbers_and_no_gradients(self, model: Recorder):
        learner = learner_of()
        before = torch.get_rng_state()
        learner.evaluate(np.arange(6), lambda: None)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.head.weight.grad is None


class TestState:
    def test_the_copied_state_does_not_follow_the_model(self, model: Recorder):
        learner = learner_of()
        state = learner.model_state()
        before = {name: value.clone() for name, value in state.items()}
        step(learner, [0, 4])
        assert all(torch.equal(state[name], before[name]) for name in before)
        assert not torch.equal(model.head.weight, before["head.weight"])
        learner.load_model_state(state)
        assert torch.equal(model.head.weight, before["head.weight"])

    def test_a_state_brings_back_the_optimizer(self, model: Recorder):
        learner = learner_of()
        step(learner, [0, 4])
        saved = {name: value for name, value in learner.state_dict().items()}
        moments = [{key: value.clone() for key, value in one.items()} for one in saved["optimizer"]["state"].values()]
        saved["optimizer"]["state"] = dict(enumerate(moments))
        saved["model"] = learner.model_state()
        expected = step(learner, [1, 5]), learner.model_state()
        learner.load_state_dict(saved)
        again = step(learner, [1, 5]), learner.model_state()
        assert torch.equal(again[0], expected[0])
        assert all(torch.equal(again[1][name], expected[1][name]) for name in expected[1])
