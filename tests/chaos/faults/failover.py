"""Faults of a Redis with Sentinels: another server becomes the primary."""

from chaos.context import Context
from support.sentinels import Sentinels
from support.waiting import eventually

_WHOLE_SECONDS = 60.0
_FROZEN_SECONDS = 8.0


def kill_redis_primary(context: Context) -> str:
    """SIGKILL. The server comes back, as a primary with old data, once another is the primary."""
    watched = _whole(context)
    primary = watched.primary()
    watched.kill(primary)
    context.strike(kills=1)
    new = watched.wait_for_another(primary)
    watched.start_redis(primary)
    return f"{primary} to {new}"


def hand_over_redis(context: Context) -> str:
    """SENTINEL FAILOVER: for a moment there are two primaries."""
    watched = _whole(context)
    primary = watched.primary()
    watched.fail_over()
    context.strike()
    return f"{primary} to {watched.wait_for_another(primary)}"


def freeze_redis_primary(context: Context) -> str:
    """SIGSTOP until another server has been the primary for a while; then it goes on as the primary that it was."""
    watched = _whole(context)
    primary = watched.primary()
    with watched.paused(primary):
        new = watched.wait_for_another(primary)
        context.pause(_FROZEN_SECONDS)
    context.strike()
    return f"{primary} to {new}"


def _whole(context: Context) -> Sentinels:
    """Wait until there are a primary and two replicas, so that a failover can follow."""
    watched = context.servers.watched
    if watched is None:
        raise LookupError("needs Sentinels")
    eventually(watched.is_whole, _WHOLE_SECONDS, 0.2)
    return watched
