"""Which role may do what. `accessRole` of a token or key, in any case.

| role | read | create, edit | delete, export |
|---|---|---|---|
| OWNER, ADMIN, SUPER_ADMIN, MANAGER | yes | yes | yes |
| SUPERVISOR, AGENT, USER, MEMBER | yes | yes | no |
| VIEWER, any other, none | yes | no | no |

The operations page is ADMIN's alone.
"""

from enum import Enum

from worker.api.responses import Forbidden


class Right(Enum):
    """What a role allows."""

    READ = "read"
    WRITE = "create and edit"
    DELETE = "delete"
    EXPORT = "export"
    OPERATE = "use the operations page"


MANAGING = frozenset({"OWNER", "ADMIN", "SUPER_ADMIN", "MANAGER"})
WORKING = MANAGING | {"SUPERVISOR", "AGENT", "USER", "MEMBER"}
_ALLOWED = {
    Right.WRITE: WORKING,
    Right.DELETE: MANAGING,
    Right.EXPORT: MANAGING,
    Right.OPERATE: frozenset({"ADMIN"}),
}


def check_role(role: str, right: Right) -> None:
    """Raises Forbidden, which names the roles that may."""
    allowed = _ALLOWED.get(right)
    if allowed is not None and role.upper() not in allowed:
        raise Forbidden(f"The token's role may not {right.value}; {', '.join(sorted(allowed))} may.")
