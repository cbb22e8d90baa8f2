"""How Redis itself names what it refuses: OOM, READONLY, MISCONF, NOAUTH, BUSYGROUP."""

import redis


def name_of(error: redis.RedisError) -> str:
    """The first word of the reply, which redis-py takes off where it knows it; of other errors, their kind."""
    if known := getattr(error, "status_code", None):
        return str(known)
    if not isinstance(error, redis.ResponseError):
        return type(error).__name__
    said = str(error).rpartition("caused error: ")[2]  # redis-py puts a pipeline's command before it
    return said.split(" ", 1)[0]
