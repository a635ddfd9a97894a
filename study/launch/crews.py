"""How many workers this machine puts to studies that are planned already, and where they train."""

from __future__ import annotations

from collections.abc import Sequence

from storage.agenda import open_studies
from storage.database import Database
from storage.queries import StudyRecord, read_study
from storage.schema import PAUSED
from study.devices import list_devices
from study.machine import Crew, choose_crew
from study.plan import stored_spec
from study.run_options import RunOptions
from trainer.config import Recipe


def read_open_studies(database: Database, names: Sequence[str]) -> tuple[StudyRecord, ...]:
    """Those of some studies in which points are left to train, oldest first.

    Args:
        database: where they are planned.
        names: the studies; none for all that are not paused.

    Raises:
        StorageError: the database cannot be read.
    """
    found = [study for study in open_studies(database) if study.name in names or (not names and study.state != PAUSED)]
    return tuple(read_study(database, study.name) for study in found)


def choose_common_crew(records: Sequence[StudyRecord], options: RunOptions) -> Crew:
    """The workers that this machine bears whichever of some studies they serve.

    Args:
        records: the studies; with none, there is one worker a device unless `options` say how many.
        options: what the user wants.

    Raises:
        StudyError: a device or GPU is asked for that is not there.
        TrainerError: a model cannot be built, or not even one worker finds the memory it needs.
    """
    if not records:
        devices = list_devices(options.device)
        per_gpu = options.per_gpu if isinstance(options.per_gpu, int) else 1
        return Crew(devices, options.workers or len(devices) * per_gpu)
    kinds: dict[tuple[Recipe, int], int] = {}
    for record in records:
        recipe, classes, images = (
            stored_spec(record.spec).recipe,
            len(record.class_names),
            sum(map(sum, record.counts.values())),
        )
        # What a worker takes depends on these alone, so each kind of training is measured once.
        kinds[recipe, classes] = max(images, kinds.get((recipe, classes), 0))
    crews = [choose_crew(recipe, classes, images, options) for (recipe, classes), images in kinds.items()]
    return min(crews, key=lambda crew: crew.workers)
