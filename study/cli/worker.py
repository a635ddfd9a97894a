"""`lmf worker`: takes points of planned studies until none is left."""

from __future__ import annotations

import logging
import sys
import threading

import click

from study.cli.common import choose_studies, open_existing
from study.cli.main import DONE, INTERRUPTED, POINTS_FAILED
from study.cli.spec_options import flag_values, worker_options


@click.command("worker")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@worker_options
def worker_command(studies: tuple[str, ...], **flags: object) -> int:
    """Take points of the named studies, or of all, one after another until none is left.

    The studies must have been planned by `lmf run`. Their images are taken from the cache in LMF_HOME, or else read
    from the path that the study names, and must be those that it was planned with.
    """
    from study.attempt import AttemptEnd
    from study.spec_input import read_run_options
    from study.worker import stop_on_signals, work_on_study

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    options = read_run_options(flag_values(flags))
    stop = threading.Event()
    failed = 0
    with stop_on_signals(stop):
        home, database = open_existing(options.storage)
        try:
            for name in choose_studies(database, studies):
                if not stop.is_set():
                    failed += work_on_study(home, database, name, options, stop)[AttemptEnd.FAILED]
        finally:
            database.close()
    return INTERRUPTED if stop.is_set() else POINTS_FAILED if failed else DONE
