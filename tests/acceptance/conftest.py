"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lmf_testing.cli import VARIABLES, Lmf, Ran
from PIL import Image

from study.cli.main import main


@pytest.fixture
def lmf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Lmf:
    """Runs `lmf` in this process, with a home of its own; for what starts no worker."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return run


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    """A folder of images for each of three classes: 12, 8 and 6 of them."""
    root = tmp_path / "skin"
    random = np.random.default_rng(5)
    for label, (name, count) in enumerate((("nv", 12), ("mel", 8), ("df", 6))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 80, (24, 20, 3), np.uint8)
            pixels[..., label] += 150
            Image.fromarray(pixels).save(root / name / f"{name}-{number:02}.png")
    return root
