"""The receipt of an erasure: signed with Ed25519, and verified with nothing but the public key.

It holds counts and a keyed hash, no personal data. A file with a receipt consists of exactly the bytes that `encode`
returns, so a single changed byte is noticed.
"""

import base64
import binascii
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from worker.errors import InvalidSettings, Refused
from worker.settings import PREFIX, Settings

VARIABLE = f"{PREFIX}ERASURE_SIGNING_KEY"
VERSION = 1
_SIGNATURE = "signature"


class ReceiptInvalid(Refused):
    """The receipt was changed, or was signed with another key."""

    code = "receipt_invalid"


def sign(receipt: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Sign a receipt with Ed25519.

    Args:
        receipt: JSON values without personal data.
        key: The private key; see `signing_key`.

    Returns:
        The receipt with the field `signature`: base64 of the signature of all other fields, encoded by `encode`.
    """
    signature = base64.b64encode(key.sign(encode(receipt))).decode()
    return {**receipt, _SIGNATURE: signature}


def encode(receipt: Mapping[str, Any]) -> bytes:
    """Return the bytes of the file for a receipt."""
    return (json.dumps(receipt, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def check(content: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """Verify the file of a receipt.

    Args:
        content: The bytes of the file, exactly as `encode` returned them.
        key: The public key of the installation that signed it.

    Returns:
        The receipt.

    Raises:
        ReceiptInvalid: The content was changed, is not a receipt, or was signed with another key.
    """
    try:
        receipt = json.loads(content)
        signature = base64.b64decode(receipt[_SIGNATURE], validate=True)
        if encode(receipt) != content or base64.b64encode(signature).decode() != receipt[_SIGNATURE]:
            raise ReceiptInvalid
        key.verify(signature, encode({name: value for name, value in receipt.items() if name != _SIGNATURE}))
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error, InvalidSignature):
        raise ReceiptInvalid from None
    return dict(receipt)


# --- the keys -----------------------------------------------------------------------------------------------


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """Read the key file that SNAPSHOTS_ERASURE_SIGNING_KEY names. Raises InvalidSettings."""
    path = settings.erasure_signing_key
    if path is None:
        raise InvalidSettings(f"{VARIABLE} is not set: it names the key file that `snapshots erase keys` makes.")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise InvalidSettings(f"{VARIABLE}: {path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidSettings(f"{VARIABLE}: {path} should be an Ed25519 key in PEM, without a password.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidSettings(f"{VARIABLE}: {path} should be an Ed25519 key.")
    return key


def check_signing_key(settings: Settings) -> None:
    """Check that the key file of the settings can be read, if they name one. Raises InvalidSettings."""
    if settings.erasure_signing_key is not None:
        signing_key(settings)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key in PEM. Raises InvalidSettings."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise InvalidSettings(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidSettings(f"{path} should be an Ed25519 public key in PEM.")
    return key


def make_keys(private: Path) -> Path:
    """Write a new key, readable by its owner only, and the public key beside it; return the path of the public key.

    Raises FileExistsError, OSError.
    """
    key = Ed25519PrivateKey.generate()
    public = private.with_suffix(".pub.pem")
    if public.exists():  # of another key
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(public))
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with public.open("xb") as file:
        file.write(public_pem(key))
    return public


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """Return the public key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
