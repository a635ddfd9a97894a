"""The manifest: valid by the published schema, with references and no secret, restarted when it should be."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from study.errors import StudyError
from study.launch.base import WorkerRequest
from study.launch.kubernetes import OLDEST_VERSION, KubernetesLauncher


def launcher(**changes: Any) -> KubernetesLauncher:
    given = {"image": "registry.example.org/lmf:0.1.0", "secret": "lmf-storage", "home_claim": "lmf-home", **changes}
    return KubernetesLauncher(**given)


def manifest(request: WorkerRequest | None = None, **changes: Any) -> tuple[str, dict[str, Any]]:
    """The text, and the one document in it."""
    text = launcher(**changes).launch(request or WorkerRequest(("skin",), 4, ("cuda",))).description
    (document,) = yaml.safe_load_all(text)
    return text, document


FULL = {"namespace": "team", "data_claim": "images", "secret_key": "storage.url", "memory": "32Gi", "cpu": "500m"}


def minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


VERSIONS = sorted({version for version in all_versions() if minor(version) >= minor(OLDEST_VERSION)}, key=minor)


@pytest.mark.parametrize(
    ("version", "changes"),
    [*((version, FULL) for version in VERSIONS), (VERSIONS[-1], {}), (VERSIONS[-1], {"gpu": False})],
)
def test_the_manifest_is_valid_by_the_published_schema(version: str, changes: dict[str, Any]) -> None:
    _, job = manifest(**changes)
    kubernetes_validate.validate(job, version, strict=True)


def test_the_check_by_the_schema_can_fail() -> None:
    _, job = manifest()
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_an_older_kubernetes_does_not_know_what_the_manifest_asks_for() -> None:
    older = max((version for version in all_versions() if minor(version) < minor(OLDEST_VERSION)), key=minor)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest()[1], older, strict=True)


def test_each_pod_is_a_worker_with_a_gpu() -> None:
    request = WorkerRequest(("skin", "eyes"), 40, ("cuda",), ("--lease-seconds=30",))
    _, job = manifest(request, data_claim="images")
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 40, 40)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["lmf"]
    assert container["args"] == ["worker", "--device=cuda", "--lease-seconds=30", "skin", "eyes"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["terminationGracePeriodSeconds"] >= 120
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_without_a_gpu_none_is_asked_for() -> None:
    _, job = manifest(gpu=False)
    assert "nvidia" not in str(job)


def test_what_a_pod_needs_is_mounted_where_its_variables_say() -> None:
    text, job = manifest(data_claim="images", secret="db", secret_key="link", namespace="team")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    variables = {item["name"]: item["value"] for item in container["env"]}
    folder, _, key = variables["LMF_STORAGE_FILE"].rpartition("/")
    secret = volumes[mounts[folder]["name"]]["secret"]
    assert (secret["secretName"], secret["items"], secret["defaultMode"]) == ("db", [{"key": key, "path": key}], 0o440)
    assert key == "link"
    assert volumes[mounts[variables["LMF_HOME"]]["name"]]["persistentVolumeClaim"] == {"claimName": "lmf-home"}
    images = volumes[mounts[variables["LMF_DATA"]]["name"]]["persistentVolumeClaim"]
    assert images == {"claimName": "images", "readOnly": True}
    assert variables["LMF_ARTIFACTS"].startswith(variables["LMF_HOME"] + "/")
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    assert volumes[mounts[variables["HOME"]]["name"]]["emptyDir"] == {}
    assert "kubectl create secret generic db --namespace team --from-file=link=url.txt" in text


def action(job: dict[str, Any], code: int | None = None, disrupted: bool = False) -> str:
    """What Kubernetes does with an index whose pod failed: the first rule that fits decides."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        conditions = [condition["type"] for condition in rule.get("onPodConditions", ())]
        if (disrupted and "DisruptionTarget" in conditions) or code in rule.get("onExitCodes", {}).get("values", ()):
            return str(rule["action"])
    return "Count"


def test_stopped_workers_are_started_again_and_those_that_are_done_are_not() -> None:
    _, job = manifest()
    assert action(job, 3) == action(job, 137, disrupted=True) == "Ignore"
    assert action(job, 1) == action(job, 2) == "FailIndex"
    assert action(job, 137) == "Count"
    assert job["spec"]["backoffLimitPerIndex"] > 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("flag", ["--max-points=3", "--max-hours=2"])
def test_a_worker_that_reached_its_limit_is_not_replaced(flag: str) -> None:
    _, job = manifest(WorkerRequest((), 2, ("cuda",), (flag,)))
    assert action(job, 3) == "FailIndex"
    assert action(job, 3, disrupted=True) == "Ignore"


def test_all_that_kubernetes_would_refuse_is_said_at_once() -> None:
    with pytest.raises(StudyError) as refusal:
        launcher(image="a b", name="Big", namespace="x_y", secret="-", home_claim="", cpu="many", memory="16 GB")
    message = str(refusal.value)
    for flag in ("--image", "--name", "--namespace", "--storage-secret", "--home-claim", "--cpu", "--memory"):
        assert f"{flag}: " in message
