"""Every loss against a plain loop, its gradient, its precision and what it does to a device."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lmf_testing.waiting import no_waiting
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.losses import LOSS_NAMES, ClassificationLoss, LMFLoss, build_loss, class_margins

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = (120, 35, 7, 2, 60)
CASES: dict[str, tuple[str, dict[str, float | str]]] = {
    "cce": ("cce", {}),
    "wcce": ("wcce", {}),
    "bwcce": ("bwcce", {}),
    "ldam reference": ("ldam", {}),
    "ldam reference, own figures": ("ldam", {"max_margin": 0.8, "scale": 12.0}),
    "ldam equations": ("ldam", {"variant": "equations"}),
    "focal": ("focal", {}),
    "focal, own figures": ("focal", {"max_margin": 0.8, "gamma": 0.5}),
    "lmf reference": ("lmf", {"alpha": 0.7, "beta": 2.0}),
    "lmf reference, own figures": ("lmf", {"alpha": 2, "beta": 0.5, "max_margin": 0.3, "scale": 10.0, "gamma": 2.0}),
    "lmf equations": ("lmf", {"alpha": 1.3, "beta": 0.6, "variant": "equations"}),
    "cb_cce": ("cb_cce", {}),
    "cb_cce, own figures": ("cb_cce", {"effective_beta": 0.9}),
    "balanced_softmax": ("balanced_softmax", {}),
    "logit_adjustment": ("logit_adjustment", {}),
    "logit_adjustment, own figures": ("logit_adjustment", {"tau": 0.5}),
}


def oracle(name: str, counts: tuple[int, ...], rows: list[list[float]], targets: list[int], **figures: Any) -> float:
    """The loss by plain loops over samples and classes, from the formulas alone."""
    total, classes = sum(counts), len(counts)
    max_margin, gamma = figures.get("max_margin", 0.5), figures.get("gamma", 1.5)
    largest = max(1 / count**0.25 for count in counts)
    margins = [max_margin / largest / count**0.25 for count in counts]

    def log_p(row: list[float], target: int) -> float:
        top = max(row)
        return row[target] - top - math.log(sum(math.exp(value - top) for value in row))

    def weighted(weights: list[float]) -> float:
        above = below = 0.0
        for row, target in zip(rows, targets, strict=True):
            above += weights[target] * -log_p(row, target)
            below += weights[target]
        return above / below

    def shifted(shifts: list[float]) -> float:
        losses = 0.0
        for row, target in zip(rows, targets, strict=True):
            losses -= log_p([value + shift for value, shift in zip(row, shifts, strict=True)], target)
        return losses / len(rows)

    def ldam() -> float:
        reference = figures.get("variant", "reference") == "reference"
        scale = figures.get("scale", 30.0) if reference else 1.0
        above = below = 0.0
        for row, target in zip(rows, targets, strict=True):
            lowered = list(row)
            lowered[target] -= margins[target]
            weight = margins[target] if reference else 1.0
            above += weight * -log_p([scale * value for value in lowered], target)
            below += weight
        return above / below

    def focal() -> float:
        losses = 0.0
        for row, target in zip(rows, targets, strict=True):
            p = math.exp(log_p(row, target))
            losses += margins[target] * (1 - p) ** gamma * -math.log(p)
        return losses / len(rows)

    if name == "cce":
        return weighted([1.0] * classes)
    if name == "wcce":
        return weighted([total / (classes * count) for count in counts])
    if name == "bwcce":
        return weighted([(1 - count / total) / (classes - 1) for count in counts])
    if name == "cb_cce":
        beta = figures.get("effective_beta", 0.9999)
        return weighted([(1 - beta) / (1 - beta**count) for count in counts])
    if name == "balanced_softmax":
        return shifted([math.log(count) for count in counts])
    if name == "logit_adjustment":
        return shifted([figures.get("tau", 1.0) * math.log(count / total) for count in counts])
    if name == "ldam":
        return ldam()
    if name == "focal":
        return focal()
    assert name == "lmf"
    return float(figures["alpha"] * ldam() + figures["beta"] * focal())


def batch(size: int = 40, *, spread: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits in float64 and targets in which every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(size, len(COUNTS), generator=generator, dtype=torch.float64)
    return logits, torch.arange(size) % len(COUNTS)


def expected(case: str, logits: Tensor, targets: Tensor) -> float:
    name, figures = CASES[case]
    return oracle(name, COUNTS, logits.double().tolist(), targets.tolist(), **figures)


def make(case: str) -> ClassificationLoss:
    name, figures = CASES[case]
    return build_loss(name, COUNTS, **figures)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_cases_hold_every_loss_and_both_variants() -> None:
    assert {name for name, _ in CASES.values()} == set(LOSS_NAMES)
    for name in ("ldam", "lmf"):
        assert {figures.get("variant", "reference") for other, figures in CASES.values() if other == name} == {
            "reference",
            "equations",
        }


def test_equals_plain_loops_in_float64(case: str) -> None:
    for seed, size in enumerate((1, 2, 40)):
        logits, targets = batch(size, seed=seed)
        value = make(case)(logits, targets)
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert value.item() == pytest.approx(expected(case, logits, targets), rel=1e-10, abs=1e-10)


def test_gradient_is_that_of_the_value(case: str) -> None:
    logits, targets = batch(10)
    loss = make(case)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_less_precision_are_computed_in_float32(case: str, dtype: torch.dtype) -> None:
    logits, targets = batch()
    logits = logits.to(dtype).requires_grad_()
    value = make(case)(logits, targets)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected(case, logits, targets), rel=2e-5)
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()


def test_autocast_changes_nothing(case: str) -> None:
    loss = make(case)
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(8, len(COUNTS))
    features = torch.randn(40, 8, generator=generator)
    targets = torch.arange(40) % len(COUNTS)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
        value = loss(logits, targets)
        from_float32 = loss(logits.float(), targets)
    assert logits.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    assert value.item() == from_float32.item() == loss(logits, targets).item()
    assert value.item() == pytest.approx(expected(case, logits, targets), rel=2e-5)


def test_extreme_logits_give_finite_losses_and_gradients(case: str) -> None:
    targets = torch.arange(10) % len(COUNTS)
    sure = torch.full((10, len(COUNTS)), -1e4)
    sure.scatter_(1, targets.unsqueeze(1), 1e4)
    for logits in (sure, -sure, torch.zeros_like(sure)):
        logits = logits.clone().requires_grad_()
        value = make(case)(logits, targets)
        value.backward()
        assert torch.isfinite(value)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
    assert make(case)(sure, targets).item() == pytest.approx(0, abs=1e-6)


class Recorder(TorchDispatchMode):
    """Counts the kernels that run inside it, and keeps the devices that their results lie on."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.kernels[func.overloadpacket.__name__] += 1
        for one in result if isinstance(result, tuple) else (result,):
            self.devices.add(one.device.type if isinstance(one, Tensor) else type(one).__name__)
        return result


def test_asks_the_device_for_no_value(case: str) -> None:
    """The meta device has no values: a kernel that hands one to the host, or sizes its result by one, fails there."""
    loss = make(case).to("meta")
    logits = torch.empty(6, len(COUNTS), device="meta", requires_grad=True)
    targets = torch.empty(6, dtype=torch.int64, device="meta")
    with Recorder() as record:
        value = loss(logits, targets)
        value.backward()
    assert value.shape == ()
    assert logits.grad is not None
    assert record.devices == {"meta"}


def test_runs_one_log_softmax_a_half(case: str) -> None:
    logits, targets = batch()
    with Recorder() as record:
        make(case)(logits, targets)
    softmaxes = {kernel: times for kernel, times in record.kernels.items() if "softmax" in kernel}
    assert softmaxes == {"_log_softmax": 2 if case.startswith("lmf") else 1}


def test_constants_are_no_part_of_a_checkpoint(case: str) -> None:
    assert make(case).state_dict() == {}


@pytest.mark.parametrize("target", [-100, -1, len(COUNTS)])
def test_a_target_that_is_no_class_is_refused_on_a_processor(case: str, target: int) -> None:
    logits, targets = batch(6)
    targets[3] = target
    with pytest.raises(IndexError):
        make(case)(logits, targets)


def same(first: Callable[[Tensor, Tensor], Tensor], second: Callable[[Tensor, Tensor], Tensor]) -> bool:
    logits, targets = batch()
    return math.isclose(first(logits, targets).item(), second(logits, targets).item(), rel_tol=1e-12)


@pytest.mark.parametrize("variant", ["reference", "equations"])
def test_lmf_is_the_weighted_sum_of_its_halves(variant: str) -> None:
    logits, targets = batch()
    ldam, focal = build_loss("ldam", COUNTS, variant=variant), build_loss("focal", COUNTS)
    loss = build_loss("lmf", COUNTS, alpha=1.3, beta=0.4, variant=variant)
    assert isinstance(loss, LMFLoss)
    first, second = loss.halves(logits.bfloat16(), targets)
    assert first.dtype == second.dtype == torch.float32
    first, second = loss.halves(logits, targets)
    assert torch.equal(first, ldam(logits, targets))
    assert torch.equal(second, focal(logits, targets))
    assert torch.equal(loss(logits, targets), 1.3 * first + 0.4 * second)
    assert torch.equal(build_loss("lmf", COUNTS, alpha=1, beta=0, variant=variant)(logits, targets), first)
    assert torch.equal(build_loss("lmf", COUNTS, alpha=0, beta=1, variant=variant)(logits, targets), second)


def test_losses_meet_where_the_formulas_do() -> None:
    cce = build_loss("cce", COUNTS)
    even = (10,) * len(COUNTS)
    for name in ("wcce", "bwcce", "cb_cce", "balanced_softmax", "logit_adjustment"):
        assert same(build_loss(name, even), cce)
        assert not same(build_loss(name, COUNTS), cce)
    assert same(build_loss("logit_adjustment", COUNTS, tau=0), cce)
    assert same(build_loss("logit_adjustment", COUNTS), build_loss("balanced_softmax", COUNTS))
    assert same(build_loss("cb_cce", COUNTS, effective_beta=0), cce)
    assert same(build_loss("focal", even, gamma=0, max_margin=1), cce)
    near_one = build_loss("cb_cce", COUNTS, effective_beta=1 - 1e-12)
    logits, targets = batch()
    assert near_one(logits, targets).item() == pytest.approx(build_loss("wcce", COUNTS)(logits, targets).item())


def test_halves_of_an_untrained_model_have_their_closed_form() -> None:
    """With equal logits p is 1 / K, and LDAM is log(1 + (K − 1) exp(scale · m)): dozens of times the focal half."""
    loss = build_loss("lmf", COUNTS, alpha=1, beta=1)
    assert isinstance(loss, LMFLoss)
    for target, margin in enumerate(class_margins(COUNTS, dtype=torch.float64).tolist()):
        ldam, focal = loss.halves(torch.zeros(1, 5, dtype=torch.float64), torch.tensor([target]))
        assert ldam.item() == pytest.approx(math.log(1 + 4 * math.exp(30 * margin)), rel=1e-12)
        assert focal.item() == pytest.approx(margin * 0.8**1.5 * math.log(5), rel=1e-12)


def test_order_of_samples_and_a_common_logit_change_nothing(case: str) -> None:
    logits, targets = batch()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(3))
    loss = make(case)
    value = loss(logits, targets).item()
    assert loss(logits[order], targets[order]).item() == pytest.approx(value, rel=1e-12)
    assert loss(logits + 5, targets).item() == pytest.approx(value, rel=1e-10)


@pytest.mark.gpu
def test_cuda_equals_the_processor_and_never_waits(case: str, gpu: torch.device) -> None:
    logits, targets = batch()
    loss = make(case).to(gpu)
    on_gpu, aims = logits.to(gpu).requires_grad_(), targets.to(gpu)
    loss(on_gpu, aims)
    with no_waiting():
        value = loss(on_gpu, aims)
        value.backward()
        with torch.autocast("cuda", torch.bfloat16):
            reduced = loss(on_gpu.bfloat16(), aims)
    here = logits.requires_grad_()
    make(case)(here, targets).backward()
    assert here.grad is not None
    assert on_gpu.grad is not None
    assert value.item() == pytest.approx(expected(case, logits, targets), rel=1e-10)
    torch.testing.assert_close(on_gpu.grad.cpu(), here.grad, rtol=1e-10, atol=1e-12)
    assert reduced.dtype == torch.float32
    assert reduced.item() == pytest.approx(expected(case, logits.bfloat16(), targets), rel=2e-5)
