"""Which of several devices a worker takes, and what it says of it; most devices are pretended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from study import devices
from study.devices import describe_device, hold_device, show_cudnn_version
from study.errors import StudyError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {"auto": ("cuda:0", "cuda:1"), "cuda": ("cuda:0", "cuda:1"), "cuda:1": ("cuda:1",), "cpu": ("cpu",)}
    monkeypatch.setattr(devices, "list_devices", lambda device: known[device])
    monkeypatch.setattr(devices, "_lock_file", lambda device: tmp_path / device.replace(":", "-"))


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_worker_takes_a_gpu_that_no_other_has(device: str) -> None:
    with hold_device(device) as first, hold_device(device) as second:
        assert (first, second) == ("cuda:0", "cuda:1")
        with hold_device(device) as third:
            assert third == "cuda:0", "all are taken"
    with hold_device(device) as again:
        assert again == "cuda:0", "a device is given back"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
def test_what_was_named_is_shared(device: str) -> None:
    with hold_device(device) as first, hold_device(device) as second:
        assert first == second == device


def test_a_gpu_that_is_not_here_is_refused() -> None:
    with pytest.raises(StudyError, match="--device: cuda:77 is not here"), hold_device("cuda:77"):
        pass


@pytest.mark.gpu
def test_a_real_gpu_is_known_by_what_it_is() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    name = devices._lock_file("cuda:0").name
    assert str(torch.cuda.get_device_properties(0).uuid).replace(":", "-") in name


CPU_INFO = "processor\t: 0\nmodel name\t: AMD  EPYC 7763\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 7763\n"


def test_a_processor_is_described_by_its_makers_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "CPU_FILE", tmp_path / "cpuinfo")
    devices.CPU_FILE.write_text(CPU_INFO)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"PRETTY_NAME": "Debian 12"})
    facts = describe_device("cpu")
    assert (facts["device_name"], facts["system"]) == ("AMD EPYC 7763", "Debian 12")
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(facts) == {"device_name", "python", "lmf", "system"}


@pytest.mark.parametrize("text", [None, "processor : 0\nmodel name :\n"])
def test_where_the_system_does_not_tell_it_is_the_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    monkeypatch.setattr(devices, "CPU_FILE", tmp_path / "cpuinfo")
    if text is not None:
        devices.CPU_FILE.write_text(text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    def missing() -> None:
        raise FileNotFoundError

    monkeypatch.setattr("platform.freedesktop_os_release", missing)
    facts = describe_device("cpu")
    assert (facts["device_name"], facts["system"]) == ("aarch64", f"{os.uname().sysname} {os.uname().release}")


def test_who_trains_nothing_has_no_device() -> None:
    assert set(describe_device("none")) == {"python", "lmf", "system"}


def test_without_a_gpu_torch_is_not_loaded() -> None:
    code = (
        "import sys; from study.worker import describe_device; describe_device('cpu'); describe_device('none'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    found = SimpleNamespace(name="NVIDIA H100 80GB HBM3", uuid="4f1c")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: {torch.device("cuda:1"): found}[device])
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


@pytest.mark.usefixtures("pretended_gpu")
def test_a_gpu_is_described_with_what_drives_it() -> None:
    facts = describe_device("cuda:1")
    wanted = {"device_name": "NVIDIA H100 80GB HBM3", "device_uuid": "4f1c", "cuda": "12.8", "cudnn": "9.10.2"}
    assert facts == wanted | {name: facts[name] for name in ("python", "lmf", "system")}


@pytest.mark.usefixtures("pretended_gpu")
def test_a_build_without_cuda_has_no_such_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", None)
    facts = describe_device("cuda:1")
    assert facts["device_name"] == "NVIDIA H100 80GB HBM3"
    assert not {"cuda", "cudnn"} & set(facts)


@pytest.mark.usefixtures("pretended_gpu")
@pytest.mark.parametrize("error", [RuntimeError("CUDA error: unspecified launch failure"), AssertionError("no device")])
def test_a_broken_gpu_does_not_keep_a_worker_from_registering(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(device: object) -> None:
        raise error

    monkeypatch.setattr("torch.cuda.get_device_properties", broken)
    assert set(describe_device("cuda:1")) == {"python", "lmf", "system"}


@pytest.mark.parametrize(
    ("number", "shown"), [(91002, "9.10.2"), (90100, "9.1.0"), (8902, "8.9.2"), (7605, "7.6.5"), (None, ""), (0, "")]
)
def test_cudnn_versions_are_written_as_its_makers_do(number: int | None, shown: str) -> None:
    assert show_cudnn_version(number) == shown


@pytest.mark.gpu
def test_a_real_gpu_is_described() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    facts = describe_device("cuda:0")
    assert facts["device_name"] == torch.cuda.get_device_name(0)
    assert facts["device_uuid"] == str(torch.cuda.get_device_properties(0).uuid)
    if torch.version.cuda:
        assert facts["cuda"] == torch.version.cuda
        assert [int(part) >= 0 for part in facts["cudnn"].split(".")] == [True] * 3
