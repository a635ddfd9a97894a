"""`lmf compare`: losses on one dataset with one model, from plan to report."""

from __future__ import annotations

import click

from study.cli.common import quiet_log_options
from study.cli.run import carry_out, set_up_logs
from study.cli.spec_options import comparison_options, flag_values, run_options


@click.command("compare")
@click.argument("dataset")
@comparison_options
@run_options
@quiet_log_options
def compare_command(dataset: str, log_json: bool, log_level: str, **flags: object) -> int:
    """Plan or continue a comparison of losses on DATASET on this machine, train it, write the report.

    DATASET is as `lmf run` takes it. Each loss is trained once with each seed, by the same recipe. Run again, it
    continues where it stopped; with more losses or seeds it extends the comparison. Lists are separated by commas.
    """
    set_up_logs(log_json, log_level)
    return carry_out(dataset, flag_values(flags), comparing=True)
