"""What a checkpoint after every epoch costs `resnet50` at 224 x 224: the stall, and what the write takes from training.

Steps are timed without a write, then one checkpoint is written beside further steps, several times. The cost is the
time that training stands still while its state is copied, and what the steps beside the write take longer. It is set
against epochs of 1,000 images and of HAM10000's 7,011.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import Recipe, TrialConfig
from trainer.learner import Learner
from trainer.process import set_up_process

ROUNDS = 3
STEPS = 3
IMAGES = (1000, 7011)
LIMIT = 0.02


def run() -> bool:
    """Print the cost of a checkpoint; whether it is below the limit for the shorter epoch."""
    threads = torch.get_num_threads()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(model="resnet50", weights="none", threads=threads)
    set_up_process(recipe, device)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (recipe.batch_size, 224, 224, 3), np.uint8)
    labels = np.arange(recipe.batch_size) % 7
    learner = Learner(TrialConfig(recipe, "lmf", 1.0, 1.0, 23), np.bincount(labels).tolist(), images, labels, device)
    ((pixels, targets),) = learner.batches(np.arange(len(labels)), [slice(0, len(labels))], None)
    best = learner.model_state()

    def step() -> float:
        started = time.perf_counter()
        learner.train_batch(pixels, targets)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    step()
    stalls, writes, costs, plain = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(Path(folder) / "checkpoint")
        for number in range(1 + ROUNDS):
            alone = [step() for _ in range(STEPS)]
            started = time.perf_counter()
            writer.start({"learner": learner.state_dict()}, {"best": {"state": best}})
            stall = time.perf_counter() - started
            beside = [step()]
            while not writer.is_done():
                beside.append(step())
            written = time.perf_counter() - started
            writer.wait()
            # The first one allocates what the others use again.
            if number:
                usual = statistics.median(alone)
                plain.append(usual)
                stalls.append(stall)
                writes.append(written)
                costs.append(stall + max(0.0, sum(beside) - usual * len(beside)))
        size = (Path(folder) / "checkpoint").stat().st_size
        writer.close()
    seconds, cost = statistics.median(plain), statistics.median(costs)
    print(
        f"checkpoint: {size / 1e6:.0f} MB of resnet50 at 224, {device} with {threads} threads, median of {ROUNDS}: "
        f"{1000 * statistics.median(stalls):.0f} ms of standstill, written within {statistics.median(writes):.1f} s of "
        f"training on; all in all {1000 * cost:.0f} ms, a step takes {1000 * seconds:.0f} ms"
    )
    shares = [cost / (seconds * count / recipe.batch_size) for count in IMAGES]
    told = ", ".join(f"{share:.2%} of one of {count:,}" for share, count in zip(shares, IMAGES, strict=True))
    good = shares[0] < LIMIT
    print(f"checkpoint: of an epoch: {told} images; below {LIMIT:.0%} is asked: {'kept' if good else 'BROKEN'}")
    return good
