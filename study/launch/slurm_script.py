"""The plain batch script of `lmf launch slurm --print`: the same workers without submitit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from study.home import Home
from study.launch.base import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MOST_QUICK_DEATHS,
    PrintedLaunch,
    WorkerRequest,
    lmf_command,
)
from study.launch.job_environment import STORAGE_VARIABLES, job_environment
from study.launch.slurm_options import SlurmOptions

# The worker runs in the background, since bash looks at a signal only when no command runs in the foreground. Once
# told, the job takes no other signal, so that `wait` gives the worker's own code.
_SCRIPT = """\
#!/bin/bash
# Workers of lmf, printed by `lmf launch slurm --print`. Submit it with: sbatch FILE
# A job ends by itself, with its worker's exit code, when nothing is left for it. Shortly before the time limit, when
# it is preempted, or on `scancel --batch --signal=USR2 JOB`, its worker writes a checkpoint and frees its point, and
# the job is requeued by this script. `scancel JOB` ends it, with a checkpoint, for good.
{flags}
{setup}
unset {unset}
{exports}

told=
reached=
worker=
tell() {{
    told=yes
    trap '' USR2 TERM
    if [ -n "$worker" ]; then
        reached=1
        kill -TERM "$worker" 2>/dev/null
    fi
}}
trap tell USR2 TERM

deaths=0
while [ -z "$told" ]; do
    began=$SECONDS
    {command} &
    worker=$!
    # A signal that came before its number was known has not reached it.
    if [ -n "$told" ] && [ -z "$reached" ]; then
        kill -TERM "$worker" 2>/dev/null
    fi
    wait "$worker"
    code=$?
    if [ -n "$told" ] && [ "$code" -gt 128 ]; then
        wait "$worker"
        code=$?
    fi
    worker=
    if [ "$code" -le 3 ] || [ -n "$told" ]; then
        break
    fi
    # The worker died. Others take its point when its lease has run out; this job starts another worker.
    if [ $((SECONDS - began)) -ge {long_life} ]; then
        deaths=0
    fi
    deaths=$((deaths + 1))
    if [ "$deaths" -ge {most_deaths} ]; then
        echo "lmf: the worker died with code $code, $deaths times in a row: this job ends" >&2
        break
    fi
    echo "lmf: the worker died with code $code; starting another" >&2
    pause=$((deaths * deaths * {first_pause}))
    sleep $((pause < {longest_pause} ? pause : {longest_pause})) &
    wait $!
done

if [ -n "$told" ]; then
    case "${{code:-3}}" in
        0 | 1 | 2) ;;
        *)
            job="${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}"
            # A job that SLURM itself ends, since it was cancelled or requeued, is left alone.
            if [ "$(squeue --noheader --format=%T --jobs="$job")" = RUNNING ]; then
                scontrol requeue "$job"
            fi
            ;;
    esac
fi
exit "${{code:-3}}"
"""

LONG_LIFE_SECONDS = 600


@dataclass(frozen=True)
class SlurmScriptLauncher:
    """Writes the batch script of workers, which the user submits.

    Attributes:
        home: the home that the workers get; all nodes must see its folder.
        storage: what `--storage` said.
        options: what each job asks for.
    """

    home: Home
    storage: str | None
    options: SlurmOptions

    def launch(self, request: WorkerRequest) -> PrintedLaunch:
        """Write the script, and make what it needs: the folder of logs, and a file with the database's URL.

        Raises:
            StudyError: these cannot be written.
        """
        self.options.make_log_dir()
        return PrintedLaunch(batch_script(request, self.options, job_environment(self.home, self.storage)))


def batch_script(request: WorkerRequest, options: SlurmOptions, environment: Mapping[str, str]) -> str:
    """The script of an array of workers, which requeues itself.

    Args:
        request: the workers; all of them get the first device.
        options: what each job asks for.
        environment: variables of the worker, none of them a secret.
    """
    flags: dict[str, str | int | None] = {
        **options.parameters(),
        "array": f"0-{request.count - 1}",
        "output": str(options.log_dir / "%A_%a.log"),
        "open-mode": "append",
        "requeue": None,
        "signal": f"B:USR2@{options.warn_seconds}",
    }
    return _SCRIPT.format(
        flags="\n".join(
            f"#SBATCH --{name}" if value is None else f"#SBATCH --{name}={shlex.quote(str(value))}"
            for name, value in flags.items()
        ),
        setup="".join(f"\n{line}" for line in options.setup),
        unset=" ".join(STORAGE_VARIABLES),
        exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        command=shlex.join(lmf_command(request.arguments())),
        long_life=LONG_LIFE_SECONDS,
        most_deaths=MOST_QUICK_DEATHS,
        first_pause=round(FIRST_PAUSE_SECONDS),
        longest_pause=round(LONGEST_PAUSE_SECONDS),
    )
