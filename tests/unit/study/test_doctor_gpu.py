"""What the doctor says of GPUs, by what torch and the driver would tell."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from study.doctor.diagnosis import Level
from study.doctor.gpu import Gpu, GpuFacts, check_gpus, is_supported, judge_gpus, read_driver, read_users

GPU = Gpu("H100", (9, 0), 80_000_000_000, 79_000_000_000, True, "aa-bb")
FACTS = GpuFacts("2.9.1", "13.0", "580.65.06", ("sm_80", "sm_90", "compute_90"), (GPU,))


def test_a_gpu_that_is_free_is_told() -> None:
    whole, single = judge_gpus(FACTS)
    assert (whole.level, whole.found) == (Level.OK, "1 GPU; torch 2.9.1 for CUDA 13.0, driver 580.65.06")
    assert (single.check, single.level) == ("cuda:0", Level.OK)
    assert single.found == "H100, 79.0 of 80.0 GB free, compute capability 9.0, bf16"


def test_a_machine_without_gpu_is_fine() -> None:
    (found,) = judge_gpus(GpuFacts("2.9.1+cpu", None, None))
    assert (found.level, found.advice) == (Level.OK, "")


@pytest.mark.parametrize(
    ("facts", "found", "advice"),
    [
        (GpuFacts("2.9.1+cpu", None, "580.65"), "built without CUDA", "install a build of torch for CUDA"),
        (
            GpuFacts("2.9.1", "13.0", "470.1", reason="CUDA initialization: The NVIDIA driver is too old"),
            "driver 470.1 is loaded, but torch 2.9.1 sees no GPU: CUDA initialization: The NVIDIA driver is too old",
            "upgrade the driver, or install a build for an older CUDA",
        ),
        (GpuFacts("2.9.1", "13.0", "580.65"), "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_torch_cannot_see_is_a_problem(facts: GpuFacts, found: str, advice: str) -> None:
    (diagnosis,) = judge_gpus(facts)
    assert diagnosis.level == Level.PROBLEM
    assert found in diagnosis.found
    assert advice in diagnosis.advice


def test_gpus_that_somebody_hid_are_told() -> None:
    (found,) = judge_gpus(GpuFacts("2.9.1", "13.0", "580.65", is_hidden=True))
    assert (found.level, found.advice) == (Level.WARNING, "unset it if they should be used")


def test_a_gpu_that_torch_was_not_compiled_for_is_a_problem() -> None:
    _, old = judge_gpus(replace(FACTS, gpus=(replace(GPU, name="P100", capability=(6, 0), has_bf16=False),)))
    assert old.level == Level.PROBLEM
    assert "no bf16; torch 2.9.1 was not compiled for it (sm_80, sm_90, compute_90)" in old.found


def test_who_uses_the_memory_of_a_gpu_is_named() -> None:
    busy = replace(GPU, free=3_000_000_000)
    _, found, other = judge_gpus(replace(FACTS, gpus=(busy, GPU), users=(("aa-bb", 71), ("aa-bb", 72), ("cc", 9))))
    assert (found.level, other.level) == (Level.WARNING, Level.OK)
    assert "the rest is used by processes 71, 72" in found.found
    _, unknown = judge_gpus(replace(FACTS, gpus=(replace(busy, uuid=""),), users=(("", 71),)))
    assert unknown.found.endswith("the rest is used")


@pytest.mark.parametrize(
    ("capability", "architectures", "fits"),
    [
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((9, 0), ("sm_80",), False),
        ((9, 0), ("sm_80", "compute_80"), True),
        ((12, 0), ("sm_90", "compute_120"), True),
        ((10, 0), ("sm_120", "compute_120"), False),
        ((9, 0), ("sm_90a",), True),
        ((9, 1), ("sm_90a",), False),
        ((9, 0), ("gfx90a",), False),
    ],
)
def test_which_code_runs_on_which_gpu(capability: tuple[int, int], architectures: tuple[str, ...], fits: bool) -> None:
    assert is_supported(capability, architectures) is fits


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("something else\n", "of unknown version"),
    ],
)
def test_the_driver_says_its_version(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(text)
    assert read_driver(tmp_path / "version") == version
    assert read_driver(tmp_path / "none") is None


def test_the_driver_tells_who_else_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    lines = ("GPU-aa-bb, 71", f"GPU-aa-bb, {os.getpid()}", "GPU-cc, [N/A]", "no devices")
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert read_users() == (("aa-bb", 71),)
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_users() == ()


@pytest.mark.gpu
def test_the_gpus_of_this_machine_are_found() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = list(check_gpus())
    assert [diagnosis.check for diagnosis in found][:2] == ["gpu", "cuda:0"]
    assert torch.cuda.get_device_name(0) in found[1].found
