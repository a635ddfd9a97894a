"""Fixtures of the trainer's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from lmf_testing.training import Data, make_data


@pytest.fixture
def gpu() -> torch.device:
    """The first CUDA device; skips where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return torch.device("cuda:0")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Lets torch compute with one thread during a test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data() -> Data:
    """Images of three classes to train a tiny model on."""
    return make_data()
