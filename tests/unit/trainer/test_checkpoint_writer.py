from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.checkpoint
from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_writer import CheckpointWriter
from trainer.errors import CheckpointError


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every write at its end until the event is set."""
    event = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (event.wait(30), fsync(descriptor)))
    yield event
    event.set()


def state_of(value: float) -> dict[str, Any]:
    layout = torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last)
    return {"model": {"conv": layout}, "optimizer": {"param_groups": [{"lr": value, "params": [0]}]}}


def test_what_is_written_is_what_was_there_at_the_start(tmp_path: Path, held: threading.Event):
    writer = CheckpointWriter(tmp_path / "c")
    state, best = state_of(1.0), {"score": 0.5, "state": {"conv": torch.ones(2)}}
    writer.start(state, {"best": best, "step": 7})
    state["model"]["conv"].fill_(2.0)
    state["optimizer"]["param_groups"][0]["lr"] = 2.0
    assert not writer.is_done()
    held.set()
    writer.wait()
    writer.close()
    saved = read_checkpoint(tmp_path / "c")
    assert torch.equal(saved["model"]["conv"], torch.full((2, 3, 4, 4), 1.0))
    assert saved["model"]["conv"].is_contiguous(memory_format=torch.channels_last)
    assert saved["optimizer"] == {"param_groups": [{"lr": 1.0, "params": [0]}]}
    assert saved["step"] == 7
    assert torch.equal(saved["best"]["state"]["conv"], torch.ones(2))


def test_the_copies_memory_is_used_again(tmp_path: Path):
    writer = CheckpointWriter(tmp_path / "c")
    places = []
    for value in (1.0, 2.0):
        writer.start(state_of(value), {})
        places.append(writer._copy["model"]["conv"].data_ptr())
        writer.wait()
        assert read_checkpoint(tmp_path / "c")["model"]["conv"].mean() == value
    writer.close()
    assert places[0] == places[1]


def test_a_state_that_grows_is_copied_whole(tmp_path: Path):
    writer = CheckpointWriter(tmp_path / "c")
    writer.start({"optimizer": {"state": {}, "groups": [1]}}, {})
    writer.wait()
    writer.start({"optimizer": {"state": {0: torch.ones(3)}, "groups": [1, 2]}}, {})
    writer.wait()
    writer.close()
    saved = read_checkpoint(tmp_path / "c")["optimizer"]
    assert torch.equal(saved["state"][0], torch.ones(3))
    assert saved["groups"] == [1, 2]


def test_giving_up_leaves_the_file_before_and_nothing_beside_it(tmp_path: Path, held: threading.Event):
    told: list[int] = []
    held.set()
    writer = CheckpointWriter(tmp_path / "c", lambda: told.append(1))
    writer.start(state_of(1.0), {})
    writer.wait()
    held.clear()
    writer.start(state_of(2.0), {})
    closing = threading.Thread(target=writer.close)
    closing.start()
    while not writer._cancelled.is_set():
        pass
    held.set()
    closing.join()
    assert read_checkpoint(tmp_path / "c")["model"]["conv"].mean() == 1.0
    assert os.listdir(tmp_path) == ["c"]
    assert told == [1]


def test_a_write_that_is_given_up_stops_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cancelled = threading.Event()
    cancelled.set()
    written: list[int] = []
    write_sealed = trainer.checkpoint._write_sealed

    def counting(state: Any, file: Any, event: threading.Event | None) -> None:
        write_sealed(state, file, event)
        written.append(file.tell())

    monkeypatch.setattr(trainer.checkpoint, "_write_sealed", counting)
    trainer.checkpoint.write_checkpoint({"zeros": torch.zeros(1_000_000)}, tmp_path / "c", cancelled)
    assert written[0] < 1000
    assert os.listdir(tmp_path) == []


def test_publishing_follows_the_write_in_its_thread(tmp_path: Path):
    seen: list[tuple[bool, bool]] = []
    mine = threading.current_thread()
    writer = CheckpointWriter(
        tmp_path / "c", lambda: seen.append(((tmp_path / "c").exists(), threading.current_thread() is mine))
    )
    writer.start(state_of(1.0), {})
    writer.wait()
    writer.write({"step": 1})
    writer.close()
    assert seen == [(True, False), (True, True)]


@pytest.mark.parametrize("where", ["file", "publishing"])
def test_an_error_is_raised_where_the_write_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device") if where == "file" else CheckpointError("no room in the store")

    if where == "file":
        monkeypatch.setattr(os, "fsync", fail)
    writer = CheckpointWriter(tmp_path / "c", fail if where == "publishing" else None)
    writer.start(state_of(1.0), {})
    with pytest.raises(CheckpointError, match=r"No space left|no room"):
        writer.wait()
    writer.wait()
    writer.close()


def test_its_thread_ends_with_it(tmp_path: Path):
    before = threading.active_count()
    writer = CheckpointWriter(tmp_path / "c")
    writer.start(state_of(1.0), {})
    assert threading.active_count() == before + 1
    writer.close()
    assert threading.active_count() == before


@pytest.mark.gpu
def test_tensors_of_a_gpu_are_copied_to_pinned_memory(tmp_path: Path, gpu: torch.device):
    writer = CheckpointWriter(tmp_path / "c")
    weights = torch.full((1000, 1000), 3.0, device=gpu)
    writer.start({"weights": weights}, {})
    weights.fill_(4.0)
    assert writer._copy["weights"].is_pinned()
    writer.wait()
    writer.close()
    saved = read_checkpoint(tmp_path / "c")["weights"]
    assert saved.device.type == "cpu"
    assert torch.equal(saved, torch.full((1000, 1000), 3.0))
