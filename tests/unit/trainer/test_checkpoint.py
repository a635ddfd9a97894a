from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import resource
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.checkpoint import random_state, read_checkpoint, restore_random_state, write_checkpoint
from trainer.errors import CheckpointError

CPU = torch.device("cpu")


def some_state(value: float = 1.5) -> dict:
    return {
        "tensor": torch.arange(4000, dtype=torch.float32) * value,
        "strided": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "nested": {"list": [1, 2.5, None, True, "text"], "empty": {}},
    }


def sealed(payload: bytes) -> bytes:
    return payload + b"lmf-seal" + hashlib.sha256(payload).digest()


def one_line(error: pytest.ExceptionInfo[CheckpointError], path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


class TestRoundTrip:
    def test_what_was_written_is_read(self, tmp_path: Path):
        path = tmp_path / "new" / "trial.pt"
        state = some_state()
        write_checkpoint(state, path)
        read = read_checkpoint(path)
        assert read.keys() == state.keys()
        assert torch.equal(read["tensor"], state["tensor"])
        assert torch.equal(read["strided"], state["strided"])
        assert read["strided"].stride() == state["strided"].stride()
        assert read["nested"] == state["nested"]

    def test_a_second_write_replaces_the_first_and_leaves_one_file(self, tmp_path: Path):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(1), path)
        write_checkpoint(some_state(2), path)
        assert torch.equal(read_checkpoint(path)["tensor"], some_state(2)["tensor"])
        assert os.listdir(tmp_path) == ["trial.pt"]

    def test_others_may_read_it_as_the_umask_says(self, tmp_path: Path):
        path = tmp_path / "trial.pt"
        umask = os.umask(0o022)
        try:
            write_checkpoint(some_state(), path)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


class TestDamage:
    @pytest.mark.parametrize("kept", [0, 1, 39, 40, 41, 2000, -41, -40, -1])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, kept: int):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(), path)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(CheckpointError, match="damaged") as error:
            read_checkpoint(path)
        one_line(error, path)

    def test_every_changed_byte_is_noticed(self, tmp_path: Path):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(), path)
        whole = path.read_bytes()
        for place in range(0, len(whole), 997):
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(CheckpointError, match="damaged"):
                read_checkpoint(path)

    def test_bytes_that_follow_the_seal_are_refused(self, tmp_path: Path):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(), path)
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(path)

    def test_a_missing_file_and_a_folder(self, tmp_path: Path):
        for path in (tmp_path / "absent.pt", tmp_path):
            with pytest.raises(CheckpointError, match="cannot be read") as error:
                read_checkpoint(path)
            one_line(error, path)

    @pytest.mark.parametrize("payload", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(200)])
    def test_a_sealed_file_of_something_else_is_refused(self, tmp_path: Path, payload: bytes):
        path = tmp_path / "trial.pt"
        path.write_bytes(sealed(payload))
        with pytest.raises(CheckpointError, match="no checkpoint of lmf") as error:
            read_checkpoint(path)
        one_line(error, path)

    @pytest.mark.parametrize("content", [{"format": 0}, {}, [1, 2]])
    def test_another_format_is_refused(self, tmp_path: Path, content: object):
        path = tmp_path / "trial.pt"
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.write_bytes(sealed(buffer.getvalue()))
        with pytest.raises(CheckpointError, match="another format") as error:
            read_checkpoint(path)
        one_line(error, path)


class Malicious:
    """Unpickled by a careless loader, this makes a file."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self._target,))


class TestCodeExecution:
    @pytest.mark.parametrize("legacy", [True, False])
    def test_a_pickle_that_runs_code_is_refused_and_not_run(self, tmp_path: Path, legacy: bool):
        target = tmp_path / "ran"
        path = tmp_path / "trial.pt"
        buffer = io.BytesIO()
        torch.save({"format": 1, "model": Malicious(target)}, buffer, _use_new_zipfile_serialization=not legacy)
        path.write_bytes(sealed(buffer.getvalue()))
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
        assert target.exists(), "the file would have run its code"
        target.unlink()
        with pytest.raises(CheckpointError, match="more than plain data") as error:
            read_checkpoint(path)
        one_line(error, path)
        assert not target.exists()

    def test_a_bare_pickle_is_refused_and_not_run(self, tmp_path: Path):
        target = tmp_path / "ran"
        path = tmp_path / "trial.pt"
        path.write_bytes(sealed(pickle.dumps({"format": 1, "model": Malicious(target)})))
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
        assert not target.exists()


class TestFailingWrites:
    def assert_old_one_is_left(self, path: Path) -> None:
        assert torch.equal(read_checkpoint(path)["tensor"], some_state(1)["tensor"])
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failing_step_leaves_the_old_checkpoint(self, tmp_path: Path, monkeypatch, step: str):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(1), path)

        def fail(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(CheckpointError, match="No space left on device") as error:
                write_checkpoint(some_state(2), path)
        one_line(error, path)
        self.assert_old_one_is_left(path)

    @pytest.mark.parametrize("limit", [0, 100, 5000, 15000])
    def test_a_disk_that_fills_up_leaves_the_old_checkpoint(self, tmp_path: Path, limit: int):
        path = tmp_path / "trial.pt"
        write_checkpoint(some_state(1), path)
        assert path.stat().st_size > 15000
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(CheckpointError, match="cannot be written") as error:
                write_checkpoint(some_state(2), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert "File too large" in one_line(error, path)
        self.assert_old_one_is_left(path)

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path):
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "trial.pt"
        with pytest.raises(CheckpointError, match="cannot be written") as error:
            write_checkpoint(some_state(), path)
        one_line(error, path)

    def test_a_write_cut_short_by_a_crash_is_overwritten_by_the_next(self, tmp_path: Path, monkeypatch):
        path = tmp_path / "trial.pt"

        class Crash(BaseException):
            pass

        def crash(*arguments: object) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crash)
            patch.setattr(Path, "unlink", lambda *arguments, **options: None)
            with pytest.raises(Crash):
                write_checkpoint(some_state(1), path)
        assert len(os.listdir(tmp_path)) == 1
        assert not path.exists()
        write_checkpoint(some_state(2), path)
        assert os.listdir(tmp_path) == ["trial.pt"]


class TestRandomState:
    def draw(self) -> list[float]:
        return [
            random.random(),
            random.gauss(0, 1),
            float(np.random.rand()),
            float(np.random.randn()),
            float(torch.rand(())),
            float(torch.randn(())),
        ]

    @pytest.mark.parametrize("drawn_before", [0, 1, 3])
    def test_every_generator_goes_on_where_it_was(self, tmp_path: Path, drawn_before: int):
        path = tmp_path / "trial.pt"
        for _ in range(drawn_before):
            self.draw()
        write_checkpoint({"random": random_state(CPU)}, path)
        expected = [self.draw() for _ in range(3)]
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        restore_random_state(read_checkpoint(path)["random"], CPU)
        assert [self.draw() for _ in range(3)] == expected

    @pytest.mark.gpu
    def test_the_generator_of_a_gpu_goes_on_where_it_was(self, gpu: torch.device):
        state = random_state(gpu)
        expected = torch.rand(5, device=gpu)
        torch.cuda.manual_seed(0)
        restore_random_state(state, gpu)
        assert torch.equal(torch.rand(5, device=gpu), expected)
