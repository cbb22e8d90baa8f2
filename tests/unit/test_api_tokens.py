"""Tokens: their times, the reason of a refusal, and keys that change while the API runs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from bson import ObjectId
from cryptography.hazmat.primitives.asymmetric import ec

from worker.api import verification_keys
from worker.api.responses import TokenExpired, TokenInvalid
from worker.api.tokens import Tokens
from worker.settings import load

SECRET = "a secret of the tests that is long enough"
IDS = {"organizationId": str(ObjectId()), "id": str(ObjectId()), "accessRole": "ADMIN"}


def signed(**claims: Any) -> str:
    whole = {**IDS, "exp": int(time.time()) + 600, **claims}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, SECRET, "HS256")


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(load(jwt_secret=SECRET, jwt_issuer="platform"))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_times_a_little_in_the_future_are_tolerated(tokens: Tokens, claim: str) -> None:
    tokens.verify(signed(iss="platform", **{claim: time.time() + 4}))
    with pytest.raises(TokenInvalid) as refusal:
        tokens.verify(signed(iss="platform", **{claim: time.time() + 60}))
    assert refusal.value.message == f"The token is not valid yet: `{claim}` is 60 s in the future (5 s are tolerated)."


def test_leeway_is_a_setting_and_does_not_prolong_a_token() -> None:
    tokens = Tokens(load(jwt_secret=SECRET, jwt_leeway="2m"))
    tokens.verify(signed(iat=time.time() + 100))
    with pytest.raises(TokenExpired):
        tokens.verify(signed(exp=time.time() - 1))


@pytest.mark.parametrize("value", ["4102444800", "tomorrow", 1e300, float("inf"), float("nan"), 10**400, -1, True, [1]])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_time_that_is_no_time_is_refused(tokens: Tokens, claim: str, value: Any) -> None:
    with pytest.raises(TokenInvalid) as refusal:
        tokens.verify(signed(iss="platform", **{claim: value}))
    assert f"`{claim}`" in refusal.value.message or "valid JSON Web Token" in refusal.value.message


def test_refusal_says_why(tokens: Tokens) -> None:
    reasons = {
        "The token's signature is not valid.": jwt.encode({**IDS, "exp": 2**33}, "another secret " * 4, "HS256"),
        "The token is not signed with the algorithm of the key.": jwt.encode(IDS, SECRET * 2, "HS512"),
        "The token has no `exp`.": signed(exp=None),
        "The token has no `iss`.": signed(),
        "The token's `iss` is not the expected issuer.": signed(iss="other"),
        "The token's `organizationId` and `id` or `sub` should be ObjectIds of 24 hex digits.": signed(
            iss="platform", organizationId="mine"
        ),
        "The token is not a valid JSON Web Token.": "a.b.c",
        "The token should have at most 8192 characters.": "a" * 9000,
    }
    for reason, token in reasons.items():
        with pytest.raises(TokenInvalid) as refusal:
            tokens.verify(token)
        assert refusal.value.message == reason


def jwks(path: Path, **keys: ec.EllipticCurvePrivateKey) -> None:
    """Replace the file at once, as an editor or a Kubernetes volume does."""
    entries = [
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": name} for name, key in keys.items()
    ]
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": entries}))
    new.replace(path)


def test_changed_jwks_is_followed_and_a_broken_one_leaves_the_former_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification_keys, "_CHECK_SECONDS", 0.0)
    path = tmp_path / "jwks.json"
    first, second = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def signed_by(key: ec.EllipticCurvePrivateKey, name: str) -> str:
        return jwt.encode({**IDS, "exp": int(time.time()) + 600}, key, "ES256", headers={"kid": name})

    jwks(path, one=first)
    tokens = Tokens(load(jwt_jwks=str(path)))
    tokens.verify(signed_by(first, "one"))
    with pytest.raises(TokenInvalid, match="kid"):
        tokens.verify(signed_by(second, "two"))
    jwks(path, two=second)
    tokens.verify(signed_by(second, "two"))
    with pytest.raises(TokenInvalid, match="kid"):
        tokens.verify(signed_by(first, "one"))  # verified before, and not from memory
    path.write_text("not JSON")
    os.utime(path, (1, 1))
    tokens.verify(signed_by(second, "two"))
    path.unlink()
    tokens.verify(signed_by(second, "two"))
    jwks(path, one=first, two=second)
    tokens.verify(signed_by(first, "one"))
