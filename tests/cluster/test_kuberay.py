"""The manifests for Kubernetes: every field is one that KubeRay has, and they say what the docs promise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = {
    name: yaml.safe_load((ROOT / "configs" / "cluster" / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("rayjob", "raycluster")
}


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


STRING, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
STRINGS = {"type": "object", "additionalProperties": STRING}
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"}}


def listed(items: dict[str, Any]) -> dict[str, Any]:
    """A list of at least one."""
    return {"type": "array", "items": items, "minItems": 1}


CONTAINER = fields(
    ("name", "image", "resources"),
    name=STRING,
    image=STRING,
    env=listed(fields(("name", "value"), name=STRING, value=STRING)),
    resources=fields(("limits", "requests"), limits=QUANTITIES, requests=QUANTITIES),
    volumeMounts=listed(fields(("name", "mountPath"), name=STRING, mountPath=STRING, readOnly=FLAG)),
)
VOLUME = fields(
    ("name",),
    name=STRING,
    persistentVolumeClaim=fields(("claimName",), claimName=STRING),
    emptyDir=fields(medium={"enum": ["Memory"]}, sizeLimit=STRING),
    configMap=fields(("name",), name=STRING),
)
POD = fields(
    ("spec",),
    metadata=fields(labels=STRINGS, annotations=STRINGS),
    spec=fields(
        ("containers",),
        containers=listed(CONTAINER),
        volumes=listed(VOLUME),
        nodeSelector=STRINGS,
        tolerations=listed(
            fields(
                key=STRING,
                operator={"enum": ["Exists", "Equal"]},
                value=STRING,
                effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            )
        ),
    ),
)
CLUSTER = fields(
    ("headGroupSpec", "workerGroupSpecs", "rayVersion"),
    rayVersion=STRING,
    authOptions=fields(("mode",), mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(
        idleTimeoutSeconds=COUNT, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]}
    ),
    headServiceAnnotations=STRINGS,
    suspend=FLAG,
    headGroupSpec=fields(
        ("rayStartParams", "template"),
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        enableIngress=FLAG,
        rayStartParams=STRINGS,
        template=POD,
    ),
    workerGroupSpecs=listed(
        fields(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=STRING,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            numOfHosts=COUNT,
            rayStartParams=STRINGS,
            template=POD,
        )
    ),
)
JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=STRING,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    runtimeEnvYAML=STRING,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    suspend=FLAG,
    rayClusterSpec=CLUSTER,
)
"""Fields of `ray.io/v1`, as far as these manifests could want them."""


def check(manifest: dict[str, Any]) -> None:
    """Raise what the API server would refuse."""
    kind = manifest.get("kind")
    spec = {"RayJob": JOB, "RayCluster": CLUSTER}[str(kind)]
    metadata = fields(("name",), name={"type": "string", "pattern": "^[a-z0-9-]{1,47}$"}, labels=STRINGS)
    resource = fields(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )
    jsonschema.validate(manifest, resource)
    for pod in pods(manifest):
        mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}, "a volume is missing, or not used"


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return found


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's, then the workers'."""
    cluster = cluster_of(manifest)
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


EACH = pytest.mark.parametrize("name", MANIFESTS)


@EACH
def test_every_field_is_known(name: str) -> None:
    check(MANIFESTS[name])


def misspelt(manifest: dict[str, Any]) -> None:
    cluster_of(manifest)["headGroupSpecs"] = {}


def number_where_text_belongs(manifest: dict[str, Any]) -> None:
    cluster_of(manifest)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def without_a_volume(manifest: dict[str, Any]) -> None:
    manifest_pods = pods(manifest)
    manifest_pods[-1]["volumes"] = manifest_pods[-1]["volumes"][:-1]


@EACH
@pytest.mark.parametrize("spoil", [misspelt, number_where_text_belongs, without_a_volume])
def test_the_check_would_notice_a_mistake(name: str, spoil: Callable[[dict[str, Any]], None]) -> None:
    spoiled = copy.deepcopy(MANIFESTS[name])
    spoil(spoiled)
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check(spoiled)


@EACH
def test_no_client_is_placed_on_the_head_and_workers_have_gpus_on_spot_nodes(name: str) -> None:
    cluster = cluster_of(MANIFESTS[name])
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    spec = workers["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["nodeSelector"]
    assert spec["tolerations"]


def test_the_cluster_that_stays_scales_from_zero_and_the_jobs_is_taken_down() -> None:
    cluster = cluster_of(MANIFESTS["raycluster"])
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["workerGroupSpecs"][0]["minReplicas"] == cluster["workerGroupSpecs"][0]["replicas"] == 0
    assert MANIFESTS["rayjob"]["spec"]["shutdownAfterJobFinishes"]


@EACH
def test_authentication_is_on_and_nothing_is_offered_outside(name: str) -> None:
    cluster = cluster_of(MANIFESTS[name])
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert not cluster["headGroupSpec"].get("enableIngress", False)


@EACH
def test_every_pod_shares_data_and_has_room_for_the_object_store(name: str) -> None:
    for pod in pods(MANIFESTS[name]):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert "persistentVolumeClaim" in volumes["shared"]
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert mounts["shm"] == "/dev/shm"
        cache = {"name": "RAYSIM_CACHE", "value": f"{mounts['shared']}/cache"}
        assert cache in pod["containers"][0]["env"]


@EACH
def test_the_version_of_ray_is_the_pinned_one(name: str) -> None:
    pinned = next(
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.startswith("ray==")
    )
    assert cluster_of(MANIFESTS[name])["rayVersion"] == pinned.removeprefix("ray==")


def test_the_jobs_command_is_one_that_raysim_understands() -> None:
    import shlex

    from raysim import Experiment

    shell = shlex.split(MANIFESTS["rayjob"]["spec"]["entrypoint"])
    assert shell[:2] == ["bash", "-c"]
    words = shell[2].rpartition("exec ")[2].split()
    assert words[:2] == ["raysim", "run"]
    Experiment().updated([word for word in words if "=" in word])
