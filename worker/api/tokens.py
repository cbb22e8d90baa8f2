"""Who is calling: JSON Web Tokens.

The algorithm is the key's, never the token's: an HS256 secret verifies HS256 alone, an RSA key RS256, a
P-256 key ES256 (RFC 8725 section 3.1). `exp` is required.
"""

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from bson import ObjectId
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from worker.api.responses import TokenExpired, TokenInvalid
from worker.domain.requests import read_object_id
from worker.errors import InvalidSettings
from worker.log import get_logger
from worker.settings import PREFIX, Settings

log = get_logger(__name__)

_LONGEST = 8192
"""Characters of a token."""
_REMEMBERED = 1000
_SHORTEST_SECRET = 32
"""Bytes of an HS256 secret. https://www.rfc-editor.org/rfc/rfc7518#section-3.2"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is."""

    organization: ObjectId
    user: ObjectId
    role: str
    operator: bool = False
    """Whether it runs the platform: on the operations page it sees all organizations, nowhere else."""


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    material: Any
    name: str | None = None
    """`kid` of a JWKS."""


class Tokens:
    """Verifies tokens with the one kind of key that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSettings where there is no key, or more than one kind, or one that cannot be read."""
        self._keys = _read_keys(settings)
        self._known: dict[str, tuple[float, Caller]] = {}
        self._options: dict[str, Any] = {
            "algorithms": sorted({key.algorithm for key in self._keys}),
            "issuer": settings.jwt_issuer,
            "audience": settings.jwt_audience,
            "options": {"require": ["exp"], "verify_aud": settings.jwt_audience is not None},
        }

    def verify(self, token: str) -> Caller:
        """Raises TokenInvalid or TokenExpired."""
        expires, caller = self._known.get(token, (0.0, None))
        if caller and time.time() < expires:
            return caller
        if len(token) > _LONGEST:
            raise TokenInvalid
        try:
            key = self._key_of(token)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # said once, at the start
                claims = jwt.decode(token, key.material, **{**self._options, "algorithms": [key.algorithm]})
            expires = float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise TokenInvalid from None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        caller = _caller(claims)
        self._known[token] = (expires, caller)
        return caller

    def _key_of(self, token: str) -> _Key:
        if len(self._keys) == 1 and self._keys[0].name is None:
            return self._keys[0]
        name = jwt.get_unverified_header(token).get("kid")
        for key in self._keys:
            if key.name == name:
                return key
        raise TokenInvalid("The token names no key that is known.")


def _caller(claims: dict[str, Any]) -> Caller:
    role = claims.get("accessRole", "")
    user = claims.get("id", claims.get("sub"))
    try:
        if not isinstance(role, str) or not isinstance(user, str):
            raise TokenInvalid("The token should have organizationId, id or sub, and accessRole.")
        # True alone: whatever else a token says there, "false" for one, is no operator.
        operator = claims.get("operator") is True
        return Caller(read_object_id(claims.get("organizationId")), read_object_id(user), role, operator)
    except ValueError:
        raise TokenInvalid("The token's organizationId and id or sub should be ObjectIds of 24 hex digits.") from None


# --- the keys -----------------------------------------------------------------------------------------


def _read_keys(settings: Settings) -> list[_Key]:
    names = ("jwt_secret", "jwt_public_key", "jwt_jwks")
    given = [name for name in names if getattr(settings, name) is not None]
    variables = [f"{PREFIX}{name.upper()}" for name in names]
    if len(given) != 1:
        fault = "none is set, and there is no default" if not given else f"{len(given)} are set"
        raise InvalidSettings(f"Exactly one of {', '.join(variables)} has to be set, to verify tokens with: {fault}.")
    if settings.jwt_secret is not None:
        return [_secret(settings.jwt_secret.get_secret_value())]
    if settings.jwt_public_key is not None:
        return [_public_key(settings.jwt_public_key)]
    assert settings.jwt_jwks is not None  # noqa: S101 - the one that is left
    return _jwks(settings.jwt_jwks)


def _secret(secret: str) -> _Key:
    if not secret.strip():
        raise InvalidSettings(f"{PREFIX}JWT_SECRET should not be empty.")
    if len(secret.encode()) < _SHORTEST_SECRET:
        log.warning("jwt_secret_short", bytes=len(secret.encode()), should_have=_SHORTEST_SECRET)
    return _Key("HS256", secret)


def _public_key(path: Path) -> _Key:
    variable = f"{PREFIX}JWT_PUBLIC_KEY"
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InvalidSettings(f"{variable} names a file that cannot be read: {error.strerror}.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSettings(f"{variable} should name a PEM file with a public key.") from None
    if isinstance(key, RSAPublicKey):
        return _Key("RS256", key)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return _Key("ES256", key)
    raise InvalidSettings(f"{variable} should hold an RSA key (RS256) or one of curve P-256 (ES256).")


def _jwks(path: Path) -> list[_Key]:
    """RFC 7517. A key's algorithm is its `alg`, or follows from its type; other keys are passed over."""
    variable = f"{PREFIX}JWT_JWKS"
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(path.read_bytes())).keys
    except OSError as error:
        raise InvalidSettings(f"{variable} names a file that cannot be read: {error.strerror}.") from None
    except (ValueError, AttributeError, TypeError, jwt.PyJWTError):
        raise InvalidSettings(f"{variable} should name a file with a JSON Web Key Set.") from None
    keys = [_Key(each.algorithm_name, each.key, each.key_id) for each in found if _is_public(each)]
    if not keys:
        raise InvalidSettings(f"{variable} has no public key for RS256 or ES256.")
    return keys


def _is_public(key: jwt.PyJWK) -> bool:
    kinds = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey}
    kind = kinds.get(key.algorithm_name)
    return kind is not None and isinstance(key.key, kind) and key.public_key_use in {None, "sig"}
