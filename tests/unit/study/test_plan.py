"""What is stored when a study is planned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lmf_testing.light import FACTS

from storage.database import Database
from storage.queries import list_studies
from storage.trials import TrialMirror
from study.errors import StudyError
from study.plan import plan_study
from study.spec import StudySpec
from trainer.config import Recipe

SPEC = StudySpec(
    name="light", dataset="folder:light", title="light", data=None, model="m", recipe=Recipe(), settings=("beta",)
)


def test_a_study_whose_precision_is_still_open_is_not_stored(sqlite_url: str) -> None:
    """As where the stored study that was to be continued is deleted meanwhile."""
    database = Database.open(sqlite_url)
    mirror = TrialMirror.open(database)
    versions = {"torch": "2.6.0", "timm": "1.0.15"}
    try:
        auto = replace(SPEC, recipe=replace(SPEC.recipe, precision="auto"))
        with pytest.raises(StudyError, match="light was deleted while this run prepared to continue it"):
            plan_study(database, mirror, auto, FACTS, versions)
        assert list_studies(database) == ()
        plan_study(database, mirror, SPEC, FACTS, versions)
        again = plan_study(database, mirror, replace(auto, unasked=frozenset({"precision"})), FACTS, versions)
        assert again.spec.recipe.precision == "fp32"
    finally:
        mirror.close()
        database.close()
