"""The rights of each role: `accessRole` of a token or key, in upper or lower case.

| role | read | create, edit | delete, export |
|---|---|---|---|
| OWNER, ADMIN, SUPER_ADMIN, MANAGER | yes | yes | yes |
| SUPERVISOR, AGENT, USER, MEMBER | yes | yes | no |
| VIEWER, any other role, no role | yes | no | no |

Only ADMIN may use the operations pages.
"""

from enum import Enum

from worker.api.responses import Forbidden


class Right(Enum):
    """The rights that a role may have. `check_role` says which roles have which right."""

    READ = "read"
    WRITE = "create and edit"
    DELETE = "delete"
    EXPORT = "export"
    OPERATE = "use the operations pages"


MANAGING = frozenset({"OWNER", "ADMIN", "SUPER_ADMIN", "MANAGER"})
WORKING = MANAGING | {"SUPERVISOR", "AGENT", "USER", "MEMBER"}
_ALLOWED = {
    Right.WRITE: WORKING,
    Right.DELETE: MANAGING,
    Right.EXPORT: MANAGING,
    Right.OPERATE: frozenset({"ADMIN"}),
}


def check_role(role: str, right: Right) -> None:
    """Check that a role has a right. Raises Forbidden, which names the roles that have it."""
    allowed = _ALLOWED.get(right)
    if allowed is not None and role.upper() not in allowed:
        raise Forbidden(f"The token's role may not {right.value}. Roles that may: {', '.join(sorted(allowed))}.")
