"""`lmf launch`: many workers, on this machine, by SLURM or on Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from study.cli.common import choose_studies, log_options, open_existing
from study.cli.main import DONE, INTERRUPTED, POINTS_FAILED
from study.cli.spec_options import flag_values, limit_options, read_limits, worker_options
from study.errors import StudyError

if TYPE_CHECKING:
    from storage.database import Database
    from study.launch.base import Launcher, WorkerRequest
    from study.limits import Limits
    from study.run_options import RunOptions

Command = TypeVar("Command", bound=Callable[..., Any])

NONE = "none"
LIMITS = ("max_points", "max_hours", "idle_exit")


@click.group("launch")
def launch_command() -> None:
    """Start many workers for studies that are planned already.

    `lmf run` plans a study and trains it on one machine; these commands plan nothing. Without STUDY the workers serve
    every open study whose data they can see. All flags of `lmf worker` can be given.
    """


def _worker_flags(command: Command) -> Command:
    """Add the studies and all flags of `lmf worker`."""
    command = worker_options(limit_options(log_options(command)))
    return click.argument("studies", metavar="[STUDY]...", nargs=-1)(command)


def _read_flags(parameters: Mapping[str, object]) -> tuple[RunOptions, Limits, tuple[str, ...]]:
    """What workers are told: as values, checked, and as flags of `lmf worker`."""
    from study.launch.base import worker_flags
    from study.spec_input import read_run_options

    given = flag_values(parameters)
    options, limits = read_run_options(given), read_limits(parameters)
    given |= {name: parameters[name] for name in LIMITS if parameters[name] is not None}
    given |= {"log_json": parameters["log_json"], "log_level": parameters["log_level"]}
    return options, limits, worker_flags(given)


@launch_command.command("local")
@click.option("--workers", metavar="N", help="Worker processes; default: one a GPU, or as many as suit the processor.")
@click.option("--per-gpu", metavar="K|auto", help="Trials side by side on each GPU; auto fills the memory. Default 1.")
@_worker_flags
def local_command(studies: tuple[str, ...], **flags: object) -> int:
    """Start workers on this machine: one on each GPU.

    They are started again when they die, one live table shows them, and Ctrl-C stops all of them with checkpoints.
    """
    from study.launch.base import WorkerRequest
    from study.launch.crews import choose_common_crew, read_open_studies
    from study.launch.local import LocalLauncher
    from study.progress import count_text, make_console

    options, limits, worker_flags = _read_flags(flags)
    _set_up_logging(flags)
    home, database = open_existing(options.storage)
    try:
        choose_studies(database, studies)
        records = read_open_studies(database, studies)
        if not records and limits.idle_exit_seconds == 0:
            click.echo("nothing is left to train")
            return DONE
        crew = choose_common_crew(records, options)
        remaining = sum(record.remaining for record in records)
        count = min(crew.workers, remaining) if limits.idle_exit_seconds == 0 else crew.workers
        served, devices = ", ".join(studies) or "every open study", ", ".join(crew.devices)
        line = f"{count_text(count, 'worker')} on {devices} for {served}"
        make_console().print(line, highlight=False, soft_wrap=True, markup=False)
        request = WorkerRequest(studies, count, crew.devices, worker_flags)
        return _watch(LocalLauncher(database, home), request, database)
    finally:
        database.close()


@launch_command.command("debug")
@_worker_flags
def debug_command(studies: tuple[str, ...], **flags: object) -> int:
    """Be one worker in this process, for a debugger."""
    from study.launch.base import WorkerRequest
    from study.launch.debug import DebugLauncher

    options, limits, _ = _read_flags(flags)
    _set_up_logging(flags)
    home, database = open_existing(options.storage)
    try:
        choose_studies(database, studies)
        return _watch(DebugLauncher(database, home, options, limits), WorkerRequest(studies, 1), database)
    finally:
        database.close()


@launch_command.command("slurm")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many jobs.")
@click.option("--partition", metavar="NAME", help="Where to run; default: the cluster's.")
@click.option(
    "--time", "time_limit", metavar="LIMIT", default="4:00:00", show_default=True, help="Time limit of a job."
)
@click.option("--gres", metavar="LIST", help="Generic resources of a job; default gpu:1, or none with --device cpu.")
@click.option("--qos", metavar="NAME", help="Quality of service.")
@click.option("--account", metavar="NAME", help="Who pays.")
@click.option("--cpus-per-task", type=int, metavar="N", help="Processor cores of a job.")
@click.option("--mem", metavar="SIZE", help="Memory of a job, such as 16G.")
@click.option("--constraint", metavar="LIST", help="Features that a node must have.")
@click.option("--exclude", metavar="NODES", help="Nodes not to run on.")
@click.option(
    "--setup", metavar="LINE", multiple=True, help="A line of shell to run first; may be given several times."
)
@click.option(
    "--warn-seconds",
    type=int,
    default=120,
    show_default=True,
    metavar="N",
    help="How long before its time limit a worker writes its checkpoint and the job is requeued.",
)
@click.option("--log-dir", type=click.Path(path_type=Path), help="Logs of the jobs; default LMF_HOME/logs/slurm.")
@click.option("--print", "as_script", is_flag=True, help="Write a plain batch script to stdout and submit nothing.")
@click.option("--wait", is_flag=True, help="Show the live table until all jobs have ended.")
@_worker_flags
def slurm_command(studies: tuple[str, ...], as_script: bool, wait: bool, **flags: Any) -> int:
    """Submit workers to SLURM: an array of N jobs with one GPU each.

    A job ends by itself when no point is left for its worker. Near its time limit, and when it is preempted, its
    worker writes a checkpoint and frees its point, and the job is requeued. LMF_HOME must be a folder that all nodes
    see.
    """
    from study.home import find_home
    from study.launch.base import WorkerRequest
    from study.launch.slurm import SlurmLauncher
    from study.launch.slurm_options import SlurmOptions, read_minutes
    from study.launch.slurm_script import SlurmScriptLauncher

    if as_script and wait:
        raise click.UsageError("--wait: cannot go with --print, which submits nothing; give one of them")
    run_options, _, worker_flags = _read_flags(flags)
    _check_first_device(run_options.device)
    home = find_home(run_options.storage)
    gres = flags["gres"] or (NONE if run_options.device == "cpu" else "gpu:1")
    options = SlurmOptions(
        partition=flags["partition"],
        time_minutes=read_minutes(flags["time_limit"]),
        gres=None if gres == NONE else gres,
        qos=flags["qos"],
        account=flags["account"],
        cpus_per_task=flags["cpus_per_task"],
        mem=flags["mem"],
        constraint=flags["constraint"],
        exclude=flags["exclude"],
        setup=flags["setup"],
        warn_seconds=flags["warn_seconds"],
        log_dir=(flags["log_dir"] or home.root / "logs" / "slurm").absolute(),
    )
    # With a GPU asked for, a node on which it cannot be used must not train on its processor unnoticed.
    device = str(flags["device"] or ("cuda" if "gpu" in (options.gres or "") else "auto"))
    request = WorkerRequest(studies, flags["count"], (device,), worker_flags)
    if request.count > 1:
        _warn_of_storage(home.storage_url)
    if as_script:
        _check_spelling(studies)
        click.echo(SlurmScriptLauncher(home, run_options.storage, options).launch(request).description, nl=False)
        return DONE
    _, database = open_existing(run_options.storage)
    try:
        choose_studies(database, studies)
        launcher = SlurmLauncher(home, run_options.storage, options)
        if wait:
            _set_up_logging(flags)
            return _watch(launcher, request, database, ours=False)
        click.echo(launcher.launch(request).description)
        return DONE
    finally:
        database.close()


@launch_command.command("kubernetes")
@click.option("--image", required=True, metavar="IMAGE", help="Image with lmf in it; the Dockerfile makes one.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many pods.")
@click.option("--name", default="lmf-worker", show_default=True, metavar="NAME", help="Name of the Job.")
@click.option("--namespace", metavar="NAME", help="Where the Job lives; default: kubectl's.")
@click.option(
    "--storage-secret",
    required=True,
    metavar="NAME[:KEY]",
    help="The Secret that holds the database's URL, by default under the key `url`.",
)
@click.option("--home-claim", required=True, metavar="NAME", help="PersistentVolumeClaim of LMF_HOME, for all pods.")
@click.option("--data-claim", metavar="NAME", help="PersistentVolumeClaim of the images, which is only read.")
@click.option(
    "--gpu", type=click.IntRange(0, 1), metavar="0|1", help="GPUs of a pod; default 1, or 0 with --device cpu."
)
@click.option("--cpu", default="4", show_default=True, metavar="CORES", help="Processor cores of a pod.")
@click.option("--memory", default="16Gi", show_default=True, metavar="SIZE", help="Memory of a pod.")
@click.option("--shared-memory", default="1Gi", show_default=True, metavar="SIZE", help="Size limit of /dev/shm.")
@_worker_flags
def kubernetes_command(studies: tuple[str, ...], **flags: Any) -> int:
    """Print an Indexed Job of N workers, for `kubectl apply -f -`.

    The Job names a Secret and PersistentVolumeClaims; comments at its top say how they are made. It holds no password.
    """
    from study.launch.base import WorkerRequest
    from study.launch.kubernetes import DEFAULT_KEY, KubernetesLauncher

    if flags["storage"] is not None:
        raise StudyError("--storage: pods take the database's URL from the Secret that --storage-secret names")
    run_options, _, worker_flags = _read_flags(flags)
    _check_first_device(run_options.device)
    gpu = run_options.device != "cpu" if flags["gpu"] is None else bool(flags["gpu"])
    if gpu != (run_options.device != "cpu") and run_options.device != "auto":
        raise StudyError(
            f"--gpu {flags['gpu']} cannot go with --device {run_options.device}; leave --gpu out: it follows --device"
        )
    _check_spelling(studies)
    secret, _, key = flags["storage_secret"].partition(":")
    launcher = KubernetesLauncher(
        image=flags["image"],
        name=flags["name"],
        namespace=flags["namespace"],
        secret=secret,
        secret_key=key or DEFAULT_KEY,
        home_claim=flags["home_claim"],
        data_claim=flags["data_claim"],
        gpu=gpu,
        cpu=flags["cpu"],
        memory=flags["memory"],
        shared_memory=flags["shared_memory"],
    )
    device = str(flags["device"] or ("cuda" if gpu else "cpu"))
    request = WorkerRequest(studies, flags["count"], (device,), worker_flags)
    click.echo(launcher.launch(request).description)
    return DONE


def _set_up_logging(parameters: Mapping[str, Any]) -> None:
    from study.logs import set_up_logging

    set_up_logging(parameters["log_json"], parameters["log_level"], people="lmf: %(message)s")


def _watch(launcher: Launcher, request: WorkerRequest, database: Database, *, ours: bool = True) -> int:
    """Launch workers, show them until they have ended or somebody interrupts, and tell by the exit code how it ended.

    Args:
        launcher: launches them.
        request: which workers.
        database: where the studies are planned.
        ours: the workers end with this command; others go on when it is interrupted.
    """
    import threading

    from study.launch.crews import read_open_studies
    from study.launch.display import LaunchDisplay
    from study.progress import count_text, make_console
    from study.worker import stop_on_signals

    names = [record.name for record in read_open_studies(database, request.studies)]
    console, stop = make_console(), threading.Event()
    with stop_on_signals(stop), LaunchDisplay(database, request.studies, console) as display:
        launch = launcher.launch(request)
        try:
            console.print(launch.description, highlight=False, soft_wrap=True, markup=False)
            launch.wait(stop, display.tick)
        finally:
            if ours:
                launch.stop(display.tick)
    remaining = sum(record.remaining for record in read_open_studies(database, request.studies))
    if launch.refusals and remaining and not stop.is_set():
        said = "; ".join(dict.fromkeys(launch.refusals))
        raise StudyError(f"{count_text(remaining, 'point')} left, since workers refused: {said}")
    if stop.is_set() and remaining:
        what = "stopped" if ours else "no longer watched, and the jobs go on"
        console.print(f"{what}: {count_text(remaining, 'point')} left", highlight=False)
    if remaining:
        return INTERRUPTED
    return POINTS_FAILED if _any_failed(database, names) else DONE


def _any_failed(database: Database, names: Sequence[str]) -> bool:
    """Whether a point failed in any of some studies; one that was deleted meanwhile has none."""
    from storage.queries import list_studies, read_study

    there = [name for name in list_studies(database) if name in names]
    return any(point.state == "failed" for name in there for point in read_study(database, name).points)


def _check_first_device(device: str) -> None:
    """Refuse a device that a job with one GPU does not have."""
    if device.startswith("cuda:") and int(device.removeprefix("cuda:")) > 0:
        raise StudyError(f"--device: each job has one GPU, which is cuda:0 there, not {device}; leave --device out")


def _warn_of_storage(url: str) -> None:
    """Warn of a database that several nodes cannot share."""
    from study.launch.job_environment import is_local

    if url.startswith("sqlite"):
        warning = (
            "the database is a SQLite file, which several nodes cannot safely share by a network folder; PostgreSQL is "
            "meant for that (`lmf db start`)"
        )
    elif is_local(url):
        warning = (
            "only this machine reaches the database, other nodes do not: its server must listen on an address of the "
            "network (`lmf db start --host`)"
        )
    else:
        return
    click.echo(f"lmf: warning: {warning}", err=True)


def _check_spelling(studies: Sequence[str]) -> None:
    """Refuse what can be no study's name, where the database is not asked."""
    from study.spec import name_problems

    problems = [problem for name in studies for problem in name_problems(name)]
    if problems:
        raise StudyError("; ".join(problems))
