"""What LMF costs forward and backward, beside two losses computed apart in the straightforward way.

The straightforward way is what the formulas say, step by step: one-hot rows for the margins, `cross_entropy` for LDAM,
`cross_entropy` again for the focal half, and one backward pass through their sum. Both are timed in turns on the same
logits, at the size of a step of the paper's recipe and at one of many classes, with one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from trainer.losses import build_loss, class_margins

SIZES = ((32, 8), (256, 100))
ROUNDS = 21
CALLS = 100
LIMIT = 1.0
ALPHA, BETA, SCALE, GAMMA = 0.8, 1.5, 30.0, 1.5


def run() -> bool:
    """Print microseconds of both; whether ours takes no longer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return all([_compare(rows, classes) for rows, classes in SIZES])
    finally:
        torch.set_num_threads(threads)


def _compare(rows: int, classes: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    counts = [5 + 1000 // (1 + position) for position in range(classes)]
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    targets = torch.randint(classes, (rows,), generator=generator)
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "ours": build_loss("lmf", counts, alpha=ALPHA, beta=BETA).float(),
        "straightforward": _straightforward(counts),
    }
    values = {name: _gradient(loss, logits, targets) for name, loss in losses.items()}
    torch.testing.assert_close(values["ours"], values["straightforward"], rtol=1e-4, atol=1e-5)
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(ROUNDS):
        for name, loss in losses.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                _gradient(loss, logits, targets)
            times[name].append((time.perf_counter() - started) / CALLS)
    ratios = [ours / theirs for ours, theirs in zip(times["ours"], times["straightforward"], strict=True)]
    ratio = statistics.median(ratios)
    told = ", ".join(f"{name} {1e6 * statistics.median(values):.0f} µs" for name, values in times.items())
    print(
        f"loss: ({rows}, {classes}), forward and backward: {told}; {ratio:.2f} times (median of {ROUNDS} pairs); at "
        f"most {LIMIT:g} is allowed"
    )
    return ratio <= LIMIT


def _gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss(logits, targets), logits)
    return gradient


def _straightforward(counts: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
    margins = class_margins(counts)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        one_hot = functional.one_hot(targets, len(counts)).float()
        shifted = logits - one_hot * (one_hot @ margins).unsqueeze(1)
        ldam = functional.cross_entropy(SCALE * shifted, targets, weight=margins)
        cross_entropy = functional.cross_entropy(logits, targets, reduction="none")
        probability = torch.exp(-cross_entropy)
        focal = (margins[targets] * (1 - probability) ** GAMMA * cross_entropy).mean()
        return ALPHA * ldam + BETA * focal

    return loss
