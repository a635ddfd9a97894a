"""`lmf model fetch|list`: pretrained weights for machines that cannot reach the hub."""

from __future__ import annotations

from pathlib import Path

import click

from study.cli.common import print_json
from study.home import find_home


@click.group("model")
def model_command() -> None:
    """Fetch pretrained weights, for machines without a network, and list them."""


@model_command.command("fetch")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to put them into; default weights in LMF_HOME, where `lmf run` finds them.",
)
@click.option("--force", is_flag=True, help="Fetch them again although they are there.")
def fetch_command(names: tuple[str, ...], folder: Path | None, force: bool) -> None:
    """Fetch the pretrained weights of models from the Hugging Face hub into a folder, one file a model.

    NAME is a model as `lmf run --model` takes it. Copied into weights in the LMF_HOME of a machine without a
    network, such a file stands in for the hub there.
    """
    from trainer.fetching import fetch_weights
    from trainer.models import full_model_name
    from trainer.weights_folder import weights_path

    folder = (folder or find_home().weights).expanduser().absolute()
    for model in dict.fromkeys([full_model_name(name) for name in names]):
        was_there = weights_path(folder, model).is_file() and not force
        path = fetch_weights(model, folder, force=force)
        how = "there already" if was_there else "fetched"
        click.echo(f"{model}: {how}, {_size_text(path.stat().st_size)} in {path}")


@model_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(as_json: bool) -> None:
    """List the pretrained weights that were fetched, with their sizes."""
    from trainer.weights_folder import list_weights

    folder = find_home().weights
    stored = list_weights(folder)
    if as_json:
        models = [{"model": item.model, "path": str(item.path), "bytes": item.bytes} for item in stored]
        print_json({"folder": str(folder), "models": models})
        return
    if not stored:
        click.echo(f"no weights in {folder}; `lmf model fetch NAME` puts them there")
    for item in stored:
        click.echo(f"{item.model}: {_size_text(item.bytes)} in {item.path}")


def _size_text(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
