"""`lmf gradcam`: where trained models look in test images (the paper's Fig 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from study.cli.common import choose_studies, open_existing, storage_option
from study.errors import StudyError
from study.explaining.document import DEFAULT_IMAGES, EXPLAINED, MOST_IMAGES, PREDICTED

if TYPE_CHECKING:
    from study.gradcam import ExplainedStudy


@click.command("gradcam")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option(
    "--images",
    type=click.IntRange(1, MOST_IMAGES),
    default=DEFAULT_IMAGES,
    show_default=True,
    help="How many test images to explain.",
)
@click.option(
    "--boxes",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV of boxes to draw, with the columns image, x, y, width, height and, if you like, label: in pixels of the "
    "original image, or all as fractions of its sides. Test images that have boxes are shown before all others.",
)
@click.option(
    "--class",
    "explains",
    type=click.Choice(EXPLAINED),
    default=PREDICTED,
    show_default=True,
    help="Which class is explained: the one that a model predicts, or the image's own.",
)
@click.option("--layer", metavar="NAME", help="The layer to weight; by default the last one that gives a map.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@storage_option
def gradcam_command(
    studies: tuple[str, ...],
    images: int,
    boxes: Path | None,
    explains: str,
    layer: str | None,
    device: str,
    storage: str | None,
) -> None:
    """Show where trained models look in test images, by Grad-CAM; all studies where none is named.

    Of a study of alpha and beta the best trial is explained (and that of alpha = beta = 1 where its weights are kept),
    of a comparison the best trial of each loss, all on the same test images, which a rule chooses and nobody's hand.
    The pictures become files of the trials: `lmf report` shows them, and optuna-dashboard with the study. They are
    pictures of patients; `lmf report --no-patient-data` leaves them out.
    """
    from study.devices import list_devices
    from study.explaining.boxes import read_boxes
    from study.gradcam import GradcamOptions, explain_study

    home, database = open_existing(storage)
    try:
        names = choose_studies(database, studies)
        if not names:
            raise StudyError("no study to explain yet; `lmf run` or `lmf demo` makes one")
        table = read_boxes(boxes) if boxes else None
        options = GradcamOptions(images, table, explains, layer, list_devices(device)[0])
        passed_over = []
        for name in dict.fromkeys(names):
            try:
                explained = explain_study(database, home, name, options)
            except StudyError as error:
                # Who names no study asks for those that can be explained.
                if studies:
                    raise
                passed_over.append(str(error))
                continue
            _tell(explained)
        if len(passed_over) == len(set(names)):
            raise StudyError(passed_over[0])
        for line in passed_over:
            click.echo(f"passed over {line}", err=True)
    finally:
        database.close()


def _tell(explained: ExplainedStudy) -> None:
    first = explained.documents[0]
    trials = ", ".join(
        f"{name} (trial {document.trial})" for name, document in zip(explained.names, explained.documents, strict=True)
    )
    height, width = first.places
    click.echo(f"{explained.study}: {trials}; layer {first.layer} ({height} x {width}), {first.explains} class")
    click.echo(first.rule)
    for number, image in enumerate(first.images):
        seen = [document.images[number] for document in explained.documents]
        verdicts = "; ".join(
            f"{name}: {one.predicted} {100 * one.probability:.1f} %{'' if one.is_right else ', wrong'}"
            f"{', nothing speaks for ' + one.explained if one.is_empty else ''}"
            for name, one in zip(explained.names, seen, strict=True)
        )
        boxed = f", boxes: {len(image.boxes)}" if image.boxes else ""
        click.echo(f"  {number + 1}. {image.image}, {image.truth}{boxed}: {verdicts}")
    for remark in dict.fromkeys(remark for document in explained.documents for remark in document.remarks):
        click.echo(f"{explained.study}: {remark}", err=True)
    for remark in explained.boxed.remarks(first.reference) if explained.boxed else ():
        click.echo(f"{explained.study}: {remark}", err=True)
    click.echo(f"{explained.study}: {explained.files} files kept with its trials; `lmf report` shows them")
