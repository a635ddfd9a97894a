"""Processes that ask a search for points; they know the ledger and Optuna, and load no torch."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier as BarrierType

from storage.database import Database
from storage.search import Search
from storage.trials import TrialMirror


def ask_at_once(url: str, study_id: int, processes: int) -> list[int | None]:
    """Let so many processes ask for points at once, each until the budget is used up.

    Returns:
        Their exit codes.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    workers = [context.Process(target=_ask, args=(url, study_id, barrier)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(240)
    return [worker.exitcode for worker in workers]


def _ask(url: str, study_id: int, barrier: BarrierType) -> None:
    database = Database.open(url, create=False)
    mirror = TrialMirror.open(database)
    search = Search.open(database, mirror, study_id)
    assert search is not None
    barrier.wait(120)
    while search.plan_next():
        pass
    assert "torch" not in sys.modules, "a ledger's process loads no torch"
    mirror.close()
    database.close()
