"""Authentication: forged, expired and malformed tokens, public keys, integration keys, and the rate limit."""

import base64
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from bson import ObjectId
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support import commands
from support.contacts import contact_with
from support.http import EXPORT, SECRET, SNAPSHOTS, api, bearer, token
from support.served import Served, own_settings
from support.waiting import eventually
from worker.api.tokens import Tokens
from worker.errors import InvalidSettings
from worker.local.embedded import Servers
from worker.settings import Settings, load

ORGANIZATION = ObjectId()


def claims(**more: Any) -> dict[str, Any]:
    whole = {"organizationId": str(ORGANIZATION), "id": str(ObjectId()), "accessRole": "ADMIN"}
    return {**whole, "exp": int(time.time()) + 600, **more}


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    return f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims())}."


REFUSED: dict[str, Callable[[], str]] = {
    "none": lambda: unsigned("none"),
    "None": lambda: unsigned("None"),
    "HS256 without a signature": lambda: unsigned("HS256"),
    "forged": lambda: token(ORGANIZATION, secret="another secret that is long enough too"),
    "HS512 with the right secret": lambda: jwt.encode(claims(), SECRET * 2, "HS512"),
    "changed": lambda: token(ORGANIZATION)[:-3] + "abc",
    "expired": lambda: token(ORGANIZATION, exp=int(time.time()) - 1),
    "without exp": lambda: token(ORGANIZATION, exp=None),
    "exp is text": lambda: token(ORGANIZATION, exp="tomorrow"),
    "exp is infinite": lambda: token(ORGANIZATION, exp=float("inf")),
    "exp is beyond all numbers": lambda: token(ORGANIZATION, exp=10**400),
    "not yet": lambda: token(ORGANIZATION, nbf=int(time.time()) + 600),
    "without organization": lambda: token(ORGANIZATION, organizationId=None),
    "operator as organization": lambda: token(ORGANIZATION, organizationId={"$gt": ""}),
    "organization is no id": lambda: token(ORGANIZATION, organizationId="mine"),
    "without user": lambda: token(ORGANIZATION, id=None),
    "user is no id": lambda: token(ORGANIZATION, id="auth0|17"),
    "role is a list": lambda: token(ORGANIZATION, accessRole=["ADMIN"]),
    "no token at all": lambda: "x",
    "three dots": lambda: "a.b.c.d",
    "very long": lambda: "a." * 5000,
    "unknown key": lambda: "user_" + "a" * 43,
    "header is an array": lambda: f"{encoded([])}.{encoded(claims())}.AAAA",
    "claims are an array": lambda: f"{encoded({'alg': 'HS256'})}.{encoded([])}.AAAA",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_token_is_refused_everywhere(served: Served, kind: str) -> None:
    headers = bearer(REFUSED[kind]())
    with httpx.Client(base_url=served.url, headers=headers) as client:
        answers = [
            client.get(SNAPSHOTS),
            client.post(SNAPSHOTS, json={"contactId": str(served.contact.id)}),
            client.get(EXPORT),
            client.get(f"{SNAPSHOTS}/{ObjectId()}"),
            client.patch(f"{SNAPSHOTS}/{ObjectId()}", json={"notes": "x"}),
            client.delete(f"{SNAPSHOTS}/{ObjectId()}"),
        ]
    assert [each.status_code for each in answers] == [401] * 6
    code = "token_expired" if kind == "expired" else "token_invalid"
    assert {each.json()["code"] for each in answers} == {code}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic dXNlcjpwYXNz", "Token abc"])
def test_missing_token_is_requested(served: Served, header: str | None) -> None:
    answer = httpx.get(served.url + SNAPSHOTS, headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_sub_is_the_user_if_there_is_no_id(served: Served) -> None:
    user = str(ObjectId())
    headers = bearer(token(served.organization, id=None, sub=user))
    answer = httpx.post(served.url + SNAPSHOTS, json={"contactId": str(served.contact.id)}, headers=headers, timeout=30)
    assert answer.json()["data"]["userId"] == user


# --- public keys ----------------------------------------------------------------------------------------


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def public(
    servers: Servers, rsa_key: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, bytes]]:
    """The URL of an API that verifies RS256, and its public key."""
    folder = tmp_path_factory.mktemp("public")
    (folder / "key.pem").write_bytes(pem(rsa_key))
    settings = own_settings(servers)
    with api(settings, folder, {"JWT_PUBLIC_KEY": str(folder / "key.pem"), "JWT_SECRET": None}) as (url, _):
        yield url, pem(rsa_key)


def _hmac_with(public_key: bytes) -> str:
    """A token signed with HS256 and the public key as secret, which PyJWT refuses to make."""
    import hashlib
    import hmac

    content = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(claims())}"
    signature = hmac.new(public_key, content.encode(), hashlib.sha256).digest()
    return f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_public_key_verifies_rs256_and_is_no_hs256_secret(
    public: tuple[str, bytes], rsa_key: rsa.RSAPrivateKey
) -> None:
    url, public_key = public

    def status(value: str) -> int:
        return httpx.get(url + SNAPSHOTS, headers=bearer(value)).status_code

    assert status(jwt.encode(claims(), rsa_key, "RS256")) == 200
    assert status(_hmac_with(public_key)) == 401
    assert status(_hmac_with(public_key.strip())) == 401
    assert status(token(ORGANIZATION)) == 401
    assert status(jwt.encode(claims(), rsa_key, "RS512")) == 401
    assert status(jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256")) == 401
    own = jwt.PyJWK.from_dict({"kty": "oct", "k": "AAAA", "alg": "HS256"})
    assert own.algorithm_name == "HS256"
    assert status(jwt.encode(claims(), rsa_key, "RS256", headers={"jku": "http://127.0.0.1:1/", "kid": "x"})) == 200


def test_jwks_verifies_each_key_with_its_own_algorithm(
    settings: Settings, rsa_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    keys = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key())), "kid": "one", "alg": "RS256"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(curve.public_key())), "kid": "two", "use": "sig"},
        {"kty": "oct", "k": encoded(SECRET)[:44], "kid": "three", "alg": "HS256"},
    ]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": keys}))
    env = {"JWT_JWKS": str(tmp_path / "jwks.json"), "JWT_SECRET": None}
    with api(settings, tmp_path, env) as (url, _):

        def status(key: Any, algorithm: str, kid: str | None) -> int:
            headers = {"kid": kid} if kid else None
            value = jwt.encode(claims(), key, algorithm, headers=headers)
            return httpx.get(url + SNAPSHOTS, headers=bearer(value)).status_code

        assert status(rsa_key, "RS256", "one") == 200
        assert status(curve, "ES256", "two") == 200
        assert status(curve, "ES256", "one") == 401
        assert status(rsa_key, "RS256", "two") == 401
        assert status(rsa_key, "RS256", None) == 401
        assert status(base64.urlsafe_b64decode(encoded(SECRET)[:44]), "HS256", "three") == 401


# --- the start --------------------------------------------------------------------------------------------


def test_api_does_not_start_without_a_key_to_verify_with() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_JWT")}
    ended = commands.run(bare, "api", "--port", "0")
    assert ended.code == 2
    assert "none is set, and there is no default" in ended.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"jwt_secret": " "}, "SNAPSHOTS_JWT_SECRET should not be empty"),
        ({"jwt_secret": SECRET, "jwt_jwks": "x"}, "2 are set"),
        ({"jwt_public_key": "/nowhere/key.pem"}, "cannot be read"),
        ({"jwt_public_key": __file__}, "PEM file with a public key"),
        ({"jwt_jwks": __file__}, "JSON Web Key Set"),
    ],
)
def test_invalid_key_is_refused_at_startup_without_showing_it(values: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        Tokens(load(**values))
    assert said in refusal.value.message
    assert SECRET not in refusal.value.message


# --- integration keys -------------------------------------------------------------------------------------


def test_integration_key_works_until_it_is_revoked_and_only_its_hash_is_kept(served: Served) -> None:
    env = commands.environment(served.settings)
    user = ObjectId()
    order = ("keys", "create", "--organization", served.organization, "--user", user, "--name", "nightly", "--json")
    made = commands.run(env, *order).json
    key = made["key"]
    assert key.startswith("user_")
    stored = served.database.snapshotkeys.find_one({"_id": ObjectId(made["id"])})
    assert key not in str(stored)
    listed = commands.run(env, "keys", "list", "--organization", served.organization, "--json").json
    assert [(each["id"], each["accessRole"]) for each in listed] == [(made["id"], "USER")]
    with httpx.Client(base_url=served.url, headers=bearer(key), timeout=30) as client:
        answer = client.post(SNAPSHOTS, json={"contactId": str(served.contact.id)})
        assert (answer.status_code, answer.json()["data"]["userId"]) == (201, str(user))
        assert client.get(EXPORT).status_code == 403
        other = contact_with(served.database, 1)
        assert client.post(SNAPSHOTS, json={"contactId": str(other.id)}).status_code == 404
        assert commands.run(env, "keys", "revoke", made["id"]).code == 0
        eventually(lambda: client.get(SNAPSHOTS).status_code == 401, 45)


def test_expired_integration_key_is_refused(served: Served) -> None:
    env = commands.environment(served.settings)
    order = ("keys", "create", "--organization", served.organization, "--user", ObjectId(), "--json")
    made = commands.run(env, *order).json
    past = served.running.bench.ago(seconds=1)
    served.database.snapshotkeys.update_one({"_id": ObjectId(made["id"])}, {"$set": {"expiresAt": past}})
    answer = httpx.get(served.url + SNAPSHOTS, headers=bearer(made["key"]))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


def test_revoking_an_unknown_key_says_so(served: Served) -> None:
    ended = commands.run(commands.environment(served.settings), "keys", "revoke", ObjectId())
    assert ended.code == 1
    assert "Key not found" in ended.stderr


# --- the rate limit ---------------------------------------------------------------------------------------


def test_rate_limit_is_of_each_user_and_says_when_to_come_again(settings: Settings, tmp_path: Path) -> None:
    with api(settings, tmp_path, {"API_RATE_LIMIT": "5"}) as (url, _):
        user = str(ObjectId())
        one, other = bearer(token(ORGANIZATION, id=user)), bearer(token(ORGANIZATION))
        statuses = [httpx.get(url + SNAPSHOTS, headers=one).status_code for _ in range(12)]
        # The minute may turn meanwhile, once.
        assert statuses.count(429) >= 2
        assert statuses[:5] == [200] * 5
        answer = next(each for _ in range(12) if (each := httpx.get(url + SNAPSHOTS, headers=one)).status_code == 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["code"] == "rate_limited"
        assert httpx.get(url + SNAPSHOTS, headers=other).status_code == 200
        # Neither another spelling of the token nor another token of the user is counted apart.
        for value in (one["Authorization"] + "=", bearer(token(ORGANIZATION, id=user, exp=2**33))["Authorization"]):
            answers = [httpx.get(url + SNAPSHOTS, headers={"Authorization": value}).status_code for _ in range(12)]
            assert answers.count(429) >= 2


def test_unknown_integration_keys_are_limited_before_mongodb_is_asked(settings: Settings, tmp_path: Path) -> None:
    with api(settings, tmp_path) as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        order = ("keys", "create", "--organization", ORGANIZATION, "--user", ObjectId(), "--json")
        known = bearer(commands.run(commands.environment(settings), *order).json["key"])
        assert client.get(SNAPSHOTS, headers=known).status_code == 200

        def unknown() -> httpx.Response:
            return client.get(SNAPSHOTS, headers=bearer(f"user_{secrets.token_urlsafe(32)}"))

        statuses = [unknown().status_code for _ in range(100)]
        # The minute may turn meanwhile, once.
        assert 401 in statuses
        assert statuses.count(401) <= 60
        refused = next(answer for _ in range(100) if (answer := unknown()).status_code == 429)
        assert (refused.json()["code"], 1 <= int(refused.headers["retry-after"]) <= 60) == ("rate_limited", True)
        assert client.get(SNAPSHOTS, headers=known).status_code == 200
        # Behind a proxy, another client has the same address, and this process has never seen its key.
        new = bearer(commands.run(commands.environment(settings), *order).json["key"])
        eventually(lambda: client.get(SNAPSHOTS, headers=new).status_code == 200, 10)
