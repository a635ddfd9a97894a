"""`lmf run` and `lmf demo`: a study on this machine from plan to report."""

from __future__ import annotations

import click

from study.cli.common import quiet_log_options
from study.cli.main import DONE, INTERRUPTED, POINTS_FAILED
from study.cli.spec_options import flag_values, run_options, spec_options
from study.spec_input import DEMO_DATASET


@click.command("run")
@click.argument("dataset")
@spec_options
@run_options
@quiet_log_options
def run_command(dataset: str, log_json: bool, log_level: str, **flags: object) -> int:
    """Plan or continue the study of DATASET on this machine, train it, write the report.

    DATASET is one that `lmf data list` shows, such as ham10000 with --data, folder:PATH (a folder of images for each
    class) or csv:PATH (a table of image and label), or a study file that ends in .toml. Run again, it continues where
    it stopped; with more settings, grid values or seeds it extends the study. Lists are separated by commas.
    """
    _set_up_logs(log_json, log_level)
    return _run(dataset, flag_values(flags))


@click.command("demo")
@run_options
@quiet_log_options
def demo_command(log_json: bool, log_level: str, **flags: object) -> int:
    """Run the paper's 31 points on embedded images of digits, long-tailed by class: no GPU, server or download."""
    _set_up_logs(log_json, log_level)
    return _run(DEMO_DATASET, flag_values(flags))


def _set_up_logs(as_json: bool, level: str) -> None:
    """Set up this process's log, and that of its workers, which say more."""
    import os

    from study.logs import log_environment, set_up_logging

    set_up_logging(as_json, level, people="lmf: %(message)s")
    os.environ.update(log_environment(as_json, "debug" if level == "debug" else "info"))


def _run(dataset: str, flags: dict[str, object]) -> int:
    from study.home import find_home
    from study.progress import make_console
    from study.running import refuse_if_idle, run_study
    from study.spec_input import build_study

    spec, options = build_study(dataset, flags, resolve_model=_model_name)
    home = find_home(options.storage)
    console = make_console()
    if options.dry_run:
        from study.estimate import print_estimate

        print_estimate(spec, options, home, console)
        return DONE
    end = run_study(spec, options, home, console)
    refuse_if_idle(end)
    if end.remaining:
        return INTERRUPTED
    return POINTS_FAILED if end.failed else DONE


def _model_name(name: str) -> str:
    """The full name of a model; the paper's models and the demo's are known without loading timm."""
    from trainer.config import ALIASES, demo_recipe

    if name in ALIASES:
        return ALIASES[name]
    if name == demo_recipe().model:
        return name
    from trainer.models import resolve_model_name

    return resolve_model_name(name)
