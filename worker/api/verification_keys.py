"""The keys that tokens are verified with: a secret, a public key, or a JSON Web Key Set.

The algorithm is a property of the key, never of the token: an HS256 secret verifies only HS256, an RSA key RS256, a
P-256 key ES256 (RFC 8725 section 3.1).
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from worker.errors import InvalidSettings
from worker.log import get_logger
from worker.settings import PREFIX, Settings

log = get_logger(__name__)

_MIN_SECRET = 32
"""Minimum length of an HS256 secret, in bytes. https://www.rfc-editor.org/rfc/rfc7518#section-3.2"""
_CHECK_SECONDS = 1.0
"""Seconds between two checks whether the file with the keys has changed."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key with its algorithm. `key_id`: the `kid` of a key in a JWKS."""

    algorithm: str
    material: Any
    key_id: str | None = None


Keys = Sequence[VerificationKey]


class VerificationKeys:
    """The keys that the settings name. A changed file is read again."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSettings if there is no key, or more than one kind, or one that cannot be read."""
        self._file: _KeyFile | None = None
        names = ("jwt_secret", "jwt_public_key", "jwt_jwks")
        given = [name for name in names if getattr(settings, name) is not None]
        if len(given) != 1:
            variables = ", ".join(f"{PREFIX}{name.upper()}" for name in names)
            fault = "none is set, and there is no default" if not given else f"{len(given)} are set"
            raise InvalidSettings(f"Exactly one of {variables} has to be set, to verify tokens: {fault}.")
        if settings.jwt_secret is not None:
            self._keys: Keys = _read_secret(settings.jwt_secret.get_secret_value())
            return
        if settings.jwt_public_key is not None:
            self._file = _KeyFile(settings.jwt_public_key, _read_public_key)
        if settings.jwt_jwks is not None:
            self._file = _KeyFile(settings.jwt_jwks, _read_jwks)

    def current(self) -> Keys:
        """Return the keys, as the same object until they change."""
        return self._keys if self._file is None else self._file.keys()


class _KeyFile:
    """The keys in a file, read again when it has changed.

    If the changed file is not valid, the former keys stay in use.
    """

    def __init__(self, path: Path, read: Callable[[Path], Keys]) -> None:
        self._path = path
        self._read = read
        self._version = self._stat()
        self._keys = read(path)
        self._checked = time.monotonic()

    def keys(self) -> Keys:
        if time.monotonic() - self._checked > _CHECK_SECONDS:
            self._checked = time.monotonic()
            version = self._stat()
            if version != self._version:
                self._reload(version)
        return self._keys

    def _reload(self, version: object) -> None:
        try:
            self._keys = self._read(self._path)
        except InvalidSettings as error:
            log.warning("jwt_keys_not_reloaded", reason=error.message)
            return
        self._version = version
        log.info("jwt_keys_reloaded", keys=len(self._keys))

    def _stat(self) -> object:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read_secret(secret: str) -> Keys:
    if not secret.strip():
        raise InvalidSettings(f"{PREFIX}JWT_SECRET should not be empty.")
    if (length := len(secret.encode())) < _MIN_SECRET:
        log.warning("jwt_secret_short", variable=f"{PREFIX}JWT_SECRET", bytes=length, should_have=_MIN_SECRET)
    return [VerificationKey("HS256", secret)]


def _read_public_key(path: Path) -> Keys:
    variable = f"{PREFIX}JWT_PUBLIC_KEY"
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InvalidSettings(f"{variable} names a file that cannot be read: {error.strerror}.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSettings(f"{variable} should name a PEM file with a public key.") from None
    if isinstance(key, RSAPublicKey):
        return [VerificationKey("RS256", key)]
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return [VerificationKey("ES256", key)]
    raise InvalidSettings(f"{variable} should hold an RSA key (RS256) or a key of curve P-256 (ES256).")


def _read_jwks(path: Path) -> Keys:
    """Read a JSON Web Key Set (RFC 7517). The algorithm is its `alg` or follows from its type; others are ignored."""
    variable = f"{PREFIX}JWT_JWKS"
    try:
        jwks = jwt.PyJWKSet.from_dict(json.loads(path.read_bytes())).keys
    except OSError as error:
        raise InvalidSettings(f"{variable} names a file that cannot be read: {error.strerror}.") from None
    except (ValueError, AttributeError, TypeError, RecursionError, jwt.PyJWTError):
        raise InvalidSettings(f"{variable} should name a file with a JSON Web Key Set.") from None
    keys = [VerificationKey(key.algorithm_name, key.key, key.key_id) for key in jwks if _is_public(key)]
    if not keys:
        raise InvalidSettings(f"{variable} has no public key for RS256 or ES256.")
    return keys


def _is_public(key: jwt.PyJWK) -> bool:
    kinds = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}
    kind = kinds.get(key.algorithm_name)
    return kind is not None and isinstance(key.key, kind) and key.public_key_use in {None, "sig"}
