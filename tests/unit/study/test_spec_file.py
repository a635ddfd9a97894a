from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from study.spec_file import TABLES, read_study_file
from trainer.config import Recipe


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "study.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_values_come_with_their_place_and_folder(tmp_path: Path) -> None:
    path = write(tmp_path, '[study]\ndataset = "ham"\ngrid = [0.5, 1]\n[recipe]\nepochs = 3\n[run]\nworkers = 2\n')
    given, problems = read_study_file(path)
    assert problems == []
    assert {name: item.value for name, item in given.items()} == {
        "dataset": "ham",
        "grid": [0.5, 1],
        "epochs": 3,
        "workers": 2,
    }
    assert given["epochs"].where == f"{path}: epochs"
    assert {item.folder for item in given.values()} == {tmp_path}


def test_every_figure_of_the_recipe_is_a_key_of_its_table_and_of_no_other() -> None:
    assert set(TABLES["recipe"]) == {item.name for item in fields(Recipe)} - {"weights_sha256"}
    keys = [key for table in TABLES.values() for key in table]
    assert len(keys) == len(set(keys))


def test_all_problems_of_form_are_reported(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'epochs = 3\nrun = 4\n[recipes]\n[study]\nepocs = 1\nlr = 0.1\n[recipe]\nepoch = 3\nweights_sha256 = "x"\n',
    )
    given, problems = read_study_file(path)
    assert given == {}
    assert [problem.removeprefix(f"{path}: ") for problem in problems] == [
        "epochs belongs in the table [recipe]",
        "run is no table; expected [run] and its keys below",
        "recipes is an unknown table; did you mean recipe?",
        f"[study] epocs is an unknown key; expected {', '.join(TABLES['study'])}",
        "[study] lr belongs in the table [recipe]",
        "[recipe] epoch is an unknown key; did you mean epochs?",
        "[recipe] weights_sha256 is an unknown key; did you mean weights?",
        '[study] names no dataset; expected a line such as dataset = "folder:images"',
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[study", "is not valid TOML: "),
        ('[study]\ndataset = "a"\ndataset = "b"\n', "is not valid TOML: "),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_what_is_no_toml_is_one_problem(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = write(tmp_path, content)
    given, problems = read_study_file(path)
    assert given == {}
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: {problem}")


def test_a_missing_file_and_a_folder_are_one_problem(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert read_study_file(missing)[1] == [
        f"{missing}: cannot be read: No such file or directory; expected a study file"
    ]
    assert read_study_file(tmp_path)[1] == [f"{tmp_path}: cannot be read: Is a directory; expected a study file"]
