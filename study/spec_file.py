"""Study files: the description of a study and of a run as TOML, for `lmf run study.toml`.

Keys are the names of the flags with `_` for `-`, in three tables; what a file leaves out has its default:

    [study]                     # dataset, data, study, settings, grid, seeds, search, trials, pruner, split_seed,
                                # group, split_file, drop_empty; losses, alpha, beta, from of a comparison of losses
    dataset = "folder:skin"
    data = "images"             # a relative path starts from the folder of this file
    grid = [0.5, 1.0, 2.0]

    [recipe]                    # every figure of trainer.config.Recipe
    epochs = 30

    [run]                       # every name of study.run_options.RunOptions
    workers = 2
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from study.run_options import RunOptions
from trainer.config import Recipe

LOSS_KEYS = ("losses", "alpha", "beta", "from")
"""What only a comparison of losses has."""

STUDY_KEYS = (
    "dataset",
    "data",
    "study",
    "settings",
    "grid",
    "seeds",
    "search",
    "trials",
    "pruner",
    "split_seed",
    "group",
    "split_file",
    "drop_empty",
    *LOSS_KEYS,
)
RECIPE_KEYS = tuple(item.name for item in fields(Recipe) if item.name != "weights_sha256")
RUN_KEYS = tuple(item.name for item in fields(RunOptions))

TABLES = {"study": STUDY_KEYS, "recipe": RECIPE_KEYS, "run": RUN_KEYS}
"""The tables of a study file and their keys; no key is in two tables."""


@dataclass(frozen=True)
class Given:
    """A value that the user gave, and where.

    Attributes:
        value: as a flag's text or as TOML reads it.
        where: what messages call it, such as `--grid` or `study.toml: grid`.
        folder: where relative paths start from.
    """

    value: object
    where: str
    folder: Path


def read_study_file(path: Path) -> tuple[dict[str, Given], list[str]]:
    """Read a study file.

    Returns:
        The values by key, and all problems with the file's form; a file that is no TOML has no values.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, [f"{path}: cannot be read: {error.strerror}; expected a study file"]
    except UnicodeDecodeError:
        return {}, [f"{path}: is not UTF-8 text, so it is no study file"]
    except tomllib.TOMLDecodeError as error:
        return {}, [f"{path}: is not valid TOML: {error}"]

    given: dict[str, Given] = {}
    problems: list[str] = []
    folder = path.absolute().parent
    for table, content in document.items():
        if table not in TABLES:
            problems.append(f"{path}: {_unknown(table, tuple(TABLES), 'table')}")
        elif not isinstance(content, dict):
            problems.append(f"{path}: {table} is no table; expected [{table}] and its keys below")
        else:
            for key, value in content.items():
                if key in TABLES[table]:
                    given[key] = Given(value, f"{path}: {key}", folder)
                else:
                    problems.append(f"{path}: [{table}] {_unknown(key, TABLES[table], 'key')}")
    if "dataset" not in given:
        problems.append(f'{path}: [study] names no dataset; expected a line such as dataset = "folder:images"')
    return given, problems


def _unknown(name: str, allowed: tuple[str, ...], kind: str) -> str:
    home = next((table for table, keys in TABLES.items() if name in keys), None)
    if home:
        return f"{name} belongs in the table [{home}]"
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(allowed)}"
    return f"{name} is an unknown {kind}; {hint}"
