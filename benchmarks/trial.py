"""What a whole trial costs: ours, beside a plain loop in the style that papers publish, and beside the limit.

All three train the same model on the same images with the same loss for the same epochs, in turns within one run:

- the plain loop: torchvision's ImageFolder behind a DataLoader of one worker, Adam, `.item()` at every step, scores on
  concatenated predictions, the best state copied; float32; as a program of its own, in which nothing of ours is set;
- ours: `trainer.train.train` from the prepared cache, all of it: building the model, checkpoints, scores, the test;
- the limit: the bare forward, backward and update (channels last, fused Adam) on batches that lie in memory, and bare
  evaluation; nothing else.

Ours and the limit are run in float32 and in the precision that `auto` chooses here.
"""

from __future__ import annotations

import copy
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]
from torchvision.transforms import Compose, Resize, ToTensor  # type: ignore[import-untyped]

from benchmarks.batches import make_photos
from trainer.config import AUTO, Recipe, TrialConfig
from trainer.data.batches import Batches, batch_slices
from trainer.data.cache import Prepared, prepare
from trainer.data.catalog import open_dataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.splits import Split, class_counts, stratified_split
from trainer.learner import EVALUATION_BATCHES
from trainer.losses import build_loss
from trainer.models import build_model
from trainer.probe import choose_precision, measure
from trainer.process import set_up_process
from trainer.train import train

SIZE = 128
EPOCHS = 2
ROUNDS = 3
ALPHA, BETA = 0.8, 1.5
LIMIT_OVER_BARE = 1.05


@dataclass(frozen=True)
class Model:
    """A model, and how much faster than the plain loop a trial of it must be, in float32 and as `auto` chose."""

    name: str
    faster_in_float32: float
    faster_in_auto: float


MODELS = (Model("resnet18", 1.25, 2.2), Model("tf_efficientnet_lite0", 1.95, 1.95))


@dataclass(frozen=True)
class Material:
    """The images in each form that one of the three reads, and their split."""

    prepared: Prepared
    split: Split
    device: torch.device
    folder: Path

    @property
    def counts(self) -> tuple[int, ...]:
        """Training images per class."""
        return class_counts(self.prepared.labels, self.split.train, len(self.prepared.class_names))


def run() -> bool:
    """Print the times and their ratios; whether all of them are in bounds."""
    threads = torch.get_num_threads()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            what = _make_files(folder / "images")
            dataset = open_dataset(f"folder:{folder / 'images'}", None)
            prepared = prepare(dataset, SIZE, folder / "cache", fingerprint=content_fingerprint(dataset))
            split = stratified_split(prepared.labels, len(prepared.class_names), seed=23)
            material = Material(prepared, split, device, folder)
            print(
                f"trial: {len(prepared.labels)} {what} at {SIZE} x {SIZE}, {len(split.train)} to train on, "
                f"{EPOCHS} epochs, {device} with {threads} threads",
                flush=True,
            )
            return all([_compare(model, material, threads) for model in MODELS])
    finally:
        torch.set_num_threads(threads)


def _compare(model: Model, material: Material, threads: int) -> bool:
    recipe = replace(_recipe(model.name), precision=AUTO, threads=threads)
    costs = measure(recipe, len(material.prepared.class_names), material.device)
    chosen = choose_precision(costs)
    set_up_process(recipe, material.device)
    float32, auto = replace(recipe, precision="fp32"), replace(recipe, precision=chosen)
    runs: dict[str, Callable[[], float]] = {
        "plain loop": lambda: _plain_program(model.name, material),
        "ours fp32": lambda: our_trial(float32, material),
        "limit fp32": lambda: bare_trial(float32, material),
    }
    if chosen != "fp32":
        runs[f"ours {chosen}"] = lambda: our_trial(auto, material)
        runs[f"limit {chosen}"] = lambda: bare_trial(auto, material)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, trial in runs.items():
            times[name].append(trial())
    told = ", ".join(f"{name} {statistics.median(values):.1f} s" for name, values in times.items())
    print(f"trial: {model.name}: auto chose {chosen}; median of {ROUNDS}: {told}", flush=True)
    good = True
    bounds = {"fp32": model.faster_in_float32}
    if chosen != "fp32":
        bounds[chosen] = model.faster_in_auto
    for precision, faster in bounds.items():
        over = _ratio(times[f"ours {precision}"], times[f"limit {precision}"])
        gain = _ratio(times["plain loop"], times[f"ours {precision}"])
        kept = over <= LIMIT_OVER_BARE and gain >= faster
        good &= kept
        print(
            f"trial: {model.name}, {precision}: {over:.3f} times the limit (at most {LIMIT_OVER_BARE} allowed), "
            f"{gain:.2f} times as fast as the plain loop (at least {faster} asked): {'kept' if kept else 'BROKEN'}",
            flush=True,
        )
    return good


def _recipe(model: str) -> Recipe:
    return Recipe(model=model, weights="none", image_size=SIZE, epochs=EPOCHS)


def _ratio(over: list[float], under: list[float]) -> float:
    """The median of the ratios within each round, which other work on the machine disturbs least."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def our_trial(recipe: Recipe, material: Material) -> float:
    """Seconds of a whole trial of ours."""
    started = time.perf_counter()
    train(
        TrialConfig(recipe, "lmf", ALPHA, BETA, 23),
        material.prepared.images,
        material.prepared.labels,
        len(material.prepared.class_names),
        material.split,
        material.device,
        checkpoint_path=material.folder / "checkpoint",
        on_epoch=lambda epoch: None,
        control=lambda: None,
    )
    return time.perf_counter() - started


def bare_trial(recipe: Recipe, material: Material) -> float:
    """Seconds of nothing but forward, backward, update and evaluation; what they need is made before the clock runs."""
    parts = _batches_in_memory(recipe, material)
    model, loss = _model_and_loss(recipe, material.counts, material.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision)
    scaler = torch.amp.GradScaler(material.device.type, enabled=recipe.precision == "fp16")

    def predict(batches: list[tuple[Tensor, Tensor]]) -> None:
        model.eval()
        with torch.inference_mode():
            for pixels, _ in batches:
                with torch.autocast(material.device.type, half, enabled=half is not None):
                    model(pixels)

    _finish(material.device)
    started = time.perf_counter()
    for _ in range(recipe.epochs):
        model.train()
        for pixels, targets in parts["train"]:
            with torch.autocast(material.device.type, half, enabled=half is not None):
                logits = model(pixels)
            optimizer.zero_grad()
            scaler.scale(loss(logits, targets)).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        predict(parts["val"])
    predict(parts["test"])
    _finish(material.device)
    return time.perf_counter() - started


def _batches_in_memory(recipe: Recipe, material: Material) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Batches of each part: those for training of the recipe's size, those for evaluation of our evaluation's."""
    batches = Batches(material.prepared.images, material.prepared.labels, material.device)
    found = {}
    for name in ("train", "val", "test"):
        indices = getattr(material.split, name)
        size = recipe.batch_size * (1 if name == "train" else EVALUATION_BATCHES)
        found[name] = list(batches.iterate(indices, batch_slices(len(indices), size)))
    return found


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _plain_program(model: str, material: Material) -> float:
    """Seconds of the plain loop in a process of its own; starting it and loading its libraries is not counted."""
    command = [sys.executable, "-m", "benchmarks.trial", model, str(material.folder), str(material.device)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    return float(done.stdout.splitlines()[-1])


def plain_loop(recipe: Recipe, folder: Path, device: torch.device) -> float:
    """Seconds of a training loop as papers publish them."""
    started = time.perf_counter()
    images = ImageFolder(str(folder / "images"), Compose([Resize((SIZE, SIZE)), ToTensor()]))
    # ImageFolder orders files as the cache does, by class and then by name, so this split is that of the others.
    labels = np.array(images.targets)
    split = stratified_split(labels, len(images.classes), seed=23)
    loaders = {
        name: DataLoader(
            Subset(images, getattr(split, name).tolist()),
            recipe.batch_size,
            shuffle=name == "train",
            num_workers=1,
            pin_memory=device.type == "cuda",
        )
        for name in ("train", "val", "test")
    }
    model, loss = _model_and_loss(recipe, class_counts(labels, split.train, len(images.classes)), device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    best, best_state = -1.0, copy.deepcopy(model.state_dict())
    for _ in range(recipe.epochs):
        model.train()
        running = 0.0
        for pixels, targets in loaders["train"]:
            pixels, targets = pixels.to(device), targets.to(device)
            optimizer.zero_grad()
            value = loss(model(pixels), targets)
            value.backward()
            optimizer.step()
            running += value.item() * len(targets)
        score = _plain_scores(model, loaders["val"], device)
        if score > best:
            best, best_state = score, copy.deepcopy(model.state_dict())
            torch.save(best_state, folder / "best.pt")
    model.load_state_dict(best_state)
    _plain_scores(model, loaders["test"], device)
    return time.perf_counter() - started


def _plain_scores(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> float:
    model.eval()
    predictions, truths = [], []
    with torch.no_grad():
        for pixels, targets in loader:
            predictions.append(model(pixels.to(device)).argmax(1).cpu())
            truths.append(targets)
    predicted, truth = torch.cat(predictions).numpy(), torch.cat(truths).numpy()
    accuracy_score(truth, predicted)
    for other in (precision_score, recall_score):
        other(truth, predicted, average="macro", zero_division=0)
    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def _model_and_loss(recipe: Recipe, counts: Sequence[int], device: torch.device) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(23)
    model = build_model(recipe, len(counts)).to(device)
    return model, build_loss("lmf", counts, alpha=ALPHA, beta=BETA).to(device, torch.float32)


def _make_files(folder: Path) -> str:
    """A folder of images for each class: real ones where there are any, else synthetic photos."""
    data = os.environ.get("LMF_TEST_DATA")
    source = Path(data or "") / "data" / "images" / "HAM10000"
    if not data or not source.is_dir():
        make_photos(folder)
        return "synthetic photos"
    with (source / "HAM10000_metadata.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            target = folder / row["dx"] / f"{row['image_id']}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / "images" / target.name, target)
    return "images of HAM10000"


if __name__ == "__main__":
    print(plain_loop(_recipe(sys.argv[1]), Path(sys.argv[2]), torch.device(sys.argv[3])))
