"""Disorder for a study under way: workers killed and suspended, connections cut, the server stopped and crashed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from lmf_testing.chained import (
    EPOCHS,
    PACE,
    open_artifacts,
    set_pace,
    start_chained_worker,
)
from lmf_testing.fencing import (
    Held,
    database_seconds,
    describe_difference,
    find_held,
    has_moved_on,
    is_closed_by_another,
    take_snapshot,
)
from lmf_testing.postgres import Server
from storage.database import Database
from storage.file_names import checkpoint_id
from storage.ledger import Ledger
from storage.workers import Workers

KILL, KILL_WITH_DISK, SUSPEND, STOP, CRASH, CUT = (
    "killed",
    "killed with its checkpoint",
    "suspended",
    "server stopped",
    "server crashed",
    "connection cut",
)
MOST_SUSPENDED = 3
NEXT = 10
"""Of so many events that come next, one happens."""
STUDY_BEHIND = 0.85
"""So much of the study is to be done when all disorder is over."""
PACE_SECONDS, LONGEST_PACE_SECONDS = 20.0, 3.0
"""How long an epoch takes where the study is ahead by all of it, and at most."""
TICK_SECONDS, LOOK_SECONDS = 0.02, 0.2


@dataclass(frozen=True)
class Plan:
    """How much of which disorder is to happen.

    Attributes:
        kills: workers killed by SIGKILL; every sixth loses its checkpoint as well, as with the disk of its machine.
        suspensions: workers stopped by SIGSTOP until another has finished what they had, then continued.
        outages: how often the server goes away, by a fast stop or by a crash in turn.
        cuts: connections of workers that the server ends.
        gap_seconds: the longest pause between two of these.
        lease_seconds: the workers' lease. Every fifth outage lasts longer.
    """

    kills: int
    suspensions: int = 0
    outages: int = 0
    cuts: int = 0
    gap_seconds: float = 0.25
    lease_seconds: float = 2.5

    @property
    def counts(self) -> Counter[str]:
        """How often each kind is to happen."""
        with_disk, crashes = self.kills // 6, self.outages // 2
        return Counter(
            {
                KILL: self.kills - with_disk,
                KILL_WITH_DISK: with_disk,
                SUSPEND: self.suspensions,
                STOP: self.outages - crashes,
                CRASH: crashes,
                CUT: self.cuts,
            }
        )

    def events(self, chance: random.Random) -> list[str]:
        """All that is to happen, in an order by chance."""
        events = list(self.counts.elements())
        chance.shuffle(events)
        return events


@dataclass
class Suspension:
    """A suspended worker, and what was written of its point when it was woken up."""

    process: ForkServerProcess
    held: Held
    before: dict[str, Any] | None = None
    woken_at: float = 0.0


@dataclass
class Disorder:
    """Runs workers on a planned study until it is done, and lets happen what the plan says meanwhile.

    Attributes:
        plan: what is to happen.
        url: where the study is planned.
        study_id: the study.
        folder: of the workers.
        workers: how many work at a time; a killed one is replaced by another.
        seed: of chance.
        server: the server to disturb; None where the database is SQLite.
        happened: how often what has happened.
        fenced: suspended workers that were proved to have written nothing more.
    """

    plan: Plan
    url: str
    study_id: int
    folder: Path
    workers: int
    seed: int
    server: Server | None = None
    happened: Counter[str] = field(default_factory=Counter)
    fenced: int = 0

    def run(self, limit_seconds: float) -> float:
        """Run the study to its end.

        Returns:
            Seconds that it took.

        Raises:
            AssertionError: a worker ended that nobody killed, a fenced worker wrote, or the time is up.
        """
        self._chance = random.Random(self.seed)
        self._artifacts = open_artifacts(self.folder)
        self._suspended: list[Suspension] = []
        self._outages = 0
        started = time.monotonic()
        with closing(Database.open(self.url)) as self._database, self._running_workers():
            events = self.plan.events(self._chance)
            total = len(events)
            next_event = next_look = time.monotonic()
            while Ledger(self._database).open_points(self.study_id) or self._suspended:
                seconds = time.monotonic() - started
                assert seconds < limit_seconds, f"not done; happened: {self.happened}\n{self.log_tail()}"
                if time.monotonic() >= next_look:
                    self._set_pace(len(events), total)
                    self._look_after_suspended()
                    next_look = time.monotonic() + LOOK_SECONDS
                if events and time.monotonic() >= next_event:
                    # What cannot happen just now, such as one suspension more, must not keep others waiting.
                    number = self._chance.randrange(max(0, len(events) - NEXT), len(events))
                    if self._happen(events[number]):
                        self.happened[events.pop(number)] += 1
                        next_event = time.monotonic() + self._chance.uniform(0.0, self.plan.gap_seconds)
                self._replace_dead()
                time.sleep(TICK_SECONDS)
            for process in self._processes:
                process.join(limit_seconds)
                assert process.exitcode == 0, self.log_tail()
        assert not events, f"the study was done before all disorder was over: {self.happened}"
        return time.monotonic() - started

    def log_tail(self) -> str:
        """The end of what the workers said."""
        return (self.folder / "workers.log").read_text()[-6000:]

    @contextmanager
    def _running_workers(self) -> Iterator[None]:
        self._processes = [self._start() for _ in range(self.workers)]
        try:
            yield
        finally:
            for process in self._processes:
                if process.is_alive():
                    process.kill()
                process.join()

    def _start(self) -> ForkServerProcess:
        return start_chained_worker(self.url, self.folder, self.plan.lease_seconds)

    def _set_pace(self, events: int, total: int) -> None:
        """Let epochs take the longer, the further the study is ahead of the disorder, so that neither ends alone."""
        if not events:
            (self.folder / PACE).unlink(missing_ok=True)
            return
        with self._database.read() as connection:
            points, done = connection.execute(sa.text("SELECT count(*), sum(last_epoch) FROM lmf_points")).one()
        ahead = done / (points * EPOCHS) - STUDY_BEHIND * (total - events) / total
        set_pace(self.folder, min(LONGEST_PACE_SECONDS, max(0.0, PACE_SECONDS * ahead)))

    def _happen(self, kind: str) -> bool:
        """Let something happen; False where it cannot happen just now."""
        if kind in (KILL, KILL_WITH_DISK):
            return self._kill(with_disk=kind == KILL_WITH_DISK)
        if kind == SUSPEND:
            return len(self._suspended) < MOST_SUSPENDED and self._suspend()
        if kind == CUT:
            return self._cut()
        return self._take_server_away("fast" if kind == STOP else "immediate")

    def _halt_one(self) -> tuple[ForkServerProcess, Held] | None:
        """Halt a worker that holds a point of which no other was lost just before.

        A third loss in a row without a new epoch fails a point, as it should, and that is tested for itself.
        """
        process = self._chance.choice(self._processes)
        if not process.is_alive() or any(process is one.process for one in self._suspended):
            return None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        while psutil.Process(process.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
        held = find_held(self._database, process.pid)
        if held is None or held.fruitless_losses:
            _go_on(process)
            return None
        return process, held

    def _kill(self, *, with_disk: bool) -> bool:
        halted = self._halt_one()
        if halted is None:
            return False
        process, held = halted
        checkpoint = self._artifacts.local_path(checkpoint_id(held.token))
        assert checkpoint is not None
        if with_disk and not checkpoint.exists():
            _go_on(process)
            return False
        process.kill()
        process.join()
        if with_disk:
            checkpoint.unlink()
        return True

    def _suspend(self) -> bool:
        halted = self._halt_one()
        if halted is None:
            return False
        process, held = halted
        self._suspended.append(Suspension(process, held))
        return True

    def _look_after_suspended(self) -> None:
        """Wake up whose point another has finished; prove that it writes nothing more for it."""
        for one in list(self._suspended):
            if one.before is None:
                if is_closed_by_another(self._database, one.held):
                    one.before = take_snapshot(self._database, self._artifacts, one.held)
                    one.woken_at = database_seconds(self._database)
                    _go_on(one.process)
            elif not one.process.is_alive() or has_moved_on(self._database, one.held, one.woken_at):
                after = take_snapshot(self._database, self._artifacts, one.held)
                assert after == one.before, f"a fenced worker wrote: {describe_difference(one.before, after)}"
                assert not after["checkpoint"]
                self._suspended.remove(one)
                self.fenced += 1

    def _cut(self) -> bool:
        """End a connection of a worker, rather one that is in use."""
        workers = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        for query in (*[f"{workers} AND state <> 'idle'"] * 20, workers):
            with self._database.read() as connection:
                pids = list(connection.scalars(sa.text(query)))
            if pids:
                with self._database.begin() as connection:
                    end = sa.text("SELECT pg_terminate_backend(:pid)")
                    return bool(connection.scalar(end, {"pid": self._chance.choice(pids)}))
        return False

    def _take_server_away(self, mode: str) -> bool:
        assert self.server is not None
        self._outages += 1
        down = self._chance.uniform(0.0, 0.5) if self._outages % 5 else self.plan.lease_seconds + 0.5
        self.server.control("-m", mode, "stop")
        time.sleep(down)
        self.server.start()
        return True

    def _replace_dead(self) -> None:
        """Start a worker for each that was killed, as its supervisor would, or as another machine would notice."""
        for number, process in enumerate(self._processes):
            if process.is_alive() or process.exitcode == 0:
                continue
            assert process.exitcode == -signal.SIGKILL, f"a worker ended with {process.exitcode}\n{self.log_tail()}"
            if self._chance.random() < 0.5:
                Workers(self._database).release_dead()
            self._processes[number] = self._start()


def _go_on(process: ForkServerProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGCONT)
