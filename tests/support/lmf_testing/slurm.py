"""A real SLURM of one node, in a folder of its own: munged, slurmctld and slurmd, started and stopped by the tests."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
CPUS = 4
START_SECONDS = 60.0

# A requeued job waits until its credential has run out, by default two minutes.
CONFIGURATION = """\
ClusterName=lmf
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=30
MinJobAge=600
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,sched_min_interval=100000,bf_interval=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster of one node."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, changes: Mapping[str, str] | None = None) -> str:
        """Run a command of SLURM and return what it printed; an error is an `AssertionError` with its words."""
        ran = subprocess.run(
            command, env={**os.environ, **self.variables, **(changes or {})}, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, f"{' '.join(command)}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def state(self, job: str) -> str:
        """The state of a job or of one task of an array, such as PENDING, RUNNING or COMPLETED."""
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """One field of `scontrol show job`."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def restarts(self, job: str) -> int:
        """How often a job was requeued."""
        return int(self.field(job, "Restarts"))

    def jobs(self) -> list[str]:
        """Jobs that wait or run, a task of an array for itself."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()

    def cancel_all(self) -> None:
        """Cancel every job and wait until they are gone."""
        if self.jobs():
            self.run("scancel", "--user", getpass.getuser())
            wait_for(lambda: not self.jobs(), "all jobs to be gone", 60)

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        paths = (self.folder / "slurmctld.log", self.folder / "slurmd.log", self.folder / "munged.log")
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in paths if path.exists())


def missing_programs() -> list[str]:
    """Programs of SLURM that this machine lacks."""
    return [name for name in PROGRAMS if _program(name) is None]


@contextmanager
def slurm_cluster() -> Iterator[Slurm]:
    """Start a cluster, and stop it and whatever it runs at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lmf-slurm-"))
    slurm = Slurm(folder)
    started: list[subprocess.Popen[bytes]] = []
    try:
        _configure(folder)
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(mode=0o755)
        started.append(_start_munge(folder))
        wait_for((folder / "munge" / "socket").exists, "munged", START_SECONDS)
        started.append(_start(slurm, "slurmctld", "-D"))
        started.append(_start(slurm, "slurmd", "-D", "-N", socket.gethostname().split(".")[0]))
        wait_for(lambda: _is_idle(slurm), "the node to be idle", START_SECONDS, slurm.logs)
        yield slurm
        slurm.cancel_all()
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(
    holds: Callable[[], bool], what: str, seconds: float, explain: Callable[[], str] = lambda: "", poll: float = 0.1
) -> None:
    """Wait until something holds; after so many seconds, fail with what was waited for and an explanation."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}\n{explain()}"
        time.sleep(poll)


def _configure(folder: Path) -> None:
    ports = _free_ports(2)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            controller_port=ports[0],
            node_port=ports[1],
            user=getpass.getuser(),
            folder=folder,
            cpus=CPUS,
        )
    )
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    folder.chmod(0o755)


def _start_munge(folder: Path) -> subprocess.Popen[bytes]:
    options = [f"--key-file={folder}/munge.key", f"--socket={folder}/munge/socket", f"--log-file={folder}/munged.log"]
    options += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"]
    program = _program("munged")
    assert program is not None
    log = (folder / "munged.out").open("wb")
    with log:
        return subprocess.Popen([program, "--foreground", "--force", *options], stdout=log, stderr=log)


def _start(slurm: Slurm, name: str, *options: str) -> subprocess.Popen[bytes]:
    program = _program(name)
    assert program is not None
    with (slurm.folder / f"{name}.out").open("wb") as log:
        return subprocess.Popen([program, *options], env={**os.environ, **slurm.variables}, stdout=log, stderr=log)


def _is_idle(slurm: Slurm) -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    ran = subprocess.run(command, env={**os.environ, **slurm.variables}, capture_output=True, text=True, timeout=60)
    return ran.returncode == 0 and set(ran.stdout.split()) == {"idle"}


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")


def _free_ports(count: int) -> list[int]:
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
