"""Checks the servers before a process begins. A command exits with the reason; a long-running process may wait."""

import sys

from worker.errors import BrokerUnavailable, TransientError, UnusableServer
from worker.log import get_logger
from worker.settings import Settings, unknown_variables
from worker.startup import mongo_check, redis_check
from worker.stores.connections import Connections

log = get_logger(__name__)


def require(connections: Connections, *, mongo: bool = True, redis: bool = True) -> list[str]:
    """Check the servers for a command that needs them; return warnings about settings of Redis that may lose data.

    Raises UnusableServer, StoreUnavailable, BrokerUnavailable.
    """
    warnings = redis_check.check(connections.settings) if redis else []
    if mongo:
        mongo_check.check(connections)
    return warnings


def require_for_requests(connections: Connections) -> None:
    """Check the servers for a command that accepts requests. Redis may be down, because the sweep enqueues them later.

    Raises UnusableServer, StoreUnavailable.
    """
    mongo_check.check(connections)
    try:
        redis_check.check(connections.settings)
    except BrokerUnavailable as error:
        print(f"Warning: {error.message}", file=sys.stderr)


def prepare(settings: Settings) -> bool:
    """Check settings and servers for a long-running process, and log warnings; return whether MongoDB answers.

    A server that is down is logged, and the process waits for it. Raises UnusableServer if waiting will not help.
    """
    for name, nearest in unknown_variables():
        log.warning("unknown_setting", variable=name, nearest=nearest)
    try:
        for risk in redis_check.check(settings, permissions=True):
            log.warning("redis_may_lose_data", reason=risk)
    except BrokerUnavailable as error:
        log.warning("redis_unavailable_at_start", code=error.code, reason=error.message)
    connections = Connections(settings)
    try:
        mongo_check.check(connections)
    except TransientError as error:
        log.warning("mongo_unavailable_at_start", code=error.code, reason=error.message)
        return False
    finally:
        connections.close()
    return True


def prepare_or_exit(settings: Settings) -> bool:
    """Do what `prepare` does, but for Celery's processes: on an error, print one sentence and exit with code 2."""
    try:
        return prepare(settings)
    except UnusableServer as error:
        print(f"Error: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
