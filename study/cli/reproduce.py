"""`lmf reproduce`: the paper's experiments on the datasets that are at hand."""

from __future__ import annotations

import click

from study.cli.common import quiet_log_options
from study.cli.main import DONE, INTERRUPTED, POINTS_FAILED
from study.cli.run import full_model_name, set_up_logs
from study.cli.spec_options import flag_values, reproduction_options, run_options
from study.errors import StudyError
from study.spec import COMPARISON_EPOCHS
from trainer.config import Recipe


@click.command("reproduce")
@click.option(
    "--data",
    metavar="DIR",
    help="The folder that holds the folders of the datasets; default LMF_DATA, which may name several.",
)
@click.option(
    "--datasets",
    metavar="LIST",
    help="Which of odir5k, ham10000, isic2019, covid19-radiography; default: those at hand.",
)
@click.option(
    "--models", metavar="LIST", help="timm models or short names; default efficientnetv2,resnet50,densenet121."
)
@click.option("--epochs", metavar="N", help=f"Epochs of the studies of alpha and beta; default {Recipe.epochs}.")
@click.option("--loss-epochs", metavar="N", help=f"Epochs of the comparisons of losses; default {COMPARISON_EPOCHS}.")
@click.option(
    "--factors",
    metavar="study|paper|A,B",
    help="LMF's alpha and beta where losses are compared: the best of the study on the same dataset with the same "
    "model, the paper's best, or two numbers; default study.",
)
@reproduction_options
@run_options
@quiet_log_options
def reproduce_command(
    datasets: str | None,
    models: str | None,
    loss_epochs: str | None,
    factors: str | None,
    log_json: bool,
    log_level: str,
    **flags: object,
) -> int:
    """Carry out the paper's experiments: for each dataset and model a study of alpha and beta, and losses compared.

    First it tells which datasets are at hand, and what is left to train. Run again, it continues where it stopped. The
    studies are those that `lmf run` and `lmf compare` make, DATASET-MODEL and DATASET-MODEL-losses, and in the end one
    report shows them all beside the paper's tables. Lists are separated by commas.
    """
    set_up_logs(log_json, log_level)
    from study.data_search import data_roots, search_data
    from study.home import find_home
    from study.progress import make_console
    from study.reproduction import reproduce
    from study.reproduction_forecast import forecast, print_data, print_factors, print_forecast
    from study.reproduction_plan import check_flags, make_experiments, read_choice

    given = flag_values(flags)
    choice = read_choice({"datasets": datasets, "models": models, "factors": factors}, given, full_model_name)
    split_seed, drop_empty = check_flags(given, loss_epochs)
    data = given.pop("data", None)
    console = make_console()
    found, missing = search_data(
        choice.datasets, data_roots(None if data is None else str(data)), split_seed, drop_empty
    )
    print_data(found, missing, console)
    if not found or (choice.are_named and missing):
        names = ", ".join(one.dataset for one in missing)
        raise StudyError(f"--data: no data that can be trained on for {names}, as said above; nothing was started")
    experiments, options = make_experiments(choice, found, given, full_model_name, loss_epochs)
    home = find_home(options.storage)
    forecasts = forecast(experiments, options, home)
    print_forecast(forecasts, console)
    if options.dry_run:
        print_factors(forecasts, console)
        return POINTS_FAILED if any(one.refusal is not None for one in forecasts) else DONE
    end = reproduce(experiments, options, home, console)
    if end.interrupted or (end.remaining and not options.plan_only):
        return INTERRUPTED
    unusable = any(one.is_there for one in missing)
    return POINTS_FAILED if end.failed or end.refused or unusable else DONE
