"""Verifies JSON Web Tokens, and reads the caller from their claims."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from bson import ObjectId

from worker.api.responses import TokenExpired, TokenInvalid
from worker.api.verification_keys import Keys, VerificationKey, VerificationKeys
from worker.domain.requests import read_object_id
from worker.settings import Settings

_MAX_LENGTH = 8192
"""Maximum length of a token, in characters."""
_MAX_REMEMBERED = 1000
_MAX_TIME = 253_402_300_799
"""The last second of the year 9999."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, according to its token or integration key."""

    organization: ObjectId
    user: ObjectId
    role: str
    operator: bool = False
    """Whether the caller runs the platform and sees all organizations on the operations pages, and nowhere else."""


class Tokens:
    """Verifies tokens with the keys that the settings name. `exp` is required."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidSettings if there is no key, or more than one kind, or one that cannot be read."""
        self._verification_keys = VerificationKeys(settings)
        self._keys: Keys = self._verification_keys.current()
        self._leeway = settings.jwt_leeway.total_seconds()
        self._remembered: dict[str, tuple[float, Caller]] = {}
        self._expected: dict[str, Any] = {"issuer": settings.jwt_issuer, "audience": settings.jwt_audience}
        self._options: Any = {
            "require": ["exp"],
            "verify_aud": settings.jwt_audience is not None,
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),  # `_check_times` does
        }

    def verify(self, token: str) -> Caller:
        """Verify a JSON Web Token and read its claims.

        Args:
            token: The token, without `Bearer`.

        Returns:
            The caller: organization, user and role. A token that was verified before is not verified again until it
                expires.

        Raises:
            TokenExpired: `exp` is in the past.
            TokenInvalid: The signature, a claim or the form is wrong. The message says which.
        """
        keys = self._verification_keys.current()
        if keys is not self._keys:
            self._keys = keys
            self._remembered.clear()
        expires, caller = self._remembered.get(token, (0.0, None))
        if caller and time.time() < expires:
            return caller
        claims = self._decode(token)
        expires = _check_times(claims, time.time(), self._leeway)
        caller = _caller(claims)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[token] = (expires, caller)
        return caller

    def _decode(self, token: str) -> dict[str, Any]:
        """Return the claims of a token with a valid signature. Their times are not checked yet."""
        if len(token) > _MAX_LENGTH:
            raise TokenInvalid(f"The token should have at most {_MAX_LENGTH} characters.")
        try:
            key = self._key_of(token)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # logged at startup
                return jwt.decode(token, key.material, [key.algorithm], self._options, **self._expected)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenInvalid(_reason(error)) from None

    def _key_of(self, token: str) -> VerificationKey:
        if len(self._keys) == 1 and self._keys[0].key_id is None:
            return self._keys[0]
        key_id = jwt.get_unverified_header(token).get("kid")
        for key in self._keys:
            if key.key_id == key_id:
                return key
        raise TokenInvalid("The token's `kid` is missing, or is not the id of a known key.")


def _reason(error: Exception) -> str:
    match error:
        case jwt.InvalidSignatureError():
            return "The token's signature is not valid."
        case jwt.InvalidAlgorithmError():
            return "The token is not signed with the algorithm of the key."
        case jwt.MissingRequiredClaimError():
            return f"The token has no `{error.claim}`."
        case jwt.InvalidIssuerError():
            return "The token's `iss` is not the expected issuer."
        case jwt.InvalidAudienceError():
            return "The token's `aud` is not the expected audience."
        case _:
            return "The token is not a valid JSON Web Token."


def _check_times(claims: Mapping[str, Any], now: float, leeway: float) -> float:
    """Check `exp`, `nbf` and `iat`, and return `exp`. Raises TokenInvalid, TokenExpired."""
    expires = _time(claims, "exp")
    for name in ("nbf", "iat"):
        if name in claims and (ahead := _time(claims, name) - now) > leeway:
            tolerated = f"{leeway:g} s are tolerated"
            raise TokenInvalid(f"The token is not valid yet: `{name}` is {ahead:.0f} s in the future ({tolerated}).")
    if expires <= now:
        raise TokenExpired
    return expires


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TIME:
        raise TokenInvalid(f"The token's `{name}` should be a number: seconds since 1970, up to the year 9999.")
    return float(value)


def _caller(claims: Mapping[str, Any]) -> Caller:
    role = claims.get("accessRole", "")
    user = claims.get("id", claims.get("sub"))
    if not isinstance(role, str) or not isinstance(user, str):
        raise TokenInvalid("The token should have `organizationId`, `id` or `sub`, and `accessRole`, all of them text.")
    operator = claims.get("operator") is True  # not "false", or any other value
    try:
        return Caller(read_object_id(claims.get("organizationId")), read_object_id(user), role, operator)
    except ValueError:
        message = "The token's `organizationId` and `id` or `sub` should be ObjectIds of 24 hex digits."
        raise TokenInvalid(message) from None
