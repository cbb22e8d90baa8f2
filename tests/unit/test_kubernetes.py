"""The manifests are valid by Kubernetes' schemas, and consistent with each other, the settings and Celery."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml

import celeryconfig
from worker.doctor import liveness
from worker.settings import PREFIX, Settings
from worker.stores.wakeups import REQUEST_QUEUES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
KEDA = json.loads((ROOT / "tests" / "support" / "keda.json").read_text())
VERSION = "1.33"
COMPONENTS = ("worker", "exporter", "beat", "listener", "api", "flower")
REACH_THE_INTERNET = {"snapshots-exporter", "snapshots-api", "snapshots-flower"}
"""For the bucket of exports, and an OAuth login."""
KNOWN = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}

MANIFESTS = [
    pytest.param(each, id=f"{file.stem}-{each['kind']}-{each['metadata']['name']}")
    for file in FILES
    for each in yaml.safe_load_all(file.read_text())
]


def of(kind: str) -> dict[str, dict[str, Any]]:
    """Returns the manifests of a kind by name."""
    found = (each.values[0] for each in MANIFESTS)
    return {each["metadata"]["name"]: each for each in found if isinstance(each, dict) and each["kind"] == kind}


DEPLOYMENTS = of("Deployment")


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return dict(only)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifest_is_valid_by_its_schema(manifest: dict[str, Any]) -> None:
    if manifest["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(manifest, KEDA)
    else:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_schemas_refuse_unknown_fields() -> None:
    wrong = json.loads(json.dumps(DEPLOYMENTS["snapshots-worker"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    scaled = json.loads(json.dumps(of("ScaledObject")["snapshots-worker"]))
    scaled["spec"]["triggers"][0]["metadata"]["listLength"] = 20
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled, KEDA)


def test_every_process_has_a_deployment() -> None:
    assert set(DEPLOYMENTS) == {f"snapshots-{name}" for name in COMPONENTS}


@pytest.mark.parametrize("name", ["snapshots-beat", "snapshots-flower"])
def test_beat_and_flower_never_run_twice(name: str) -> None:
    spec = DEPLOYMENTS[name]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_service_of_the_namespace_becomes_a_setting(name: str) -> None:
    assert pod(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(name)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pod_that_does_nothing_is_restarted(name: str) -> None:
    alive = container(name)["livenessProbe"]
    if "exec" in alive:
        command = alive["exec"]["command"]
        process = name.removeprefix("snapshots-").replace("exporter", "worker")
        assert command[:4] == ["python", "-m", "worker.doctor.liveness", process]
        assert command[3] in liveness.PROBES
    else:
        assert alive["httpGet"]["path"] in {"/healthz", "/healthcheck"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pod_mounts_all_its_volumes_and_no_other(name: str) -> None:
    assert {each["name"] for each in container(name)["volumeMounts"]} == {each["name"] for each in pod(name)["volumes"]}
    for each in pod(name)["volumes"]:
        if "persistentVolumeClaim" in each:
            assert each["persistentVolumeClaim"]["claimName"] in of("PersistentVolumeClaim")


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_sources_of_a_pods_settings_exist(name: str) -> None:
    there = {("configMapRef", each) for each in of("ConfigMap")} | {("secretRef", each) for each in of("Secret")}
    used = {(kind, ref["name"]) for source in container(name)["envFrom"] for kind, ref in source.items()}
    assert used <= there
    own = {ref for kind, ref in used if kind == "secretRef"} - {"snapshots"}
    assert own <= {name}, "secrets of another deployment"


def test_every_setting_exists() -> None:
    given = [each["data"] for each in of("ConfigMap").values()]
    given += [each["stringData"] for name, each in of("Secret").items() if name != "snapshots-keda"]
    given += [{each["name"]: each["value"] for each in container(name).get("env", ())} for name in DEPLOYMENTS]
    names = {name for each in given for name in each}
    assert {name for name in names if name.startswith(PREFIX)} <= KNOWN
    assert {name for name in names if not name.startswith(PREFIX)} == {
        *("FLOWER_BASIC_AUTH", "FLOWER_DB", "FLOWER_PORT"),
        "erasure.pem",  # a file of the Secret snapshots-erasure
    }


def test_example_contains_no_secret() -> None:
    assert of("Secret")["snapshots-api"]["stringData"] == {"SNAPSHOTS_JWT_SECRET": ""}
    assert of("Secret")["snapshots-flower"]["stringData"] == {"FLOWER_BASIC_AUTH": ""}


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_selector_matches_its_pods(kind: str) -> None:
    for name, each in of(kind).items():
        selector = each["spec"]["selector"]
        assert selector.get("matchLabels", selector) == DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    for each in of("Service").values():
        ports = {port["name"] for port in container(each["metadata"]["name"])["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports


def test_node_drain_leaves_workers_listeners_and_apis_running() -> None:
    assert set(of("PodDisruptionBudget")) == {"snapshots-worker", "snapshots-listener", "snapshots-api"}


@pytest.mark.parametrize("name", ["snapshots-worker", "snapshots-exporter"])
def test_worker_has_time_for_its_soft_shutdown(name: str) -> None:
    grace = pod(name)["terminationGracePeriodSeconds"]
    assert grace >= celeryconfig.worker_soft_shutdown_timeout + 15


def test_workers_are_scaled_by_the_queues_of_requests() -> None:
    scaled = of("ScaledObject")["snapshots-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert {each["metadata"]["listName"] for each in scaled["triggers"]} == set(REQUEST_QUEUES)
    assert {each["authenticationRef"]["name"] for each in scaled["triggers"]} == set(of("TriggerAuthentication"))
    assert "replicas" not in DEPLOYMENTS["snapshots-worker"]["spec"], (
        "applying the manifest would reset what KEDA has set"
    )
    refs = of("TriggerAuthentication")["snapshots-redis"]["spec"]["secretTargetRef"]
    assert {ref["parameter"] for ref in refs} == {"address", "username", "password"}, "the parts of the URL"
    assert {(ref["name"], ref["key"]) for ref in refs} == {
        ("snapshots-keda", key) for key in of("Secret")["snapshots-keda"]["stringData"]
    }


def policies_of(name: str, direction: str) -> list[dict[str, Any]]:
    """Returns the network policies that apply to the pods of a deployment."""
    labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"].items()
    specs = (each["spec"] for each in of("NetworkPolicy").values() if direction in each["spec"]["policyTypes"])
    return [spec for spec in specs if _selects(spec["podSelector"], dict(labels))]


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    chosen = all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))
    return chosen and selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_pod_accepts_and_makes_only_connections_that_it_needs(name: str) -> None:
    rules = [rule for spec in policies_of(name, "Ingress") for rule in spec.get("ingress", ())]
    accepted = {port["port"] for rule in rules for port in rule["ports"]}
    assert {port["name"] for port in container(name)["ports"]} <= accepted
    assert all(rule["from"] for rule in rules), "open to everyone"
    egress = [rule for spec in policies_of(name, "Egress") for rule in spec.get("egress", ())]
    made = {port["port"] for rule in egress for port in rule["ports"]}
    assert made == {53, 27017, 6379, 26379, 4318} | ({443} if name in REACH_THE_INTERNET else set())


def test_compose_and_kubernetes_run_the_same_commands() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in DEPLOYMENTS:
        assert container(name)["command"] == services[name.removeprefix("snapshots-")]["command"].split()
