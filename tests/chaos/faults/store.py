"""Faults of MongoDB: elections, dead members, partitions, delays."""

import contextlib
import signal
from typing import Any

from pymongo.errors import AutoReconnect

from chaos.context import Context
from chaos.proxy import CLIENT
from chaos.servers import ELECTION_SECONDS, MEMBERS
from chaos.system import send_signal

_SLOW_SECONDS = 8.0


def step_down(context: Context) -> str:
    """Makes the primary step down."""
    with context.store_disturbed():
        primary = context.servers.primary()
        with context.servers.member(primary) as client, contextlib.suppress(AutoReconnect):
            context.strike()
            client.admin.command("replSetStepDown", 8, secondaryCatchUpPeriodSecs=3)
        context.servers.primary()
    return primary


def kill_primary(context: Context) -> str:
    with context.store_disturbed():
        return _kill(context, context.servers.primary())


def kill_secondary(context: Context) -> str:
    with context.store_disturbed():
        primary = context.servers.primary()
        return _kill(context, context.dice.choice([name for name in MEMBERS if name != primary]))


def partition_primary(context: Context) -> str:
    """Cuts the primary off from the other members: clients still reach it, and its writes roll back."""
    return _partition(context, clients=False)


def isolate_primary(context: Context) -> str:
    """Cuts the primary off from everyone: connections stay, and nothing gets through."""
    return _partition(context, clients=True)


def slow_mongo(context: Context) -> str:
    """Delays by 60 ms each way between clients and members."""
    with context.servers.links(*({"source": CLIENT, "target": name, "delay": 0.06} for name in MEMBERS)):
        context.pause(_SLOW_SECONDS)
    return "120 ms a round trip"


def _kill(context: Context, name: str) -> str:
    if not send_signal(context.servers.members[name].pid, signal.SIGKILL):
        raise LookupError(f"member {name} was not running")
    context.strike(kills=1)
    context.pause(1.0)
    context.servers.primary()
    return name


def _partition(context: Context, clients: bool) -> str:
    with context.store_disturbed():
        primary = context.servers.primary()
        before = context.servers.rollbacks()
        others = [name for name in MEMBERS if name != primary]
        links = [(primary, other) for other in others] + [(other, primary) for other in others]
        if clients:
            links.append((CLIENT, primary))
        rules: list[dict[str, Any]] = [{"source": one, "target": two, "hold": True} for one, two in links]
        with context.servers.links(*rules):
            context.pause(3 * ELECTION_SECONDS + 3)
            states = context.servers.states()
            if not any(states.get(name) == "primary" for name in others):
                raise LookupError(f"no other member has become the primary: {states}")
        # Connections that were held for so long have been given up; members connect again.
        context.pause(1.0)
        context.servers.primary(90)
        return f"{primary}, {context.servers.rollbacks() - before} rollbacks"
