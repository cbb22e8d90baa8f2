"""Describes errors of Redis for operators: the name (OOM, READONLY, NOAUTH), and the cause in plain words.

No text contains data or a password.
"""

import re
import ssl

import redis

VARIABLE = "SNAPSHOTS_REDIS_URL"
NO_PERMISSION = "NOPERM"
_COMMAND = re.compile(r"the '([\w|-]{1,40})' command")
_ARGUMENT = re.compile(r"\b(key|channel)s?\b")
_ADDRESS = re.compile(r"(?:connecting to|reading from) (\[?[\w.:-]+\]?:\d+)")
_SYSTEM_ERROR = re.compile(
    r"\b(?:Connection refused|Connection reset by peer|No route to host|Network is unreachable"
    r"|No such file or directory|Permission denied)\b"
)
_UNKNOWN_HOST = re.compile(r"ame or service not known|name resolution|o address associated|nodename nor servname")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system|File too large")

_MEANINGS = {
    "WRONGPASS": f"Redis rejected the user or the password of {VARIABLE}",
    "NOAUTH": f"Redis requires a password, and {VARIABLE} has none",
    "BUSY": "Redis is busy with a script of another program",
    "DENIED": "Redis runs in protected mode: it has no password, so it accepts connections from its own machine only",
    "LOADING": "Redis is still loading its data",
    "OOM": "Redis is out of memory (maxmemory)",
    "READONLY": "This Redis is a replica, which refuses writes",
    "MASTERDOWN": "This Redis is a replica that has lost its primary",
    "MISCONF": "Redis cannot write to its disk, so it refuses writes",
    "NOREPLICAS": "Redis has fewer replicas than min-replicas-to-write, so it refuses writes",
    "WRONGTYPE": "A key in Redis has a value of the wrong type, which workers move aside; `snapshots doctor` names it",
}


def name_of(error: redis.RedisError) -> str:
    """Return the error's name: the first word of Redis's reply, or the class for errors of the client.

    redis-py removes the first word where it knows it.
    """
    if isinstance(error, redis.exceptions.NoPermissionError):
        return NO_PERMISSION
    if known := getattr(error, "status_code", None):
        return str(known)
    if not isinstance(error, redis.ResponseError):
        return type(error).__name__
    return _reply(error).split(" ", 1)[0]


def describe(error: redis.RedisError) -> str:
    """Return the error's name, and the cause if the set-up is wrong.

    For the Python client, which is given its URL and knows no settings.
    """
    name = name_of(error)
    if name == NO_PERMISSION:
        return f"{name}: the ACL does not allow {forbidden(error)}"
    if "DB index is out of range" in str(error):
        return f"{name}: the server has no database with this number"
    reason = reason_of(error) if isinstance(error, redis.ConnectionError | redis.TimeoutError) else name
    return name if reason.endswith(name) else f"{name}, {reason}"


def explain(error: redis.RedisError) -> str:
    """Return one sentence with what is wrong, the address if redis-py names it, and the error's name."""
    name = name_of(error)
    if meaning := _MEANINGS.get(name):
        space = _NO_SPACE.search(str(error)) if name == "MISCONF" else None
        return f"{meaning} ({name}{f': {space[0]}' if space else ''})."
    if isinstance(error, redis.exceptions.AuthenticationError):
        return f"Redis rejected the login of {VARIABLE}: either Redis has no password, or the password is wrong."
    if name == NO_PERMISSION:
        return f"The ACL of the Redis user does not allow {forbidden(error)} ({name})."
    if "DB index is out of range" in str(error):
        return f"Redis rejected the database of {VARIABLE}: the server has no database with this number."
    if _lacks_command(error):
        return (
            f"The server of {VARIABLE} lacks a command that is needed: it is older than Redis 7.0, or a proxy or "
            "`rename-command` hides the command."
        )
    if isinstance(error, redis.exceptions.InvalidResponse):
        return f"The server of {VARIABLE} is not a Redis server: its answer is not valid."
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"Redis cannot be reached ({VARIABLE}): {reason_of(error)}."
    return f"Redis rejected the command ({name})."


def is_lasting(error: redis.RedisError) -> bool:
    """Return whether waiting will not help: the login, the address or the certificate is wrong."""
    return (
        isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.InvalidResponse)
        or name_of(error) in {NO_PERMISSION, "DENIED"}
        or "DB index is out of range" in str(error)
        or _lacks_command(error)
        or _tls_error(error) is not None
    )


def reason_of(error: redis.RedisError) -> str:
    """Return why there is no connection, as `host:port: reason`. One clause without a full stop."""
    text = str(error)
    if name_of(error) == "MasterNotFoundError":
        silent = dict.fromkeys(_ADDRESS.findall(text))
        return "no Sentinel names a primary that is up" + (f" (no answer: {', '.join(silent)})" if silent else "")
    address = f"{found[1]}: " if (found := _ADDRESS.search(text)) else ""
    if cause := _tls_error(error):
        return f"{address}TLS: {cause}"
    if _UNKNOWN_HOST.search(text):
        return f"{address}unknown host"
    if isinstance(error, redis.TimeoutError) or "timed out" in text.lower() or "timeout" in text.lower():
        return f"{address}no answer in time"
    if system := _SYSTEM_ERROR.search(text):
        hint = " (does it expect TLS?)" if "reset" in system[0] else ""
        return f"{address}{system[0].lower()}{hint}"
    if "max number of clients reached" in text:
        return f"{address}the server accepts no more connections (maxclients)"
    if "closed by server" in text:
        return f"{address}the server closed the connection (does it expect TLS, or is it not a Redis server?)"
    return f"{address}{name_of(error)}"


def forbidden(error: redis.RedisError) -> str:
    """Return what the ACL does not allow, read from a NOPERM error."""
    reply = _reply(error)
    if command := _COMMAND.search(reply):
        return f"the command {command[1]}"
    kind = _ARGUMENT.search(reply)
    return f"access to the {kind[1]} that was used" if kind else "this"


def _lacks_command(error: redis.RedisError) -> bool:
    return "unknown command" in str(error).lower()


def _reply(error: redis.RedisError) -> str:
    return str(error).rpartition("caused error: ")[2]  # redis-py prefixes the command of a pipeline


def _tls_error(error: BaseException | None) -> str | None:
    """Return why TLS failed: redis-py raises its own error from the one of the ssl module."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        if isinstance(error, ssl.SSLError):
            words = (error.reason or "failed").lower().replace("_", " ")
            plain = error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
            return f"{words} (does the server speak TLS at this port?)" if plain else words
        error = error.__cause__ or error.__context__
    return None
