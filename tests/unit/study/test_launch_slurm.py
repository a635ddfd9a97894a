"""What `lmf launch slurm` asks of SLURM, and what it refuses before anything is submitted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.errors import StudyError
from study.home import Home
from study.launch.base import WorkerRequest
from study.launch.slurm import SlurmJobs, SlurmLauncher, _submitit_parameters
from study.launch.slurm_options import SlurmOptions, read_minutes
from study.launch.slurm_script import SlurmScriptLauncher, batch_script

URL = "postgresql+psycopg://lmf:hunter2@db:5432/lmf"


def options(folder: Path = Path("/logs"), **changes: Any) -> SlurmOptions:
    return SlurmOptions(**{"time_minutes": 240, "log_dir": folder, **changes})


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("1", 1),
        ("0:30", 1),
        ("90:00", 90),
        ("1:30:00", 90),
        ("1:30:01", 91),
        ("2-12", 3600),
        ("2-12:30", 3630),
        ("2-12:30:30", 3631),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, minutes: int) -> None:
    assert read_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1.5", "1:2:3:4", "1h", "0-0"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match=r"--time: .*expected minutes"):
        read_minutes(text)


def test_all_that_slurm_would_refuse_is_said_at_once() -> None:
    with pytest.raises(StudyError) as refusal:
        options(
            partition="a b",
            qos="x'y",
            gres="gpu:1\n#SBATCH --uid=0",
            mem="lots",
            cpus_per_task=0,
            setup=("module load cuda\nrm",),
            warn_seconds=5,
        )
    for flag in ("--partition", "--qos", "--gres", "--mem", "--cpus-per-task", "--setup", "--warn-seconds"):
        assert f"{flag}: " in str(refusal.value)


def test_the_warning_comes_before_the_time_limit() -> None:
    with pytest.raises(StudyError, match=r"--warn-seconds: 120 is outside \[10, 60\)"):
        options(time_minutes=1, warn_seconds=120)
    options(time_minutes=1, warn_seconds=59)


def test_submitit_knows_every_parameter(tmp_path: Path) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    asked = options(
        partition="gpu",
        gres="gpu:a100:1",
        qos="high",
        account="team",
        cpus_per_task=4,
        mem="16G",
        constraint="a100&v100",
        exclude="node[1-3]",
        setup=("module load cuda",),
        warn_seconds=90,
    )
    script = _make_sbatch_string("command", tmp_path, map_count=600, **_submitit_parameters(asked))
    lines = script.splitlines()
    for line in (
        "--partition=gpu",
        "--time=240",
        "--gres=gpu:a100:1",
        "--qos=high",
        "--account=team",
        "--cpus-per-task=4",
        "--mem=16G",
        "--constraint='a100&v100'",
        "--exclude='node[1-3]'",
        "--signal=USR2@90",
        "--array=0-599%600",
        "--requeue",
    ):
        assert f"#SBATCH {line}" in lines
    assert "module load cuda" in lines
    assert "--cpus-per-task=4" in script.partition("# command")[2], "srun is told as well"
    assert "wckey" not in script


def script(request: WorkerRequest | None = None, **changes: Any) -> str:
    asked = request or WorkerRequest(("skin",), 4, ("cuda",))
    return batch_script(asked, options(**changes), {"LMF_HOME": "/a home", "LMF_STORAGE_FILE": "/a home/$x"})


def test_the_printed_script_asks_for_the_same(tmp_path: Path) -> None:
    text = script(partition="gpu", gres="gpu:1", constraint="a&b", setup=("module load cuda", "export A=1"))
    path = tmp_path / "workers.sh"
    path.write_text(text)
    subprocess.run(["bash", "-n", path], check=True)
    lines = text.splitlines()
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --constraint='a&b'",
        "#SBATCH --array=0-3",
        "#SBATCH --signal=B:USR2@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=/logs/%A_%a.log",
        "module load cuda",
        "unset LMF_STORAGE LMF_STORAGE_FILE LMF_STORAGE_PASSWORD_FILE",
        "export LMF_HOME='/a home'",
        "export LMF_STORAGE_FILE='/a home/$x'",
    ):
        assert line in lines
    last_flag = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    first_command = min(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert last_flag < first_command, "sbatch reads no flag after the first command"


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `squeue` and `scontrol`: the state is what `state` says, and requeues are noted in `requeued`."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "state").write_text("RUNNING\n")
    (folder / "squeue").write_text(f'#!/bin/bash\n[ "${{@: -1}}" = --jobs=7_1 ] && cat "{folder}/state"\n')
    (folder / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> "{folder}/requeued"\n')
    for name in ("squeue", "scontrol"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name, value in (("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_JOB_ID", "9")):
        monkeypatch.setenv(name, value)
    return folder


# What stands for `lmf worker`: it notes its start, and when it is told to stop, it says so and exits with 3.
LISTENING = "trap 'echo told; exit 3' TERM; echo started; for i in $(seq 100); do sleep 0.1; done"


def run_script(
    folder: Path, worker: str, signals: tuple[str, ...] = (), edit: Callable[[str], str] = str
) -> tuple[int, str]:
    """Run the script with another command in the worker's place; its exit code and what was said."""
    text = re.sub(r"^    \S*python\S* .* &$", lambda _: '    bash -c "$WORKER" &', script(), flags=re.MULTILINE)
    assert "$WORKER" in text
    path = folder / "script.sh"
    path.write_text(edit(text.replace("sleep $((pause", "sleep $((0 * pause")))
    with subprocess.Popen(
        ["/bin/bash", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "WORKER": worker},
    ) as process:
        assert process.stdout is not None
        said = ""
        if signals:
            said = process.stdout.readline()
            for name in signals:
                subprocess.run(["/bin/kill", f"-{name}", str(process.pid)], check=True)
        said += process.stdout.read()
        return process.wait(), said


def requeues(folder: Path) -> list[str]:
    path = folder / "requeued"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("signals", [("USR2",), ("TERM",), ("USR2", "TERM", "USR2")])
def test_a_warned_job_stops_its_worker_and_requeues_itself_once(fake_slurm: Path, signals: tuple[str, ...]) -> None:
    code, said = run_script(fake_slurm, LISTENING, signals)
    assert (code, said) == (3, "started\ntold\n")
    assert requeues(fake_slurm) == ["requeue 7_1"]


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", ""])
def test_a_job_that_slurm_ends_is_not_requeued(fake_slurm: Path, state: str) -> None:
    (fake_slurm / "state").write_text(f"{state}\n")
    assert run_script(fake_slurm, LISTENING, ("TERM",))[0] == 3
    assert requeues(fake_slurm) == []


def test_a_signal_before_the_worker_s_number_is_known_reaches_it(fake_slurm: Path) -> None:
    assert script().count("worker=$!") == 1
    ready = fake_slurm / "ready"
    # What stands for the moment between start and number: the job is told right then.
    told_early = f'worker=; until [ -e "{ready}" ]; do sleep 0.01; done; kill -USR2 $$; worker=$!'
    worker = LISTENING.replace("echo started", f'touch "{ready}"; echo started')
    code, said = run_script(fake_slurm, worker, edit=lambda text: text.replace("worker=$!", told_early))
    assert (code, said) == (3, "started\ntold\n")


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_job_ends_with_its_worker_s_code(fake_slurm: Path, code: int) -> None:
    assert run_script(fake_slurm, f"exit {code}") == (code, "")
    assert requeues(fake_slurm) == []


def test_a_worker_that_ended_while_it_was_told_is_done(fake_slurm: Path) -> None:
    assert run_script(fake_slurm, LISTENING.replace("exit 3", "exit 0"), ("USR2",))[0] == 0
    assert requeues(fake_slurm) == []


def test_a_worker_that_dies_is_started_again_some_times(fake_slurm: Path) -> None:
    code, said = run_script(fake_slurm, "echo started; kill -9 $$")
    assert code == 137
    assert said.count("started") == 5
    assert "5 times in a row: this job ends" in said
    assert requeues(fake_slurm) == []


def test_the_script_names_a_file_for_the_password(tmp_path: Path) -> None:
    home = Home(tmp_path, URL, str(tmp_path / "artifacts"))
    launcher = SlurmScriptLauncher(home, URL, options(tmp_path / "logs"))
    text = launcher.launch(WorkerRequest((), 1)).description
    assert "hunter2" not in text
    found = re.search(r"export LMF_STORAGE_FILE=(\S+)", text)
    assert found
    assert Path(found[1]).read_text().strip() == URL
    assert (tmp_path / "logs").is_dir()


def test_without_slurm_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = SlurmLauncher(Home(tmp_path, URL, "a"), None, options(tmp_path / "logs"))
    with pytest.raises(StudyError, match=r"sbatch and srun are not here; .*--print"):
        launcher.launch(WorkerRequest((), 1))
    assert list(tmp_path.iterdir()) == []


def test_without_submitit_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    launcher = SlurmLauncher(Home(tmp_path, URL, "a"), None, options(tmp_path / "logs"))
    with pytest.raises(StudyError, match=r"pip install 'lmf\[slurm\]'"):
        launcher.launch(WorkerRequest((), 1))


@pytest.mark.parametrize("says", ["echo 'sbatch: error: invalid partition specified: x' >&2; exit 1", "echo hello"])
def test_what_sbatch_refuses_is_one_line_and_sees_no_password(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("srun", "exit 0"), ("sbatch", f"env > '{tmp_path}/seen'; {says}")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("LMF_STORAGE", URL)
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    launcher = SlurmLauncher(Home(tmp_path, URL, "a"), None, options(tmp_path / "logs"))
    with pytest.raises(StudyError, match="SLURM refuses the jobs: ") as refusal:
        launcher.launch(WorkerRequest((), 2))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr().err == ""
    assert "hunter2" not in (tmp_path / "seen").read_text()
    assert (os.environ["LMF_STORAGE"], os.environ["PGPASSWORD"]) == (URL, "hunter2")


def test_refusals_are_read_from_the_logs(tmp_path: Path) -> None:
    for task, text in (("5_0", "INFO trial 1\nlmf: old\nlmf: no GPU here\nsrun: error\n"), ("5_1", "INFO all well\n")):
        (tmp_path / f"{task}_0_log.err").write_text(text)
    assert SlurmJobs("5", ("5_0", "5_1", "5_2"), tmp_path).refusals == ("no GPU here",)
