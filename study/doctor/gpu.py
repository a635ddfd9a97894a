"""Which GPUs there are, and whether this PyTorch can use them; the only check that loads torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from study.doctor.diagnosis import Diagnosis, ok, one_line, problem, warning

DRIVER_FILE = Path("/proc/driver/nvidia/version")
ASK_SECONDS = 10.0
LITTLE_SHARE = 0.5
_BUILDS = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: as its maker calls it.
        capability: compute capability, major and minor.
        total: bytes of memory.
        free: bytes of memory that nobody uses.
        has_bf16: whether it computes in bfloat16 by itself.
        uuid: its identifier, by which other programs on it are found; empty where torch does not tell.
    """

    name: str
    capability: tuple[int, int]
    total: int
    free: int
    has_bf16: bool
    uuid: str = ""


@dataclass(frozen=True)
class GpuFacts:
    """What torch and the driver say of GPUs.

    Attributes:
        torch: version of torch.
        cuda: version of CUDA that torch was built for; None for a build without.
        driver: version of NVIDIA's driver; None where there is none.
        architectures: what torch was compiled for, such as `sm_90` and `compute_90`.
        gpus: those that this process sees.
        users: process numbers of the other programs on each GPU, by its identifier.
        reason: why torch sees no GPU, as it says itself; empty where it says nothing.
        is_hidden: whether CUDA_VISIBLE_DEVICES hides all GPUs.
    """

    torch: str
    cuda: str | None
    driver: str | None
    architectures: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    users: tuple[tuple[str, int], ...] = ()
    reason: str = ""
    is_hidden: bool = False


def check_gpus() -> Iterator[Diagnosis]:
    """Look at this machine's GPUs."""
    yield from judge_gpus(read_gpus())


def read_gpus() -> GpuFacts:
    """Ask torch and the driver; loads torch."""
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    facts = GpuFacts(torch.__version__, torch.version.cuda, read_driver())
    if not is_there:
        is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        return replace(facts, reason=one_line(said[-1].message) if said else "", is_hidden=is_hidden)
    gpus = []
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        with torch.cuda.device(number):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        uuid = str(getattr(found, "uuid", "")).removeprefix("GPU-")
        gpus.append(Gpu(found.name, (found.major, found.minor), total, free, has_bf16, uuid))
    architectures = tuple(torch.cuda.get_arch_list())
    return replace(facts, architectures=architectures, gpus=tuple(gpus), users=read_users())


def judge_gpus(facts: GpuFacts) -> Iterator[Diagnosis]:
    """Whether the GPUs that are there can be used, and are free."""
    if not facts.gpus:
        yield _without_gpu(facts)
        return
    build = f"torch {facts.torch} for CUDA {facts.cuda}, driver {facts.driver or 'unknown'}"
    yield ok("gpu", f"{len(facts.gpus)} GPU{'s' if len(facts.gpus) > 1 else ''}; {build}")
    for number, gpu in enumerate(facts.gpus):
        yield _judge_gpu(number, gpu, facts)


def is_supported(capability: tuple[int, int], architectures: tuple[str, ...]) -> bool:
    """Whether code compiled for these architectures runs on a GPU of this compute capability.

    Code of `sm_MN` runs on its own major version with the same or a higher minor; `compute_MN` is compiled anew for
    whatever is newer.
    """
    for architecture in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if match is None:
            continue
        major, minor = int(match[2]), int(match[3])
        if match[4]:
            fits = (major, minor) == capability
        elif match[1] == "sm":
            fits = major == capability[0] and minor <= capability[1]
        else:
            fits = (major, minor) <= capability
        if fits:
            return True
    return False


def read_driver(file: Path = DRIVER_FILE) -> str | None:
    """The version of NVIDIA's driver, or None where none is loaded."""
    try:
        match = re.search(r"(?:Kernel Module\s+(?:for \S+\s+)?)(\d+(?:\.\d+)+)", file.read_text())
    except OSError:
        return None
    return match[1] if match else "of unknown version"


def _without_gpu(facts: GpuFacts) -> Diagnosis:
    if facts.driver is None:
        return ok("gpu", f"no GPU: trainings run on the processor (torch {facts.torch})")
    if facts.is_hidden:
        found = "CUDA_VISIBLE_DEVICES hides all GPUs: trainings run on the processor"
        return warning("gpu", found, "unset it if they should be used")
    found = f"NVIDIA's driver {facts.driver} is loaded, but torch {facts.torch} sees no GPU"
    if facts.cuda is None:
        return problem("gpu", f"{found}: it was built without CUDA", f"install a build of torch for CUDA: {_BUILDS}")
    why = f": {facts.reason}" if facts.reason else ""
    return problem(
        "gpu",
        f"{found}{why}",
        f"torch is built for CUDA {facts.cuda}: upgrade the driver, or install a build for an older CUDA ({_BUILDS}); "
        "see that CUDA_VISIBLE_DEVICES and the container show the GPU",
    )


def _judge_gpu(number: int, gpu: Gpu, facts: GpuFacts) -> Diagnosis:
    check = f"cuda:{number}"
    capability = ".".join(map(str, gpu.capability))
    told = (
        f"{gpu.name}, {gpu.free / 1e9:.1f} of {gpu.total / 1e9:.1f} GB free, compute capability {capability}, "
        f"{'bf16' if gpu.has_bf16 else 'no bf16'}"
    )
    if facts.architectures and not is_supported(gpu.capability, facts.architectures):
        return problem(
            check,
            f"{told}; torch {facts.torch} was not compiled for it ({', '.join(facts.architectures)})",
            f"install a build of torch that knows this GPU ({_BUILDS}), or choose another by CUDA_VISIBLE_DEVICES",
        )
    if gpu.free < LITTLE_SHARE * gpu.total:
        users = [str(pid) for uuid, pid in facts.users if gpu.uuid and uuid == gpu.uuid]
        who = f" by processes {', '.join(users)}" if users else ""
        return warning(
            check,
            f"{told}; the rest is used{who}",
            "end what is not needed, or choose another GPU by --device or CUDA_VISIBLE_DEVICES",
        )
    return ok(check, told)


def read_users() -> tuple[tuple[str, int], ...]:
    """Which other processes compute on which GPU, by its identifier, as far as NVIDIA's tool is there and tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        told = subprocess.run(
            [tool, "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    rows = (line.partition(",") for line in told.splitlines())
    found = [
        (uuid.strip().removeprefix("GPU-"), int(pid)) for uuid, comma, pid in rows if comma and pid.strip().isdigit()
    ]
    return tuple((uuid, pid) for uuid, pid in found if pid != os.getpid())
