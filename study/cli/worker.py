"""`lmf worker`: takes points of planned studies until none is left."""

from __future__ import annotations

import threading

import click

from study.cli.common import choose_studies, log_options
from study.cli.main import DONE, INTERRUPTED, POINTS_FAILED
from study.cli.spec_options import flag_values, limit_options, read_limits, worker_options


@click.command("worker")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@worker_options
@limit_options
@log_options
def worker_command(studies: tuple[str, ...], log_json: bool, log_level: str, **flags: object) -> int:
    """Take points of the named studies, or of all whose data are here, until none is left.

    The studies must have been planned by `lmf run`. A worker trains on one device, one point after another; their
    images are taken from the cache in LMF_HOME, from where they were planned, or from the folders of LMF_DATA, and must
    be those that the study was planned with. Asked to stop by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2, it writes a
    checkpoint, gives its point back and exits 3.
    """
    from storage.database import Database
    from study.attempt import AttemptEnd
    from study.home import find_home
    from study.logs import set_up_logging
    from study.serving import work_on_studies
    from study.spec_input import read_run_options
    from study.worker import patiently, stop_on_signals

    set_up_logging(log_json, log_level)
    options, limits = read_run_options(flag_values(flags)), read_limits(flags)
    stop = threading.Event()
    with stop_on_signals(stop):
        home = find_home(options.storage)
        patience = options.database_patience
        database = patiently(lambda: Database.open(home.storage_url, create=False), patience, stop)
        try:
            names = patiently(lambda: choose_studies(database, studies), patience, stop) if studies else ()
            served = work_on_studies(home, database, names, options, stop, limits)
        finally:
            database.close()
    if served.remaining and (stop.is_set() or limits.max_points is not None):
        return INTERRUPTED
    return POINTS_FAILED if served.ends[AttemptEnd.FAILED] else DONE
