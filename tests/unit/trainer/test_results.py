from __future__ import annotations

import json
from dataclasses import fields

import pytest
import torch

from trainer.config import SELECTORS
from trainer.metrics import Scores
from trainer.results import EPOCH_SCORES, EpochResult, weights_digest


def some_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.rand(4, 3, 2, 2, generator=generator),
        "norm.num_batches_tracked": torch.tensor(7),
        "scale": torch.tensor(1.5),
    }


class TestWeightsDigest:
    def test_order_and_memory_layout_do_not_matter(self):
        state = some_state()
        turned = dict(reversed(state.items()))
        turned["conv.weight"] = turned["conv.weight"].to(memory_format=torch.channels_last)
        assert weights_digest(turned) == weights_digest(state)

    @pytest.mark.parametrize(
        "change",
        [
            {"scale": torch.tensor(1.5000001)},
            {"scale": torch.tensor(1.5, dtype=torch.float64)},
            {"scale": torch.tensor([1.5])},
            {"norm.num_batches_tracked": torch.tensor(8)},
            {"another": torch.tensor(1.5)},
        ],
        ids=str,
    )
    def test_values_types_shapes_and_names_do(self, change: dict[str, torch.Tensor]):
        assert weights_digest(some_state() | change) != weights_digest(some_state())

    def test_parameters_of_a_model_are_taken_as_they_are(self):
        layer = torch.nn.Linear(2, 2)
        assert weights_digest(dict(layer.named_parameters())) == weights_digest(layer.state_dict())


def test_epochs_keep_every_score_that_may_choose_and_three_more():
    assert len(EPOCH_SCORES) == len(set(EPOCH_SCORES)) == len(SELECTORS) + 3
    assert set(EPOCH_SCORES) == {*SELECTORS, "accuracy", "precision", "recall"}
    assert set(EPOCH_SCORES) <= {field.name for field in fields(Scores)}


class TestEpochResult:
    @pytest.mark.parametrize("halves", [None, {"ldam": 20.0, "focal": 0.25}])
    def test_it_survives_json(self, halves: dict[str, float] | None):
        result = EpochResult(
            epoch=3,
            train_loss=1.25,
            val_loss=0.1,
            lr=1e-4,
            images_per_second=310.5,
            seconds=2.5,
            val={**dict.fromkeys(EPOCH_SCORES, 0.5), "macro_auc": None, "mcc": -0.25},
            halves=halves,
        )
        assert EpochResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
