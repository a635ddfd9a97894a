"""docker-compose.yml and the Dockerfile, read as text: what a service runs, so that it can run without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
SETTINGS = {"LMF_PASSWORD_FILE": "./secrets/database_password", "LMF_LOGIN_FILE": "./secrets/dashboard_login"}

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<sign>[-?])(?P<rest>[^}]*))?\}")


def compose_command() -> list[str] | None:
    """A program that reads compose files: Docker's plugin, or the program that Debian has; None where there is none."""
    plugin = ["docker", "compose"]
    if shutil.which("docker") and subprocess.run([*plugin, "version"], capture_output=True).returncode == 0:
        return plugin
    return ["docker-compose"] if shutil.which("docker-compose") else None


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put variables into a text as compose does; raises `KeyError` where one is missing that must be there."""

    def put(match: re.Match[str]) -> str:
        value = variables.get(match["name"], "")
        if value or match["sign"] is None:
            return value
        if match["sign"] == "-":
            return str(match["rest"])
        raise KeyError(match["rest"])

    return _VARIABLE.sub(put, text)


def read_compose(variables: Mapping[str, str] = SETTINGS) -> dict[str, Any]:
    """The compose file with its variables put in."""
    document = yaml.safe_load(interpolate((ROOT / "docker-compose.yml").read_text(), variables))
    assert isinstance(document, dict)
    return document


@dataclass(frozen=True)
class Instruction:
    """An instruction of a Dockerfile."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Its arguments; a JSON list where it is written as one."""
        return list(json.loads(self.rest)) if self.rest.startswith("[") else self.rest.split()


def read_stages() -> list[list[Instruction]]:
    """The stages of the Dockerfile, each from its FROM on."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word, " ".join(rest.split())))
    return stages


def copied_sources(stage: list[Instruction]) -> list[str]:
    """What a stage copies from the folder that it is built in."""
    copies = [item.words for item in stage if item.word == "COPY" and "--from=" not in item.rest]
    return [source for words in copies for source in words[:-1]]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path, relative to its folder, out of what an image is built from."""
    ignored = False
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (line.strip() for line in lines if line.strip() and not line.startswith("#")):
        pattern = line.removeprefix("!")
        place = PurePosixPath(path)
        names = [str(place), *map(str, place.parents)][:-1]
        if any(_matches(name, pattern) for name in names):
            ignored = not line.startswith("!")
    return ignored


def _matches(name: str, pattern: str) -> bool:
    anywhere = pattern.startswith("**/")
    expression = re.escape(pattern.removeprefix("**/")).replace(r"\*", "[^/]*").replace(r"\[", "[").replace(r"\]", "]")
    return re.fullmatch(f"(.*/)?{expression}" if anywhere else expression, name) is not None


@dataclass(frozen=True)
class Stand:
    """A machine that stands in for Docker: folders for volumes and secrets, and a database.

    Attributes:
        folder: what containers see as `/data` and `/run/secrets` lies here.
        database: what `db:5432/lmf` stands for: host, port and name.
        port: what port 8080 stands for.
    """

    folder: Path
    database: str
    port: int

    def place(self, text: str) -> str:
        """A word of a command or of the environment, with places of this machine for those of the container."""
        for inside, outside in (
            ("/run/secrets/", f"{self.folder}/secrets/"),
            ("db:5432/lmf", self.database),
            ("/data/", f"{self.folder}/data/"),
        ):
            text = text.replace(inside, outside)
        return str(self.port) if text == "8080" else text

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service, on a machine without a GPU, and nothing besides: the image's and its own."""
        image = [item.rest for item in read_stages()[-1] if item.word == "ENV"]
        pairs = dict(pair.split("=", 1) for rest in image for pair in rest.split())
        pairs |= read_compose()["services"][name]["environment"]
        return {variable: self.place(str(value)) for variable, value in pairs.items()} | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "CUDA_VISIBLE_DEVICES": "",
            **{name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
        }

    def start(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Start what a service runs, as a process of this machine.

        Args:
            name: the service.
            command: what to run in its place, as `docker compose run` does.
        """
        entrypoint = next(item.words for item in read_stages()[-1] if item.word == "ENTRYPOINT")
        given = list(command) or [str(word) for word in read_compose()["services"][name]["command"]]
        environment = self.environment(name)
        program = shutil.which(entrypoint[0], path=environment["PATH"])
        assert program is not None, f"{entrypoint[0]} is not installed beside {sys.executable}"
        return subprocess.Popen(
            [program, *entrypoint[1:], *map(self.place, given)],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
