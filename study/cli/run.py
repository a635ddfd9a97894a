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
    set_up_logs(log_json, log_level)
    return carry_out(dataset, flag_values(flags))


@click.command("demo")
@run_options
@quiet_log_options
def demo_command(log_json: bool, log_level: str, **flags: object) -> int:
    """Run the paper's 31 points on embedded images of digits, long-tailed by class: no GPU, server or download."""
    set_up_logs(log_json, log_level)
    return carry_out(DEMO_DATASET, flag_values(flags))


def set_up_logs(as_json: bool, level: str) -> None:
    """Set up this process's log, and that of its workers, which say more."""
    import os

    from study.logs import log_environment, set_up_logging

    set_up_logging(as_json, level, people="lmf: %(message)s")
    os.environ.update(log_environment(as_json, "debug" if level == "debug" else "info"))


def carry_out(dataset: str, flags: dict[str, object], *, comparing: bool = False) -> int:
    """Plan or continue a study and train it, or only tell what that would take.

    Args:
        dataset: a dataset's name, or a study file.
        flags: the flags that were given.
        comparing: losses are to be compared.

    Returns:
        The exit code.
    """
    from study.comparison import settle_factors
    from study.home import find_home
    from study.progress import make_console
    from study.running import refuse_if_idle, run_study
    from study.spec_input import build_study

    spec, options = build_study(dataset, flags, resolve_model=full_model_name, comparing=comparing)
    home = find_home(options.storage)
    console = make_console()
    spec, said = settle_factors(spec, home)
    for line in said:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if options.dry_run:
        from study.estimate import print_estimate

        print_estimate(spec, options, home, console)
        return DONE
    end = run_study(spec, options, home, console)
    refuse_if_idle(end)
    if end.remaining:
        return INTERRUPTED
    return POINTS_FAILED if end.failed else DONE


def full_model_name(name: str) -> str:
    """The full name of a model; the paper's models and the demo's are known without loading timm."""
    from trainer.config import ALIASES, demo_recipe

    if name in ALIASES:
        return ALIASES[name]
    if name == demo_recipe().model:
        return name
    from trainer.models import resolve_model_name

    return resolve_model_name(name)
