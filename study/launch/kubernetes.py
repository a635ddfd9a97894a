"""Workers on Kubernetes: a manifest of an Indexed Job, printed for `kubectl apply`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from study.cli.main import BAD_REQUEST, INTERRUPTED, POINTS_FAILED
from study.errors import StudyError
from study.launch.base import PrintedLaunch, WorkerRequest

OLDEST_VERSION = "1.29"
"""The first Kubernetes that counts the failures of each index for itself."""

DEFAULT_KEY = "url"
HOME, IMAGES, SECRET = "/data/lmf-home", "/data/images", "/run/secrets/lmf"
USER_ID = 10001
"""The user of the image that the Dockerfile makes."""

GRACE_SECONDS = 180
"""Long enough to end a batch and to write a checkpoint."""

MOST_CRASHES = 6

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")


@dataclass(frozen=True, kw_only=True)
class KubernetesLauncher:
    """Writes the manifest of a Job whose pods are workers.

    Attributes:
        image: with `lmf` on its path.
        name: of the Job; letters, digits and `-`.
        namespace: where it lives; None leaves it to kubectl.
        secret: the Secret that holds the database's URL.
        secret_key: under which key.
        home_claim: the PersistentVolumeClaim of LMF_HOME; all pods write to it.
        data_claim: that of the images, only read; None where the cache in LMF_HOME, or the dataset itself, has them.
        gpu: a GPU for each pod; without, they train on the processor.
        cpu: processor cores of each pod, such as `4` or `500m`.
        memory: memory of each pod, such as `16Gi`.
        shared_memory: size limit of /dev/shm, which counts as memory of the pod.
    """

    image: str
    name: str = "lmf-worker"
    namespace: str | None = None
    secret: str
    secret_key: str = DEFAULT_KEY
    home_claim: str
    data_claim: str | None = None
    gpu: bool = True
    cpu: str = "4"
    memory: str = "16Gi"
    shared_memory: str = "1Gi"

    def __post_init__(self) -> None:
        """Refuse what Kubernetes would not take.

        Raises:
            StudyError: values are wrong; one line with every problem.
        """
        name = "expected small letters, digits and '-', at most 63"
        checks = (
            ("image", self.image, _IMAGE, "expected such as registry.example.org/lmf:0.1.0"),
            ("name", self.name, _LABEL, name),
            ("namespace", self.namespace, _LABEL, name),
            ("storage-secret", self.secret, _NAME, "expected NAME or NAME:KEY"),
            (
                "storage-secret",
                self.secret_key,
                _KEY,
                "expected NAME:KEY with letters, digits, '.', '_' and '-' as key",
            ),
            ("home-claim", self.home_claim, _NAME, "expected the name of a PersistentVolumeClaim"),
            ("data-claim", self.data_claim, _NAME, "expected the name of a PersistentVolumeClaim"),
            ("cpu", self.cpu, _QUANTITY, "expected cores such as 4 or 500m"),
            ("memory", self.memory, _QUANTITY, "expected an amount such as 16Gi"),
            ("shared-memory", self.shared_memory, _QUANTITY, "expected an amount such as 1Gi"),
        )
        problems = [
            f"--{flag}: {value!r} cannot be used; {expected}"
            for flag, value, pattern, expected in checks
            if value is not None and not pattern.fullmatch(value)
        ]
        if problems:
            raise StudyError("; ".join(problems))

    def launch(self, request: WorkerRequest) -> PrintedLaunch:
        """Write the manifest, with what has to be there beforehand as comments."""
        text = yaml.safe_dump(self.job(request), sort_keys=False, width=120)
        return PrintedLaunch(f"{self._comments(request)}\n{text}".rstrip("\n"))

    def job(self, request: WorkerRequest) -> dict[str, Any]:
        """The Job of some workers, one a pod; all of them get the first device."""
        labels = {"app.kubernetes.io/name": "lmf", "app.kubernetes.io/component": "worker"}
        metadata: dict[str, Any] = {"name": self.name, "labels": labels}
        if self.namespace:
            metadata["namespace"] = self.namespace
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "completionMode": "Indexed",
                "completions": request.count,
                "parallelism": request.count,
                "backoffLimitPerIndex": MOST_CRASHES,
                "podFailurePolicy": {"rules": _failure_rules(request)},
                "template": {"metadata": {"labels": labels}, "spec": self._pod(request)},
            },
        }

    def _pod(self, request: WorkerRequest) -> dict[str, Any]:
        volumes: list[dict[str, Any]] = [
            {"name": "home", "persistentVolumeClaim": {"claimName": self.home_claim}},
            {"name": "storage", "secret": {"secretName": self.secret, "defaultMode": 0o440, "items": self._items()}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": self.shared_memory}},
            {"name": "temporary", "emptyDir": {}},
        ]
        if self.data_claim:
            volumes.append(
                {"name": "images", "persistentVolumeClaim": {"claimName": self.data_claim, "readOnly": True}}
            )
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container(request)],
            "volumes": volumes,
        }

    def _container(self, request: WorkerRequest) -> dict[str, Any]:
        resources = {"cpu": self.cpu, "memory": self.memory}
        limits = {"memory": self.memory, **({"nvidia.com/gpu": 1} if self.gpu else {})}
        variables = {
            "LMF_STORAGE_FILE": f"{SECRET}/{self.secret_key}",
            "LMF_HOME": HOME,
            "LMF_ARTIFACTS": f"{HOME}/artifacts",
            "HOME": "/tmp",
            **({"LMF_DATA": IMAGES} if self.data_claim else {}),
        }
        mounts: list[dict[str, Any]] = [
            {"name": "home", "mountPath": HOME},
            {"name": "storage", "mountPath": SECRET, "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "temporary", "mountPath": "/tmp"},
        ]
        if self.data_claim:
            mounts.append({"name": "images", "mountPath": IMAGES, "readOnly": True})
        return {
            "name": "worker",
            "image": self.image,
            "command": ["lmf"],
            "args": request.arguments(),
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "resources": {"requests": {**resources, **({"nvidia.com/gpu": 1} if self.gpu else {})}, "limits": limits},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        }

    def _items(self) -> list[dict[str, str]]:
        return [{"key": self.secret_key, "path": self.secret_key}]

    def _comments(self, request: WorkerRequest) -> str:
        where = f" --namespace {self.namespace}" if self.namespace else ""
        lines = [
            f"A Job of {request.count} workers of lmf. It needs Kubernetes {OLDEST_VERSION} or later, and beforehand",
            f"- the Secret {self.secret}; url.txt holds the database's URL, as `lmf db url --file url.txt` writes it:",
            f"    kubectl create secret generic {self.secret}{where} --from-file={self.secret_key}=url.txt",
            f"- the PersistentVolumeClaim {self.home_claim} (ReadWriteMany): cache, checkpoints and files of trials",
        ]
        if self.data_claim:
            lines.append(f"- the PersistentVolumeClaim {self.data_claim} (read only): the images")
        lines += [
            "A pod that is evicted, preempted or deleted writes a checkpoint, and another goes on with its index.",
            f"start:  kubectl apply{where} -f FILE",
            f"watch:  kubectl logs{where} --follow --max-log-requests {max(5, request.count)} job/{self.name}",
            f"end:    kubectl delete{where} job/{self.name}",
        ]
        return "\n".join(f"# {line}" for line in lines)


def _failure_rules(request: WorkerRequest) -> list[dict[str, Any]]:
    """What becomes of an index whose pod failed; other codes are crashes, and are tried again some times."""
    restarted = [] if _ends_early(request) else [INTERRUPTED]
    final = sorted({POINTS_FAILED, BAD_REQUEST, INTERRUPTED} - set(restarted))
    rules: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    if restarted:
        rules.append(_exit_rule("Ignore", restarted))
    return [*rules, _exit_rule("FailIndex", final)]


def _exit_rule(action: str, codes: list[int]) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "worker", "operator": "In", "values": codes}}


def _ends_early(request: WorkerRequest) -> bool:
    """Whether a worker may end by itself while points remain: another pod in its place would defeat that."""
    return any(flag.startswith(("--max-points", "--max-hours")) for flag in request.flags)
