from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmf_testing.training import BATCH_SIZES, CALLS_PER_EPOCH, CLASSES, CPU, Data, Trial, assert_same, config_of
from torch import nn

import trainer.data.batches
import trainer.learner
import trainer.train
from trainer.checkpoint import read_checkpoint, write_checkpoint
from trainer.config import Recipe
from trainer.data.batches import batch_slices, epoch_order
from trainer.data.splits import class_counts
from trainer.errors import DataError
from trainer.learner import Learner
from trainer.losses import build_loss
from trainer.metrics import Scores, score
from trainer.models import build_model
from trainer.results import EpochResult, weights_digest
from trainer.train import Abandoned, Interrupted, train

pytestmark = pytest.mark.usefixtures("one_thread")


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
            lambda self, pixels, targets: sizes.append(len(pixels)) or train_batch(self, pixels, targets),
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

    def test_gradients_of_the_halves_are_means_over_the_images(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        steps = []
        train_batch = Learner.train_batch

        def noting(learner: Learner, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            losses = train_batch(learner, pixels, targets)
            steps.append((len(targets), *losses.tolist()))
            return losses

        monkeypatch.setattr(Learner, "train_batch", noting)
        (epoch,) = Trial(config_of(epochs=1), data, tmp_path).go().history
        sizes, _, ldam, focal, ldam_gradient, focal_gradient = zip(*steps, strict=True)
        expected = {"ldam": ldam, "focal": focal, "ldam_gradient": ldam_gradient, "focal_gradient": focal_gradient}
        assert epoch.halves == pytest.approx(
            {name: sum(n * v for n, v in zip(sizes, values, strict=True)) / 21 for name, values in expected.items()}
        )

    def test_a_class_that_is_never_predicted_is_warned_of_by_name(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def evaluate(self: Learner, indices: np.ndarray, after_batch: Callable[[], None]) -> tuple[np.ndarray, float]:
            return np.eye(CLASSES, dtype=np.float32)[np.zeros(len(indices), int)], 1.0

        monkeypatch.setattr(Learner, "evaluate", evaluate)
        reported: list[EpochResult] = []
        result = train(
            config_of(epochs=2),
            data.images,
            data.labels,
            CLASSES,
            data.split,
            CPU,
            checkpoint_path=tmp_path / "c",
            on_epoch=reported.append,
            control=lambda: None,
            class_names=("NV", "MEL", "DF"),
        )
        assert [epoch.warnings for epoch in reported] == [(), ("never predicted on validation by epoch 2: MEL, DF",)]
        assert result.warnings == reported[1].warnings

    def test_what_was_warned_of_and_seen_survives_an_interruption(self, data: Data, tmp_path: Path):
        config = config_of(alpha=1e4, beta=1e-3)
        expected = Trial(config, data, tmp_path / "undisturbed").go()
        assert expected.warnings[0].startswith("the focal half gives less than 1% of the gradient")
        trial = Trial(config, data, tmp_path / "stopped")
        with pytest.raises(Interrupted):
            trial.go(stop_at=CALLS_PER_EPOCH + 2)
        saved = read_checkpoint(trial.path)
        assert saved["watch"]["first_loss"] > 0
        assert saved["watch"]["predicted"]
        assert trial.go(resume=True).warnings == expected.warnings

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

        def build(recipe: Recipe, num_classes: int, weights_folder: Path | None) -> nn.Module:
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


class TestPrefetching:
    """Batches that a thread reads, as on a GPU whose memory is too small for all images."""

    @pytest.fixture(autouse=True)
    def prefetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trainer.data.batches, "_choose_source", lambda size, device: "prefetched")

    def test_a_trial_ends_like_one_without_the_thread(
        self, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = config_of(epochs=2, augment="standard", normalize=True)
        result = Trial(config, data, tmp_path / "prefetched").go()
        monkeypatch.undo()
        assert_same(Trial(config, data, tmp_path / "direct").go(), result)

    @pytest.mark.parametrize("stop_at", [2, CALLS_PER_EPOCH, CALLS_PER_EPOCH + 1])
    def test_stopped_in_an_epoch_or_an_evaluation_it_goes_on_alike(self, data: Data, tmp_path: Path, stop_at: int):
        config = config_of(epochs=2, augment="standard")
        expected = Trial(config, data, tmp_path / "undisturbed").go()
        trial = Trial(config, data, tmp_path / "stopped")
        with pytest.raises(Interrupted):
            trial.go(stop_at=stop_at)
        assert_same(trial.go(resume=True), expected)

    @pytest.mark.parametrize("stop_at", [2, CALLS_PER_EPOCH])
    @pytest.mark.parametrize("error", [Interrupted, Abandoned, ZeroDivisionError])
    def test_the_thread_ends_before_the_trial_does(
        self, data: Data, tmp_path: Path, stop_at: int, error: type[Exception]
    ):
        before = threading.active_count()
        during = []

        def control() -> Any:
            during.append(threading.active_count())
            if len(during) < stop_at:
                return None
            if error is ZeroDivisionError:
                raise ZeroDivisionError
            return "stop" if error is Interrupted else "abandon"

        after = []
        try:
            train(
                config_of(),
                data.images,
                data.labels,
                CLASSES,
                data.split,
                CPU,
                checkpoint_path=tmp_path / "trial.pt",
                on_epoch=lambda result: None,
                control=control,
            )
        except error:
            # The error still holds the frames of the training here.
            after.append(threading.active_count())
        assert during == [before + 1] * stop_at
        assert after == [before]


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_a_gpu_trains_like_the_cpu_and_resumes(self, data: Data, tmp_path: Path, gpu: torch.device, precision: str):
        expected = Trial(config_of(), data, tmp_path / "cpu").go().history[0].train_loss
        trial = Trial(config_of(precision=precision), data, tmp_path / "gpu", gpu)
        with pytest.raises(Interrupted):
            trial.go(stop_at=CALLS_PER_EPOCH + 2)
        assert (result := trial.go(resume=True)).resumed_from == 1
        within = 0.3 if precision == "fp16" else 0.05  # Its first steps are left out, until its scale fits.
        assert result.history[0].train_loss == pytest.approx(expected, rel=within)
        assert result.history[-1].train_loss < result.history[0].train_loss
        assert all(tensor.device == CPU for tensor in result.best_state.values())
