"""What the report says of a study's hardware, against hardware that is known."""

from __future__ import annotations

from dataclasses import replace

from storage.hardware import Hardware
from study.reporting.hardware import hardware_sentence, hardware_table

SOFTWARE = {"torch": "2.14.1", "timm": "1.0.31", "lmf": "0.5.0", "python": "3.11.7", "system": "Debian 12"}
H100 = Hardware(
    "secret-node",
    "gpu",
    "NVIDIA H100 80GB HBM3",
    {**SOFTWARE, "cuda": "12.8", "cudnn": "9.10.2"},
    frozenset("ab"),
    3,
    7200,
)
OTHER_H100 = replace(H100, host="secret-other", devices=frozenset("c"), attempts=2, seconds=3600)
EPYC = Hardware("secret-node", "cpu", "AMD EPYC", SOFTWARE, frozenset({"secret-node"}), 4, 90)
UNKNOWN = Hardware("old", "gpu", None, {"torch": "2.4"}, frozenset({"old cuda:0"}), 1, 60)


def test_nothing_was_trained() -> None:
    assert hardware_sentence(()) == ""
    assert hardware_table(()).rows == ()


def test_the_sentence_counts_devices_and_names_no_host() -> None:
    second = replace(EPYC, host="secret-other", devices=frozenset({"secret-other"}))
    sentence = hardware_sentence((EPYC, H100, OTHER_H100, second))
    assert sentence == (
        "Training ran on 3 × NVIDIA H100 80GB HBM3 (CUDA 12.8, cuDNN 9.10.2) and the processors of 2 machines "
        "(AMD EPYC)."
    )
    assert "secret" not in sentence


def test_a_gpu_that_two_versions_ran_on_is_one_gpu() -> None:
    later = replace(H100, versions={**H100.versions, "cuda": "13.0"}, devices=frozenset("b"))
    assert hardware_sentence((H100, later)) == (
        "Training ran on 2 × NVIDIA H100 80GB HBM3 (CUDA 12.8 and 13.0, cuDNN 9.10.2)."
    )
    assert [row[1] for row in hardware_table((H100, later)).rows] == ["2", "1"]


def test_what_is_not_on_record_is_said() -> None:
    assert hardware_sentence((UNKNOWN,)) == "Training ran on 1 GPU of a type that is not on record."
    assert hardware_sentence((UNKNOWN, H100, replace(EPYC, name=None))) == (
        "Training ran on 2 × NVIDIA H100 80GB HBM3 (CUDA 12.8, cuDNN 9.10.2), 1 GPU of a type that is not on record "
        "and the processors of 1 machine (type not on record)."
    )


def test_signs_of_trade_marks_are_left_out() -> None:
    xeon = replace(EPYC, name="Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz")
    assert hardware_sentence((xeon,)).endswith("1 machine (Intel Xeon Gold 6130 CPU @ 2.10GHz).")


def test_the_table_has_a_row_for_each_device_and_its_versions() -> None:
    table = hardware_table((EPYC, UNKNOWN, H100, OTHER_H100))
    assert table.columns == ("hardware", "GPUs", "hosts", "attempts", "time", "versions")
    libraries = "torch 2.14.1, timm 1.0.31, lmf 0.5.0, Python 3.11.7, Debian 12"
    assert table.rows == (
        ("NVIDIA H100 80GB HBM3", "3", "2", "5", "3 h 0 min", f"CUDA 12.8, cuDNN 9.10.2, {libraries}"),
        ("GPU, type not on record", "1", "1", "1", "1 min", "torch 2.4"),
        ("AMD EPYC", "", "1", "4", "2 min", libraries),
    )


def test_libraries_that_are_added_later_are_shown_too() -> None:
    (row,) = hardware_table((replace(EPYC, versions={"captum": "0.9", "torch": "2.14"}),)).rows
    assert row[-1] == "torch 2.14, captum 0.9"
