from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import trainer.learner
import trainer.train
from trainer.checkpoint import read_checkpoint, write_checkpoint
from trainer.config import Recipe, TrialConfig
from trainer.data.batches import batch_slices, epoch_order
from trainer.data.splits import Split, class_counts, stratified_split
from trainer.errors import CheckpointError, DataError, DeviceMemoryError, DivergedError
from trainer.learner import Learner
from trainer.losses import build_loss
from trainer.metrics import Scores, score
from trainer.models import build_model
from trainer.results import EpochResult, TrialResult, weights_digest
from trainer.train import Abandoned, Interrupted, set_up_process, train

CPU = torch.device("cpu")
CLASSES = 3
BATCH_SIZES = [5, 5, 5, 6]
CALLS_PER_EPOCH = len(BATCH_SIZES) + 1

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Data:
    images: np.ndarray
    labels: np.ndarray
    split: Split


@pytest.fixture(scope="module")
def data() -> Data:
    """Images of three classes that differ in their colour: 21 to train on, 4 to validate and 4 to test."""
    labels = np.repeat(np.arange(CLASSES), (13, 9, 7)).astype(np.int64)
    random = np.random.default_rng(5)
    images = random.integers(0, 160, (len(labels), 32, 32, 3))
    images[np.arange(len(labels)), :, :, labels] += 60
    split = stratified_split(labels, CLASSES, seed=23)
    assert len(split.train) == sum(BATCH_SIZES)
    return Data(images.astype(np.uint8), labels, split)


def config_of(*, loss: str = "lmf", alpha=0.8, beta=1.5, seed: int = 23, **recipe: Any) -> TrialConfig:
    figures = {"model": "test_efficientnet", "weights": "none", "image_size": 32, "epochs": 3, "batch_size": 5}
    figures |= {"lr": 1e-3, "lr_step_epochs": 2}
    return TrialConfig(Recipe(**(figures | recipe)), loss, alpha, beta, seed)


class Trial:
    """Trains in a folder and records what is reported; each go ends a trial or is interrupted."""

    def __init__(self, config: TrialConfig, data: Data, folder: Path, device: torch.device = CPU) -> None:
        self.config = config
        self.data = data
        self.path = folder / "trial.pt"
        self.device = device
        self.calls = 0
        self.started: list[tuple[EpochResult, ...]] = []
        self.epochs: list[EpochResult] = []
        self.on_epoch: Callable[[EpochResult], None] = self.epochs.append

    def go(self, *, stop_at: int | None = None, order: str = "stop", resume: bool = False) -> TrialResult:
        def control() -> Any:
            self.calls += 1
            return order if self.calls == stop_at else None

        return train(
            self.config,
            self.data.images,
            self.data.labels,
            CLASSES,
            self.data.split,
            self.device,
            checkpoint_path=self.path,
            resume_path=self.path if resume else None,
            on_start=self.started.append,
            on_epoch=self.on_epoch,
            control=control,
        )


def without_times(history: tuple[EpochResult, ...] | list[EpochResult]) -> list[EpochResult]:
    return [replace(result, seconds=0.0, images_per_second=0.0) for result in history]


def assert_same(result: TrialResult, expected: TrialResult) -> None:
    assert result.weights_sha256 == expected.weights_sha256
    assert result.best_epoch == expected.best_epoch
    assert without_times(result.history) == without_times(expected.history)
    assert result.val == expected.val
    assert result.test == expected.test
    np.testing.assert_array_equal(result.val_probabilities, expected.val_probabilities)
    np.testing.assert_array_equal(result.test_probabilities, expected.test_probabilities)


def scores_of(**values: float | None) -> Scores:
    zeros = dict.fromkeys(("accuracy", "precision", "recall", "macro_f1", "balanced_accuracy", "macro_auc"), 0.0)
    return Scores(**(zeros | values), f1_per_class=(0.0,) * CLASSES, confusion=((0,) * CLASSES,) * CLASSES)  # type: ignore[arg-type]


@pytest.fixture
def give_scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets validation of each epoch in turn score what a test says."""

    def give(*of_epochs: dict[str, float | None]) -> None:
        waiting = iter(of_epochs)
        monkeypatch.setattr(trainer.train, "score", lambda *arguments: scores_of(**next(waiting, {})))

    return give


@pytest.fixture
def dropping_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds the recipe's model with dropout and drop path, which draw from the global random state."""

    def build(recipe: Recipe, num_classes: int) -> nn.Module:
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
            trial.go(stop_at=CALLS_PER_EPOCH + 2, order="abandon")
        result = trial.go(resume=True)
        assert_same(result, expected)
        assert result.resumed_from == 1


class TestControl:
    def test_abandoning_writes_nothing(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(Abandoned):
            trial.go(stop_at=2, order="abandon")
        assert trial.calls == 2
        assert os.listdir(tmp_path) == []

    def test_stopping_writes_the_position_within_the_epoch(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=2)
        assert trial.calls == 2
        saved = read_checkpoint(trial.path)
        assert (len(saved["history"]), saved["step"]) == (0, 2)
        assert trial.epochs == []

    def test_a_stop_during_validation_is_obeyed(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=CALLS_PER_EPOCH)
        assert read_checkpoint(trial.path)["step"] == len(BATCH_SIZES)
        assert trial.epochs == []

    def test_starting_anew_does_not_look_at_an_older_checkpoint(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(epochs=1), data, tmp_path)
        trial.path.write_bytes(b"another attempt's")
        assert trial.go().resumed_from == 0
        assert trial.started == [()]

    def test_the_checkpoint_is_written_before_an_epoch_is_reported(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(epochs=2), data, tmp_path)
        written = []
        trial.on_epoch = lambda result: written.append((result.epoch, len(read_checkpoint(trial.path)["history"])))
        trial.go()
        assert written == [(1, 1), (2, 2)]

    def test_resuming_reads_one_file_and_writes_another(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(epochs=2), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=CALLS_PER_EPOCH + 1)
        old = trial.path.rename(tmp_path / "old.pt")
        before = old.read_bytes()
        result = train(
            trial.config,
            data.images,
            data.labels,
            CLASSES,
            data.split,
            CPU,
            checkpoint_path=trial.path,
            resume_path=old,
            on_epoch=lambda result: None,
            control=lambda: None,
        )
        assert result.resumed_from == 1
        assert old.read_bytes() == before
        assert len(read_checkpoint(trial.path)["history"]) == 2


class TestRecipe:
    def test_training_does_what_a_plain_loop_does(self, data: Data, tmp_path: Path):
        config = config_of(lr=2e-3, lr_step_epochs=1, lr_gamma=0.5, weight_decay=0.1)
        result = Trial(config, data, tmp_path).go()

        torch.manual_seed(config.seed)
        model = build_model(config.recipe, CLASSES)
        counts = class_counts(data.labels, data.split.train, CLASSES)
        loss_of = build_loss("lmf", counts, alpha=config.alpha, beta=config.beta)
        pixels = torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255
        targets = torch.from_numpy(data.labels)
        for epoch in range(1, 4):
            optimizer_lr = 2e-3 * 0.5 ** (epoch - 1)
            if epoch == 1:
                optimizer = torch.optim.Adam(model.parameters(), lr=optimizer_lr, weight_decay=0.1)
            optimizer.param_groups[0]["lr"] = optimizer_lr
            model.train()
            total = 0.0
            order = torch.from_numpy(epoch_order(data.split.train, config.seed, epoch))
            for part in batch_slices(len(order), 5):
                loss = loss_of(model(pixels[order[part]]), targets[order[part]])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(order[part])
            model.eval()
            with torch.no_grad():
                val_loss = float(loss_of(model(pixels[data.split.val]), targets[data.split.val]))
            reported = result.history[epoch - 1]
            assert reported.lr == pytest.approx(optimizer_lr)
            assert reported.train_loss == pytest.approx(total / len(order), rel=5e-3)
            assert reported.val_loss == pytest.approx(val_loss, rel=5e-3)

    def test_it_learns(self, data: Data, tmp_path: Path):
        config = config_of(model="test_resnet", epochs=8, lr=3e-3, lr_step_epochs=8)
        result = Trial(config, data, tmp_path).go()
        assert result.val.macro_f1 == 1
        assert result.history[-1].train_loss < 0.5 * result.history[0].train_loss

    def test_the_learning_rate_falls_after_its_epochs(self, data: Data, tmp_path: Path):
        result = Trial(config_of(epochs=5, lr=1e-3, lr_step_epochs=2, lr_gamma=0.1), data, tmp_path).go()
        assert [epoch.lr for epoch in result.history] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])

    def test_no_batch_holds_a_single_image(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        sizes = []
        train_batch = Learner.train_batch
        monkeypatch.setattr(
            Learner,
            "train_batch",
            lambda self, indices, table: sizes.append(len(indices)) or train_batch(self, indices, table),
        )
        Trial(config_of(model="test_resnet", epochs=1), data, tmp_path).go()
        assert sizes == BATCH_SIZES

    @pytest.mark.parametrize(
        "change",
        [
            {"seed": 24},
            {"alpha": 0.9},
            {"beta": 1.6},
            {"lr": 2e-3},
            {"weight_decay": 0.0},
            {"batch_size": 7},
            {"augment": "standard"},
            {"normalize": True},
            {"precision": "bf16"},
            {"max_margin": 0.4},
            {"gamma": 2.0},
            {"scale": 20.0},
            {"loss": "cce", "alpha": None, "beta": None},
        ],
        ids=str,
    )
    def test_every_figure_has_an_effect(self, data: Data, tmp_path: Path, change: dict[str, Any]):
        plain = Trial(config_of(epochs=1), data, tmp_path / "plain").go()
        changed = Trial(config_of(epochs=1, **change), data, tmp_path / "changed").go()
        assert changed.weights_sha256 != plain.weights_sha256

    def test_the_seed_decides_whatever_the_random_state_was_before(self, data: Data, tmp_path: Path):
        first = Trial(config_of(epochs=1), data, tmp_path / "first").go()
        torch.rand(7)
        np.random.rand(7)
        assert_same(Trial(config_of(epochs=1), data, tmp_path / "second").go(), first)

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_lower_precision_stays_near_full_precision(self, data: Data, tmp_path: Path, precision: str):
        one_batch = {"epochs": 1, "batch_size": 21}
        full = Trial(config_of(**one_batch), data, tmp_path / "full").go().history[0]
        lower = Trial(config_of(**one_batch, precision=precision), data, tmp_path / "lower").go().history[0]
        assert lower.train_loss != full.train_loss
        assert lower.train_loss == pytest.approx(full.train_loss, rel=0.02)

    def test_a_read_only_memory_map_is_trained_on(self, data: Data, tmp_path: Path):
        expected = Trial(config_of(epochs=1), data, tmp_path / "array").go()
        np.save(tmp_path / "images.npy", data.images)
        mapped = replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
        assert_same(Trial(config_of(epochs=1), mapped, tmp_path / "map").go(), expected)

    def test_the_process_computes_with_the_threads_of_the_recipe(self):
        set_up_process(Recipe(threads=2))
        assert torch.get_num_threads() == 2


class TestResult:
    def test_an_epoch_reports_both_losses_and_the_halves(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(epochs=2), data, tmp_path)
        result = trial.go()
        assert [epoch.epoch for epoch in result.history] == [1, 2]
        assert trial.epochs == list(result.history)
        for epoch in result.history:
            assert epoch.halves is not None
            weighted = 0.8 * epoch.halves["ldam"] + 1.5 * epoch.halves["focal"]
            assert epoch.train_loss == pytest.approx(weighted, rel=1e-5)
            assert epoch.images_per_second > 0
            assert epoch.seconds > 0
        json.dumps([epoch.to_dict() for epoch in result.history], allow_nan=False)

    def test_the_time_before_an_interruption_counts(self, data: Data, tmp_path: Path):
        trial = Trial(config_of(epochs=2), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=2)
        saved = read_checkpoint(trial.path)
        assert saved["train_seconds"] > 0
        write_checkpoint(saved | {"train_seconds": 2100.0}, trial.path)
        first, second = trial.go(resume=True).history
        assert 2100 < first.seconds < 2160
        assert first.images_per_second == pytest.approx(21 / 2100, rel=0.03)
        assert second.seconds < 60

    def test_a_loss_without_halves_reports_none(self, data: Data, tmp_path: Path):
        result = Trial(config_of(loss="focal", alpha=None, beta=None, epochs=1), data, tmp_path).go()
        assert result.history[0].halves is None

    def test_the_best_state_gives_the_reported_scores(self, data: Data, tmp_path: Path):
        config = config_of(normalize=True)
        result = Trial(config, data, tmp_path).go()
        model = build_model(config.recipe, CLASSES)
        model.load_state_dict(result.best_state)
        model.eval()
        mean, deviation = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        pixels = (torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        for indices, probabilities, scores in (
            (data.split.val, result.val_probabilities, result.val),
            (data.split.test, result.test_probabilities, result.test),
        ):
            with torch.no_grad():
                expected = model(pixels[indices]).softmax(1).numpy()
            assert probabilities.dtype == np.float32
            np.testing.assert_allclose(probabilities, expected, atol=1e-5)
            assert scores == score(probabilities, data.labels[indices])
        assert result.weights_sha256 == weights_digest(result.best_state)
        best = result.history[result.best_epoch - 1]
        assert {name: getattr(result.val, name) for name in best.val} == best.val
        assert all(tensor.device == CPU for tensor in result.best_state.values())

    @pytest.mark.parametrize(("selector", "best_epoch"), [("macro_f1", 2), ("balanced_accuracy", 4), ("macro_auc", 1)])
    def test_the_best_epoch_by_the_chosen_score_is_kept_the_earliest_on_a_tie(
        self, data: Data, tmp_path: Path, give_scores: Callable[..., None], selector: str, best_epoch: int
    ):
        give_scores(
            {"macro_f1": 0.1, "balanced_accuracy": 0.3, "macro_auc": 0.9},
            {"macro_f1": 0.5, "balanced_accuracy": 0.2, "macro_auc": 0.9},
            {"macro_f1": 0.5, "balanced_accuracy": 0.1, "macro_auc": 0.8},
            {"macro_f1": 0.4, "balanced_accuracy": 0.4, "macro_auc": 0.7},
        )
        result = Trial(config_of(epochs=4, select=selector), data, tmp_path / "four").go()
        assert result.best_epoch == best_epoch
        give_scores(*[{"macro_f1": epoch, "balanced_accuracy": epoch, "macro_auc": epoch} for epoch in range(4)])
        shorter = Trial(config_of(epochs=best_epoch, select=selector), data, tmp_path / "short").go()
        assert shorter.best_epoch == best_epoch
        assert result.weights_sha256 == shorter.weights_sha256
        np.testing.assert_array_equal(result.val_probabilities, shorter.val_probabilities)

    def test_a_first_epoch_that_scores_0_is_kept_where_none_is_better(
        self, data: Data, tmp_path: Path, give_scores: Callable[..., None]
    ):
        give_scores({}, {})
        assert Trial(config_of(epochs=2), data, tmp_path).go().best_epoch == 1

    def test_a_score_that_does_not_exist_cannot_choose(
        self, data: Data, tmp_path: Path, give_scores: Callable[..., None]
    ):
        give_scores({"macro_auc": None})
        with pytest.raises(DataError, match="macro_auc"):
            Trial(config_of(select="macro_auc"), data, tmp_path).go()

    def test_a_finished_trial_is_not_trained_again(self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        trial = Trial(config_of(), data, tmp_path)
        expected = trial.go()
        monkeypatch.delattr(Learner, "train_batch")
        result = trial.go(resume=True)
        assert_same(result, expected)
        assert result.resumed_from == 3
        assert result.history == expected.history
        assert len(trial.epochs) == 3

    def test_pretrained_weights_are_not_needed_to_resume(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        built = []

        def build(recipe: Recipe, num_classes: int) -> nn.Module:
            built.append(recipe)
            return build_model(replace(recipe, weights="none", weights_sha256=None), num_classes)

        monkeypatch.setattr(trainer.learner, "build_model", build)
        trial = Trial(config_of(weights="weights.safetensors", weights_sha256="a" * 64), data, tmp_path)
        with pytest.raises(Interrupted):
            trial.go(stop_at=1)
        with pytest.raises(Interrupted):
            trial.go(stop_at=2, resume=True)
        assert [(recipe.weights, recipe.weights_sha256) for recipe in built] == [
            ("weights.safetensors", "a" * 64),
            ("none", None),
        ]


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


class TestFailures:
    def fail_at(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[torch.Tensor], Any]) -> None:
        """Lets the training batch number `at` return what `act` makes of its losses."""
        calls = []
        train_batch = Learner.train_batch

        def failing(learner: Learner, indices: np.ndarray, table: torch.Tensor | None) -> torch.Tensor:
            calls.append(1)
            losses = train_batch(learner, indices, table)
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
        def build(recipe: Recipe, num_classes: int) -> nn.Module:
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
        "exhaust",
        [
            lambda losses: torch.empty(1 << 60),
            lambda losses: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")),
            lambda losses: (_ for _ in ()).throw(MemoryError()),
        ],
        ids=["processor", "gpu", "python"],
    )
    def test_running_out_of_memory_says_what_to_try(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaust: Callable[[torch.Tensor], Any]
    ):
        self.fail_at(monkeypatch, 2, exhaust)
        with pytest.raises(DeviceMemoryError) as error:
            Trial(config_of(), data, tmp_path).go()
        assert "batches of 5 images of 32 x 32: use a smaller batch" in str(error.value)
        assert "\n" not in str(error.value)

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


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_a_gpu_trains_like_the_cpu_and_resumes(self, data: Data, tmp_path: Path, gpu: torch.device, precision: str):
        expected = Trial(config_of(), data, tmp_path / "cpu").go()
        trial = Trial(config_of(precision=precision), data, tmp_path / "gpu", gpu)
        with pytest.raises(Interrupted):
            trial.go(stop_at=CALLS_PER_EPOCH + 2)
        result = trial.go(resume=True)
        assert result.resumed_from == 1
        assert result.history[0].train_loss == pytest.approx(expected.history[0].train_loss, rel=0.05)
        assert result.history[-1].train_loss < result.history[0].train_loss
        assert all(tensor.device == CPU for tensor in result.best_state.values())
