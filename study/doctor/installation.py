"""Whether lmf and what it runs on are installed as they should be."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from study.doctor.diagnosis import Diagnosis, ok, problem, warning

PACKAGES = ("study", "trainer", "storage")
TOLD = ("torch", "timm", "optuna", "optuna-dashboard", "sqlalchemy")

EXTRAS = {
    "postgresql": "databases on PostgreSQL",
    "server": "`lmf db start`, a PostgreSQL without Docker or root",
    "slurm": "`lmf launch slurm`",
    "s3": "artifacts in S3",
    "medmnist": "downloading MedMNIST",
    "figures": "figures as png, svg and pdf",
    "gradcam": "`lmf gradcam`",
}


def check_installation(needed_extras: Iterable[str] = ()) -> tuple[Diagnosis, ...]:
    """Python, the packages and their versions, the extras, and whether other code lies in the way.

    Args:
        needed_extras: the extras that the settings ask for, such as `postgresql` for a URL of PostgreSQL.
    """
    requirements = [Requirement(text) for text in metadata.requires("lmf") or ()]
    installed = {name: _version(name) for name in {requirement.name for requirement in requirements}}
    return (
        ok("python", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"),
        judge_packages(metadata.version("lmf"), requirements, installed),
        judge_extras(requirements, installed, frozenset(needed_extras)),
        judge_origins(_origins(), _owners()),
        judge_command(shutil.which("lmf"), Path(sys.prefix)),
    )


def judge_packages(version: str, requirements: Sequence[Requirement], installed: Mapping[str, str | None]) -> Diagnosis:
    """Whether the packages that lmf needs in any case are there in versions that it can use.

    Args:
        version: of lmf.
        requirements: what lmf requires, extras included.
        installed: the version of each required package, None for one that is not installed.
    """
    wrong = [
        text for requirement in requirements if requirement.marker is None if (text := _wrong(requirement, installed))
    ]
    if wrong:
        return problem("packages", "; ".join(wrong), "install lmf anew: pip install --upgrade lmf")
    told = ", ".join(f"{name} {installed[name]}" for name in TOLD if installed.get(name))
    return ok("packages", f"lmf {version}, {told}")


def judge_extras(
    requirements: Sequence[Requirement], installed: Mapping[str, str | None], needed: frozenset[str]
) -> Diagnosis:
    """Which extras are installed; that one is missing is a problem only where the settings ask for it."""
    missing: dict[str, list[str]] = {}
    for extra in EXTRAS:
        asked = [item for item in requirements if item.marker and item.marker.evaluate({"extra": extra})]
        wrong = [text for item in asked if item.name != "lmf" if (text := _wrong(item, installed))]
        if wrong:
            missing[extra] = wrong
    there = ", ".join(extra for extra in EXTRAS if extra not in missing) or "none"
    lacking = needed & set(missing)
    if lacking:
        found = "; ".join(f"{extra} is needed here: {', '.join(missing[extra])}" for extra in sorted(lacking))
        return problem("extras", found, f"pip install 'lmf[{','.join(sorted(lacking))}]'")
    if not missing:
        return ok("extras", f"installed: {there}")
    others = ", ".join(f"{extra} ({EXTRAS[extra]})" for extra in missing)
    return ok("extras", f"installed: {there}; not installed: {others}", "pip install 'lmf[NAME]' adds one")


def judge_origins(origins: Mapping[str, Path | None], owners: Mapping[str, frozenset[str]]) -> Diagnosis:
    """Whether lmf's three packages, whose names are common words, are lmf's and no others.

    Args:
        origins: the folder from which each package is taken.
        owners: the distributions that say that a package is theirs.
    """
    shared = {name: sorted(owners.get(name, frozenset()) - {"lmf"}) for name in PACKAGES}
    others = [f"{name} is also a package of {', '.join(names)}" for name, names in shared.items() if names]
    if others:
        advice = "install lmf in an environment of its own: python -m venv"
        return problem("imports", "; ".join(others), advice)
    roots = {folder.parent for folder in origins.values() if folder is not None}
    if len(roots) != 1 or None in origins.values():
        found = ", ".join(f"{name} from {folder or 'nowhere'}" for name, folder in origins.items())
        return problem("imports", found, "the three belong together: look at PYTHONPATH and at the current folder")
    return ok("imports", f"lmf is taken from {roots.pop()}")


def judge_command(command: str | None, prefix: Path) -> Diagnosis:
    """Whether `lmf` on PATH is this lmf.

    Args:
        command: the first `lmf` on PATH, or None.
        prefix: the environment that runs now.
    """
    here = prefix / "bin"
    if command is None:
        return ok("command", f"lmf is not on PATH; this one is in {here}")
    if Path(command).absolute().parent != here.absolute():
        return warning(
            "command", f"the first lmf on PATH is {command}, and not the one in {here}", f"put {here} first on PATH"
        )
    return ok("command", f"lmf is {command}")


def _wrong(requirement: Requirement, installed: Mapping[str, str | None]) -> str | None:
    version = installed.get(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is installed, {requirement.specifier} is needed"
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _origins() -> dict[str, Path | None]:
    found = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        found[name] = Path(spec.origin).parent if spec and spec.origin else None
    return found


def _owners() -> dict[str, frozenset[str]]:
    distributions = metadata.packages_distributions()
    return {
        name: frozenset(re.sub(r"[-_.]+", "-", owner).lower() for owner in distributions.get(name, ()))
        for name in PACKAGES
    }
