"""Whether this machine could work on the studies that are open: versions, images, weights."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.queries import StudyRecord
from study.doctor.diagnosis import Diagnosis, ok, one_line, problem, warning
from study.errors import StudyError
from study.home import Home
from study.images import data_places
from study.plan import stored_spec
from study.spec import StudySpec
from trainer.config import ALIASES
from trainer.data.cache import open_prepared, prepared_folder
from trainer.data.catalog import find_source
from trainer.errors import TrainerError
from trainer.weights_folder import list_weights

HUB_SECONDS = 3.0
HUB = "https://huggingface.co"


def check_study(record: StudyRecord, home: Home) -> Iterator[Diagnosis]:
    """Whether a worker of this machine could train an open study; nothing is decoded."""
    from study.worker import check_versions, library_versions

    check = f"study {record.name}"
    try:
        spec = stored_spec(record.spec)
        check_versions(record.spec["versions"], library_versions(), record.name)
    except (StudyError, TrainerError) as error:
        found, _, advice = one_line(error).removeprefix(f"{record.name}: ").partition("; ")
        yield warning(check, found, f"{advice or 'use the lmf that planned it'}; workers here refuse this study")
        return
    left = f"{record.remaining} of {record.total} points left"
    recipe = spec.recipe
    if open_prepared(home.cache, record.fingerprint, recipe.image_size, recipe.exact) is not None:
        yield ok(check, f"{left}; its images are decoded here")
        return
    folder = prepared_folder(home.cache, record.fingerprint, recipe.image_size, recipe.exact)
    damaged = f"; {folder} is damaged" if folder.exists() else ""
    places = _places(spec)
    there = [place for place in places if os.access(place, os.R_OK)]
    if not places:
        yield ok(check, f"{left}; the first worker here makes its images{damaged}")
    elif there:
        yield ok(check, f"{left}; the first worker here decodes its images, from {there[0]}{damaged}")
    else:
        yield warning(
            check,
            f"{left}; its images are neither decoded here nor at {' or '.join(map(str, places))}{damaged}",
            f"put them there or name their folder by LMF_DATA, or copy cache/{folder.name} into {home.root} from a "
            "machine that has it; until then workers here skip this study",
        )


def _places(spec: StudySpec) -> list[Path]:
    """Where a worker would look for a study's images; nowhere where they come from no path."""
    is_path = find_source(spec.dataset).argument == "PATH"
    if spec.data is None and not is_path:
        return []
    named = [(name.partition(":")[2] if is_path else "", data) for name, data in data_places(spec.dataset, spec.data)]
    return [((data or Path.cwd()) / path).absolute() for path, data in named]


def check_data(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether the folders of data that `LMF_DATA` names can be read."""
    folders = [Path(text).expanduser() for text in environment.get("LMF_DATA", "").split(os.pathsep) if text]
    if not folders:
        yield ok("data", "neither --data nor LMF_DATA names a folder of images")
    for folder in folders:
        if not folder.exists():
            yield problem("data", f"{folder} is not there", "give the right path by --data or LMF_DATA, or mount it")
        elif not os.access(folder, os.R_OK | (os.X_OK if folder.is_dir() else 0)):
            yield problem("data", f"{folder} cannot be read", "change its rights, or give another path")
        else:
            yield ok("data", str(folder))


def check_weights(home: Home, records: Sequence[StudyRecord], environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether the pretrained weights that the open studies ask for can be had.

    Args:
        home: its folder of weights is looked at.
        records: the open studies.
        environment: the environment variables.
    """
    stored = [weights.model for weights in list_weights(home.weights)]
    told = f"{len(stored)} in {home.weights}" + (f" ({', '.join(stored[:5])})" if stored else "")
    wanted: set[str] = set()
    for record in records:
        recipe: dict[str, Any] = record.spec["recipe"]
        weights = str(recipe.get("weights", "hub"))
        if weights == "hub" and not _is_stored(record.model, stored):
            wanted.add(record.model)
        elif weights not in ("hub", "none") and not Path(weights).expanduser().is_file():
            advice = "copy the file there; until then points of this study fail here"
            yield problem("weights", f"study {record.name} needs {weights}, which is not here", advice)
    reason = ask_hub(environment)
    if reason is None:
        yield ok("weights", f"{told}; the hub can be reached")
        return
    found = f"{told}; the hub cannot be reached ({reason})"
    if wanted or not stored:
        what = " ".join(sorted(wanted)) or "MODEL"
        advice = (
            f"on a machine with a network: lmf model fetch {what} --to DIR; then copy the files into {home.weights}"
        )
        yield warning("weights", found, advice)
    else:
        yield ok("weights", found)


def _is_stored(model: str, stored: Sequence[str]) -> bool:
    name = ALIASES.get(model, model)
    return any(name == other or ("." not in name and other.partition(".")[0] == name) for other in stored)


def ask_hub(environment: Mapping[str, str], seconds: float = HUB_SECONDS) -> str | None:
    """Why the hub of weights cannot be reached, in a few words, or None where it answers.

    Args:
        environment: `HF_ENDPOINT` names another hub, `HF_HUB_OFFLINE` forbids to ask it.
        seconds: how long to wait.
    """
    if environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set"
    endpoint = environment.get("HF_ENDPOINT") or HUB
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=seconds):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return one_line(getattr(error, "reason", None) or error) or type(error).__name__
