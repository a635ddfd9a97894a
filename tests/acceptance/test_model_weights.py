"""Pretrained weights by the real way: from a hub over HTTP into a folder, and from there where no hub is."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from lmf_testing.cli import environment, run_lmf
from torch import Tensor

MODEL = "test_resnet.r160_in1k"
FILE = f"{MODEL}.safetensors"

BUILD = """
import sys
from pathlib import Path
import safetensors.torch, torch
from trainer.config import Recipe
from trainer.models import build_model

torch.manual_seed(23)
state = build_model(Recipe(model="test_resnet", image_size=64), 3, Path(sys.argv[1])).state_dict()
safetensors.torch.save_file(state, sys.argv[2])
"""


class Hub:
    """A server on this machine that answers as the Hugging Face hub does for the weights of one model."""

    def __init__(self, weights: bytes) -> None:
        self.asked: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.answer()

            def answer(self) -> None:
                if self.path.startswith("/timm/"):
                    hub.asked.append((self.command, self.path))
                known = self.path == f"/timm/{MODEL}/resolve/main/model.safetensors"
                body = weights if known else b""
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Repo-Commit", "c" * 40)
                if known:
                    self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                    self.send_header("X-Linked-Size", str(len(body)))
                else:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return timm.create_model(MODEL).state_dict()


@pytest.fixture
def hub(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hub = Hub(safetensors.torch.save(weights))
    yield hub
    hub.close()


def online(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "client")}


def offline(tmp_path: Path) -> dict[str, str]:
    """A hub at a port where nobody listens, and a client that never downloaded anything."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "empty")}


def build(home: Path, folder: Path, changes: dict[str, str], output: Path) -> dict[str, Tensor]:
    command = [sys.executable, "-c", BUILD, str(folder), str(output)]
    subprocess.run(command, env=environment(home, changes), check=True)
    return safetensors.torch.load_file(output)


def test_weights_are_fetched_once_and_used_without_a_network(
    hub: Hub, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    folder = home / "weights"
    fetched = run_lmf(home, "model", "fetch", "test_resnet", changes=online(hub, tmp_path))
    assert (fetched.code, fetched.err) == (0, "")
    assert fetched.out.startswith(f"{MODEL}: fetched, ")
    assert [method for method, _ in hub.asked] == ["HEAD", "GET"]
    assert [path.name for path in folder.iterdir()] == [FILE]

    again = run_lmf(home, "model", "fetch", "test_resnet", changes=online(hub, tmp_path))
    assert again.out.startswith(f"{MODEL}: there already, ")
    assert len(hub.asked) == 2
    listed = run_lmf(home, "model", "list", "--json").json
    assert [item["model"] for item in listed["models"]] == [MODEL]

    from_hub = build(home, tmp_path / "absent", online(hub, tmp_path), tmp_path / "hub.safetensors")
    asked = len(hub.asked)
    from_folder = build(home, folder, offline(tmp_path), tmp_path / "folder.safetensors")
    assert len(hub.asked) == asked
    assert from_hub.keys() == from_folder.keys()
    assert all(torch.equal(value, from_folder[key]) for key, value in from_hub.items())
    body = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    assert all(torch.equal(value, from_folder[key]) for key, value in body.items())


def test_a_study_is_trained_without_a_network(hub: Hub, skin: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    fetch = ("model", "fetch", MODEL, "--to", str(stick))
    assert run_lmf(tmp_path / "other", *fetch, changes=online(hub, tmp_path)).code == 0
    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    (stick / FILE).rename(folder / FILE)
    command = ("run", f"folder:{skin}", "--model", "test_resnet", "--image-size", "32", "--epochs", "1")
    points = ("--settings", "joint", "--grid", "1.0", "--workers", "1")
    ran = run_lmf(tmp_path / "home", *command, *points, changes=offline(tmp_path))
    assert ran.code == 0, ran.err
    assert f"weights: {FILE} in {folder}: " in ran.out
    assert "head fc (1000 classes) replaced for 3 classes" in ran.out


def test_a_hub_without_the_model_and_a_missing_file_are_refused_in_one_line(
    hub: Hub, skin: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    line = run_lmf(home, "model", "fetch", "test_efficientnet", changes=online(hub, tmp_path)).refusal()
    assert "cannot get those of test_efficientnet.r160_in1k from the hub (404" in line
    folder = home / "weights"
    assert list(folder.iterdir()) == []
    offline_at_once = {**offline(tmp_path), "HF_HUB_OFFLINE": "1"}
    line = run_lmf(home, "run", f"folder:{skin}", "--model", "test_resnet", changes=offline_at_once).refusal()
    assert f"run `lmf model fetch {MODEL}` on a machine with a network and copy {FILE} into {folder}, or pass" in line
