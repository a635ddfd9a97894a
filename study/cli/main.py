"""The `lmf` command: finds the command asked for and turns known errors into one line and an exit code."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from storage.errors import StorageError
from study.errors import StudyError
from trainer.errors import DeviceFailedError, TrainerError

DONE, POINTS_FAILED, BAD_REQUEST, INTERRUPTED, BROKEN = 0, 1, 2, 3, 70

# Each command's module and one line of help, so that `lmf --help` loads none of them.
COMMANDS = {
    "demo": ("study.cli.run", "Run a whole study on embedded data: no GPU, no server, no download."),
    "run": ("study.cli.run", "Plan or continue a study on this machine, train it, report."),
    "compare": ("study.cli.compare", "Compare losses on this machine: plan or continue, train, report."),
    "reproduce": ("study.cli.reproduce", "Carry out the paper's experiments on the datasets that are at hand."),
    "worker": ("study.cli.worker", "Take points of planned studies until none is left."),
    "launch": ("study.cli.launch", "Start many workers: on this machine, by SLURM or on Kubernetes."),
    "status": ("study.cli.status", "Show what runs where, what failed and why, when it will end."),
    "data": ("study.cli.data", "List, show, check and prepare datasets."),
    "model": ("study.cli.model", "Fetch pretrained weights, for machines without a network, and list them."),
    "report": ("study.cli.report", "Write the figures and tables of studies as one HTML file."),
    "gradcam": ("study.cli.gradcam", "Show where trained models look in test images (Grad-CAM)."),
    "export": ("study.cli.export", "Give the best alpha and beta per dataset and model."),
    "predict": ("study.cli.predict", "Predict images with an exported model."),
    "evaluate": ("study.cli.evaluate", "Score an exported model on labelled images from elsewhere."),
    "study": ("study.cli.study", "List, show, pause, resume, cancel, retry or delete studies."),
    "dashboard": ("study.cli.dashboard", "Show studies in the browser with optuna-dashboard."),
    "db": ("study.cli.db", "Run a PostgreSQL server, and upgrade, check, back up or copy a database."),
    "doctor": ("study.cli.doctor", "Check the installation, the database, the data and the devices."),
}


class LazyGroup(click.Group):
    """A click group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None where there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lmf", prog_name="lmf")
def lmf() -> None:
    """Tune and compare the LMF loss on imbalanced medical images.

    `lmf demo` shows it all in a few minutes; `lmf run DATASET --data DIR` does it for your data. Exit codes: 0 done,
    1 ended but points failed, 2 the request was wrong, 3 interrupted and points remain, 70 a defect of lmf or of the
    machine.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = lmf.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="lmf",
            standalone_mode=False,
        )
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = BAD_REQUEST
    except click.ClickException as error:
        code = _refuse(error.format_message())
    except DeviceFailedError as error:
        _refuse(str(error))
        code = BROKEN
    except (StudyError, TrainerError, StorageError) as error:
        code = _refuse(str(error))
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = DONE
    except Exception:
        # Not 1, which says that all was done and some points failed: whoever watches a worker starts another.
        traceback.print_exc()
        code = BROKEN
    sys.exit(code if isinstance(code, int) else DONE)


def _refuse(message: str) -> int:
    click.echo("lmf: " + " ".join(message.split()), err=True)
    return BAD_REQUEST


if __name__ == "__main__":
    main()
