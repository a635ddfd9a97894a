"""How Alembic runs here: on a connection that the caller gives, seeing our tables only."""

from __future__ import annotations

from typing import Any

from alembic import context

from storage.preparation import VERSION_TABLE
from storage.schema import Base


def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out Optuna's tables, which share the database."""
    return kind != "table" or (name or "").startswith("lmf_")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=include_object,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
