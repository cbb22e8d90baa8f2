"""Describes why MongoDB cannot be reached or refuses an operation: which server, and the cause in plain words.

No text contains data or a password. PyMongo's own texts of connection errors hold host, port and the system's error.
"""

import re
from collections.abc import Callable

from dns.exception import DNSException, Timeout
from dns.resolver import NXDOMAIN, NoAnswer
from pymongo.errors import ConfigurationError, ExecutionTimeout, NotPrimaryError, OperationFailure, PyMongoError

VARIABLE = "SNAPSHOTS_MONGO_URL"

UNAUTHORIZED, AUTHENTICATION_FAILED, ILLEGAL_OPERATION, MAX_TIME_EXPIRED = 13, 18, 20, 50
MECHANISM_UNAVAILABLE, _BAD_AUTH, _DISK_FULL = 334, 8000, 14031
"""No such user in the database of the login, if the server allows SCRAM-SHA-256 alone; AtlasError, which Atlas gives
for a wrong login; OutOfDiskSpace."""
# https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml

NO_TRANSACTIONS = (
    "is not a replica set, so it has no transactions: start mongod with --replSet rs0 and run rs.initiate() once "
    "(one member is enough)"
)

NO_ANSWER = "no answer in time (wrong port, or a firewall?)"
NOT_MONGO = "the server is not a MongoDB server"
UNKNOWN_HOST = "unknown host"
DNS_SILENT = f"{UNKNOWN_HOST} (DNS does not answer)"
NO_PRIMARY = "the replica set has no primary (is a majority of its members up?)"

# The rest of PyMongo's texts helps only PyMongo's developers.
_NOISE = re.compile(r"(, Timeout: .*|, Topology Description: .*|, full error: .*)$", re.DOTALL)
_TIMEOUTS = re.compile(r" ?\(configured timeouts: [^)]*\)")
_CAUSES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\[SSL[^\]]*\] certificate verify failed: (.*?) \(_ssl\.c:\d+\)"), r"TLS: \1"),
    (re.compile(r"certificate verify failed: (.*?) \(_ssl\.c:\d+\)"), r"TLS: \1"),
    (re.compile(r"\[SSL: ([A-Z_0-9]+)\][^,]*?\(_ssl\.c:\d+\)"), lambda found: _tls(found[1])),
    (re.compile(r"\[Errno -?\d+\] (Name or service not known|No address associated with hostname)"), UNKNOWN_HOST),
    (re.compile(r"\[Errno -?\d+\] (nodename nor servname provided, or not known)"), UNKNOWN_HOST),
    (re.compile(r"\[Errno -?\d+\] Temporary failure in name resolution"), DNS_SILENT),
    (re.compile(r"\[Errno \d+\] Connection refused"), "connection refused"),
    (re.compile(r"\[Errno -?\d+\] "), ""),
    (re.compile(r"\bSSL handshake failed: "), ""),
    (re.compile(r"\bNo (servers|replica set members|mongoses) found yet"), NO_ANSWER),
    (re.compile(r'\bNo (primary available for writes|replica set members match selector "Primary\(\)")'), NO_PRIMARY),
    (re.compile(r"\bNo replica set members available for replica set name "), "no server belongs to the replica set "),
    (re.compile(r"\bGot (response id|opcode) [^,]*|\bMessage length \([^,]*"), NOT_MONGO),
    (re.compile(r"\bconnection closed\b"), "the server closed the connection (does it expect TLS?)"),
]


def reason_of(error: PyMongoError) -> str:
    """Return why a server cannot be reached, as a clause without a full stop, with its address if PyMongo names it."""
    if isinstance(error, NotPrimaryError):
        return "the primary has stepped down"
    if isinstance(error, ExecutionTimeout):
        return "no answer in time"
    if isinstance(cause := error.__cause__, DNSException):
        return _dns(cause)
    text = _TIMEOUTS.sub("", _NOISE.sub("", str(error)))
    for pattern, words in _CAUSES:
        text = pattern.sub(words, text)
    return text.strip().rstrip(".,") or type(error).__name__


def rejection_of(error: OperationFailure, name: str) -> str | None:
    """Return why MongoDB refused an operation and what to do, or None if unknown. `name`: the error's code name."""
    if error.code == UNAUTHORIZED:
        command = re.search(r"execute command \{ (\w{1,40}):", str(error))
        what = f"run {command[1]}" if command else "do this"
        login = "requires a login" if "requires authentication" in str(error) else f"does not allow this user to {what}"
        return f"MongoDB {login} ({name}): {VARIABLE} needs a user with readWrite on the database"
    if error.code in {AUTHENTICATION_FAILED, MECHANISM_UNAVAILABLE} or (
        error.code == _BAD_AUTH and "auth" in str(error).lower()
    ):
        return f"MongoDB rejected the user or the password of {VARIABLE} ({name}): check both, and authSource"
    if error.code == ILLEGAL_OPERATION and "replica set" in str(error):
        return f"MongoDB ({VARIABLE}) {NO_TRANSACTIONS}"
    if error.code == _DISK_FULL:
        return f"MongoDB's disk is full ({name}): free space on it, or enlarge it"
    return None


def is_dns(error: PyMongoError) -> bool:
    """Return whether a ConfigurationError is the failed look-up of a mongodb+srv name, which is an outage."""
    return isinstance(error, ConfigurationError) and isinstance(error.__cause__, DNSException)


def _dns(error: DNSException) -> str:
    if isinstance(error, NXDOMAIN | NoAnswer):
        return f"unknown host: {str(error).rstrip('.')}"
    return "DNS does not answer" if isinstance(error, Timeout) else f"DNS failed ({type(error).__name__})"


def _tls(name: str) -> str:
    words = f"TLS: {name.lower().replace('_', ' ')}"
    is_plain = "WRONG_VERSION" in name or "EOF" in name
    return f"{words} (does the server speak TLS at this port?)" if is_plain else words
