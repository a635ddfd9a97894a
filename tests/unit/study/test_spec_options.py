from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from study.cli.spec_options import comparison_options, flag_values, run_options, spec_options, worker_options
from study.spec_file import LOSS_KEYS, TABLES
from trainer.config import SELECTORS

RUN_ONLY = {"plan_only", "workers", "per_gpu", "dry_run"}

seen: list[dict[str, object]] = []


@click.command()
@click.option("--json", "as_json", is_flag=True)
@spec_options
@run_options
def run(**parameters: object) -> None:
    seen.append(flag_values(parameters))


@click.command()
@comparison_options
@run_options
def compare(**parameters: object) -> None:
    seen.append(flag_values(parameters))


@click.command()
@worker_options
def worker(**parameters: object) -> None:
    seen.append(flag_values(parameters))


def given(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(run, arguments)
    assert result.exit_code == 0, result.output
    return seen.pop()


def test_every_key_of_a_study_file_is_a_flag_and_the_other_way_round() -> None:
    names = {parameter.name for parameter in run.params} - {"as_json"}
    keys = {key for keys in TABLES.values() for key in keys} - {"dataset"}
    assert names == keys - set(LOSS_KEYS)
    assert {parameter.name for parameter in compare.params} == keys
    flags = {flag for parameter in run.params for flag in parameter.opts if parameter.name != "as_json"}
    assert flags == {"--" + str(name).replace("_", "-") for name in names}


def test_a_comparison_does_not_offer_what_it_refuses() -> None:
    hidden = {option.name for option in compare.params if isinstance(option, click.Option) and option.hidden}
    assert hidden == {"settings", "grid", "search", "trials", "pruner"}
    result = CliRunner().invoke(compare, ["--from", "a", "--grid", "1", "--alpha", "0.5"])
    assert result.exit_code == 0, result.output
    assert seen.pop() == {"from": "a", "grid": "1", "alpha": "0.5"}
    text = CliRunner().invoke(compare, ["--help"]).output
    assert "Passes over the training images; default 100." in text
    assert "--grid" not in text


def test_a_worker_takes_what_does_not_concern_all_workers() -> None:
    assert {parameter.name for parameter in worker.params} == set(TABLES["run"]) - RUN_ONLY


def test_what_is_not_given_is_left_out() -> None:
    assert given("--json") == {}


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (("--grid", "0.5,1.0", "--seeds", "23,24"), {"grid": "0.5,1.0", "seeds": "23,24"}),
        (("--lr-step-epochs", "3", "--split-seed", "0"), {"lr_step_epochs": "3", "split_seed": "0"}),
        (("--normalize",), {"normalize": True}),
        (
            ("--no-normalize", "--dry-run", "--allow-versions"),
            {"normalize": False, "dry_run": True, "allow_versions": True},
        ),
        (("--storage", "sqlite://", "--keep-weights", "all"), {"storage": "sqlite://", "keep_weights": "all"}),
        (("--epochs", "many", "--study", ""), {"epochs": "many", "study": ""}),
    ],
)
def test_given_flags_arrive_as_text(arguments: tuple[str, ...], values: dict[str, object]) -> None:
    assert given(*arguments) == values


def test_every_score_that_may_choose_is_named_in_the_help() -> None:
    (select,) = [option for option in run.params if isinstance(option, click.Option) and option.name == "select"]
    assert select.metavar == "SCORE"
    assert str(select.help).endswith(f": {', '.join(SELECTORS)}; default macro_f1.")


def test_every_flag_has_help() -> None:
    options = [option for option in (*run.params, *compare.params) if isinstance(option, click.Option)]
    assert all(option.help for option in options if option.name != "as_json" and not option.hidden)
