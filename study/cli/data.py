"""`lmf data list|show|check|prepare`: datasets before anything is trained on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from study.cli.common import print_json, storage_option
from study.errors import StudyError
from study.home import data_root, find_home

if TYPE_CHECKING:
    from rich.console import Console

    from study.datasets import DataQuery, DataView

FINDINGS_FOUND = 1

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("data")
def data_command() -> None:
    """List, show, check and prepare datasets."""


def data_option(command: Command) -> Command:
    """Add `--data PATH` to a command."""
    return click.option(
        "--data", metavar="PATH", type=click.Path(path_type=Path), help="Where the data lie; default LMF_DATA."
    )(command)


def split_options(command: Command) -> Command:
    """Add the flags that say how a dataset is split, as `lmf run` has them."""
    for option in (
        click.option("--drop-empty", is_flag=True, help="Leave out classes that have no image."),
        click.option(
            "--split-file", metavar="FILE", type=click.Path(path_type=Path), help="A table of image and split."
        ),
        click.option("--split-seed", metavar="N", type=click.IntRange(0, 2**32 - 1), help="Seed of the split."),
        click.option("--group", metavar="lesion|patient|COLUMN", help="Keep images of one lesion or patient together."),
    ):
        command = option(command)
    return command


@data_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_command(as_json: bool) -> None:
    """List the datasets that can be named, with licence, source and what to download."""
    from trainer.data.catalog import dataset_sources

    sources = dataset_sources().values()
    if as_json:
        keys = ("summary", "licence", "origin", "download")
        documents = [
            {"dataset": source.form, **{key: getattr(source, key) for key in keys}, "groups": list(source.groups)}
            for source in sources
        ]
        print_json({"datasets": documents})
        return
    for source in sources:
        groups = f" · groups: {', '.join(source.groups)}" if source.groups else ""
        click.echo(f"{source.form}: {source.summary}{groups}")
        click.echo(f"    source:   {source.origin}")
        click.echo(f"    licence:  {source.licence}")
        click.echo(f"    download: {source.download}")


@data_command.command("show")
@click.argument("dataset")
@data_option
@click.option("--no-images", is_flag=True, help="Read the label table alone.")
@split_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the images per class as a figure: .html, .png, .svg or .pdf.",
)
@click.option(
    "--save-split",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write which image is in which part, for --split-file.",
)
def show_command(
    dataset: str, no_images: bool, as_json: bool, plot: Path | None, save_split: Path | None, **options: Any
) -> None:
    """Show the classes of DATASET with their images per split, its groups and its fingerprints."""
    from study.cli.data_text import print_view
    from study.datasets import DataQuery, find_data, read_fingerprint, refuse_bad_labels, show_document, view_data
    from study.progress import make_console, progress_bars

    query = DataQuery(dataset, with_images=not no_images, **options)
    found = find_data(query)
    refuse_bad_labels(found)
    view = view_data(query, found)
    fingerprint = None
    if query.with_images:
        with progress_bars(_bar_console()) as progress:
            fingerprint = read_fingerprint(found.dataset, find_home(), progress)
    document = show_document(view, fingerprint)
    written = _write_split(view, save_split) + _write_plot(document, plot)
    if as_json:
        print_json(document)
        return
    print_view(make_console(), document, view)
    for path in written:
        click.echo(f"written: {path}")


@data_command.command("check")
@click.argument("dataset")
@data_option
@click.option("--no-images", is_flag=True, help="Check the label table and the split alone.")
@split_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--strict", is_flag=True, help="Exit 1 on any finding.")
def check_command(dataset: str, no_images: bool, as_json: bool, strict: bool, **options: Any) -> int:
    """Look at every image and row of DATASET, and tell all that is wrong before anything is trained.

    Errors are what `lmf run` refuses: bad rows, unreadable images, empty classes. Warnings are what a training would
    silently suffer from: duplicates, label conflicts, blank images, lesions or patients in training and test.
    """
    from study.cli.data_text import print_findings
    from study.datasets import DataQuery, check_data
    from study.progress import make_console, progress_bars

    with progress_bars(_bar_console()) as progress:
        view, findings = check_data(DataQuery(dataset, with_images=not no_images, **options), progress)
    if as_json:
        kinds: dict[str, int] = defaultdict(int)
        for finding in findings:
            kinds[finding.kind] += 1
        print_json(
            {
                "dataset": view.dataset.name,
                "images": len(view.dataset),
                "counts": kinds,
                "leakage": [leakage.to_dict() for leakage in view.leakage],
                "findings": [
                    {
                        "kind": finding.kind,
                        "severity": finding.severity,
                        "message": finding.message,
                        "images": list(finding.images),
                    }
                    for finding in findings
                ],
            }
        )
    else:
        print_findings(make_console(), view, findings)
    return FINDINGS_FOUND if strict and findings else 0


@data_command.command("prepare")
@click.argument("dataset", required=False)
@data_option
@click.option(
    "--image-size", metavar="N", type=click.IntRange(16, 2048), help="Side in pixels; default that of the recipe."
)
@click.option("--exact", is_flag=True, help="Decode JPEGs at full size before shrinking them: slower.")
@click.option("--drop-empty", is_flag=True, help="Leave out classes that have no image.")
@click.option("--clean", is_flag=True, help="Remove decoded images that neither DATASET nor a stored study needs.")
@click.option("--dry-run", is_flag=True, help="With --clean: only tell what would be removed.")
@storage_option
def prepare_command(
    dataset: str | None,
    data: Path | None,
    image_size: int | None,
    exact: bool,
    drop_empty: bool,
    clean: bool,
    dry_run: bool,
    storage: str | None,
) -> None:
    """Decode and shrink the images of DATASET once, for all trainings on this machine.

    `lmf run` does it by itself where it was not done. An interrupted preparation goes on where it was, and one that is
    there is read again and mended if the disk damaged it. With --clean it also removes what is no longer needed;
    DATASET may then be left out.
    """
    if dataset is None and not clean:
        raise click.UsageError("Missing argument 'DATASET'; `lmf data list` shows what there is.")
    if dry_run and not clean:
        raise click.UsageError("--dry-run: goes with --clean only")
    home = find_home(storage)
    keep = []
    if dataset is not None:
        from study.datasets import DataQuery
        from study.progress import make_console, progress_bars

        query = DataQuery(dataset, data, drop_empty=drop_empty)
        with progress_bars(make_console()) as progress:
            keep.append(_prepare(query, image_size, exact, home, progress))
    if clean:
        from study.cleaning import clean_images

        removed = clean_images(home, keep, dry_run=dry_run)
        for item in removed:
            click.echo(f"{'would remove' if dry_run else 'removed'}: {item.name} ({item.bytes / 1e6:,.1f} MB)")
        total = sum(item.bytes for item in removed) / 1e6
        click.echo(f"{total:,.1f} MB {'would be ' if dry_run else ''}freed in {home.cache}")


def _prepare(query: DataQuery, size: int | None, exact: bool, home: Any, progress: Any) -> tuple[str, int, bool]:
    """Prepare a dataset and say where it is; gives the key of what was prepared."""
    import time

    from study.images import prepare_images
    from study.spec_input import DEMO_DATASET
    from trainer.config import Recipe, demo_recipe
    from trainer.data.cache import prepared_folder
    from trainer.data.catalog import open_dataset

    dataset = open_dataset(query.dataset, data_root(query.data), drop_empty=query.drop_empty)
    recipe = demo_recipe() if query.dataset == DEMO_DATASET else Recipe()
    size = size or recipe.image_size
    started = time.monotonic()
    prepared = prepare_images(dataset, size, home, exact=exact, verify=True, report=progress)
    seconds = time.monotonic() - started
    folder = prepared_folder(home.cache, prepared.fingerprint, size, exact)
    click.echo(
        f"{dataset.name}: {len(dataset):,} images at {size} x {size}, {prepared.images.nbytes / 1e6:,.1f} MB, "
        f"ready after {seconds:.1f} s in {folder}"
    )
    return prepared.fingerprint, size, exact


def _bar_console() -> Console:
    """A console on stderr for progress bars, so that stdout holds the answer alone."""
    from rich.console import Console

    return Console(stderr=True)


def _write_split(view: DataView, path: Path | None) -> list[Path]:
    if path is None:
        return []
    from study.reporting.files import write_text
    from trainer.data.split_file import split_file_text

    if view.split is None:
        raise StudyError(f"--save-split: there is no split to save: {view.no_split}")
    write_text(path, split_file_text(view.dataset, view.split))
    return [path]


def _write_plot(document: dict[str, Any], path: Path | None) -> list[Path]:
    if path is None:
        return []
    from study.reporting.figures import class_distribution
    from study.reporting.files import write_figure
    from study.reporting.rows import ClassCount

    rows = [
        ClassCount(item["name"], item["train"], item["val"], item["test"], item["total"])
        for item in document["classes"]
    ]
    return [write_figure(class_distribution(document["dataset"], rows), path)]
