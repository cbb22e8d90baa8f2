"""How a restart of Redis is recognized, without rights to INFO."""

from pathlib import Path

import pytest

from support.redis_server import own_redis, redis_server, valkey_server
from support.waiting import eventually
from worker.sweep.redis_state import NewInstance, read_state


@pytest.mark.parametrize("persistence", ["append-only file", "snapshot"])
@pytest.mark.parametrize("program", ["valkey-server", "redis-server"])
def test_restart_is_recognized_without_info(program: str, persistence: str, tmp_path: Path) -> None:
    """The script cache is neither in the append-only file nor in a snapshot, and outlives a FLUSHALL."""
    binary = valkey_server() if program == "valkey-server" else redis_server()
    if binary is None:
        pytest.skip(f"{program} is not installed")
    mode = ("--appendonly", "yes") if persistence == "append-only file" else ("--appendonly", "no")
    instance = NewInstance()
    with own_redis(binary, tmp_path, *mode) as client:
        instance.load(client)
        client.set("key", "value")
        assert read_state(client, instance.digest).same_process
        client.flushall()
        client.bgsave()
        assert read_state(client, instance.digest).same_process
        client.set("key", "value")
        if persistence == "snapshot":
            eventually(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], 10)
            client.save()
        else:
            client.bgrewriteaof()
            eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 10)
    with own_redis(binary, tmp_path, *mode) as client:
        assert client.get("key") == b"value"
        assert not read_state(client, instance.digest).same_process
