"""Which of several devices a worker takes; the devices are pretended."""

from __future__ import annotations

from pathlib import Path

import pytest

from study import devices
from study.devices import hold_device
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
