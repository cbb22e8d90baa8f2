"""The check of MongoDB's URL. Its errors name the faulty part, and never quote a value, which may be a password."""

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

_OPTION_VALUE = re.compile(r"(?:The value of )?(\w+) (must be (?:an? [a-z ]+|'true' or 'false'|in \([\w', -]+\)))")
"""Matches PyMongo's messages about a wrong value of an option that do not quote the value."""
_CONTRADICTION = re.compile(r"(?:Cannot|Can not) ((?:specify|mix) [\w'&;= ]+)")
"""Matches PyMongo's messages about options that exclude each other, which quote no values but `true`."""
_READ_CONCERNS = ("available", "linearizable", "local", "majority", "snapshot")
# https://www.mongodb.com/docs/manual/reference/read-concern/


def is_readable(url: str) -> bool:
    """Return whether PyMongo can parse a URL. Raises ValueError, with the faulty part, for a fault in the options."""
    if "@" in urlsplit(url).path:  # a slash in a password that is not percent-encoded
        return False
    if url.startswith("mongodb+srv:"):
        if "srv" in urlsplit(url).query.lower():
            return True  # srvMaxHosts and the like need the name to be looked up
        url = url.replace("+srv", "", 1)
    try:
        options: Mapping[str, Any] = parse_uri(url)["options"]
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise ValueError(f"names a file in its options that cannot be read ({reason})") from None
    except (ValueError, KeyError, TypeError, PyMongoError) as error:
        base, _, query = url.partition("?")
        if "@" in query or not _parses(base):  # the "options" are part of a password that is not percent-encoded
            return False
        raise ValueError(_fault_of_options(base, query, str(error))) from None
    if options.get("readConcernLevel", "local") not in _READ_CONCERNS:
        raise ValueError(f"has the option readConcernLevel, which must be in {_READ_CONCERNS}")
    _check_tls_files(options)
    return True


def _fault_of_options(base: str, query: str, message: str) -> str:
    if found := re.match(r"Unknown option: (\w+)", message):
        return f"has the unknown option {found[1]}"
    if found := _OPTION_VALUE.fullmatch(message):
        return f"has the option {found[1]}, which {found[2]}"
    if found := _CONTRADICTION.match(message):
        return f"cannot {found[1]}"
    options = query.split("&")
    repairing = [
        option.partition("=")[0]
        for place, option in enumerate(options)
        if _parses(f"{base}?{'&'.join((*options[:place], *options[place + 1 :]))}")
    ]
    if len(repairing) == 1:
        return f"has an option with a value that is not valid: {repairing[0]}"
    if repairing:
        return f"has the options {' and '.join(repairing)}, which contradict each other: leave one of them out"
    return "has options that are not valid; they should be name=value, separated by &"


def _parses(url: str) -> bool:
    try:
        parse_uri(url)
    except (ValueError, KeyError, TypeError, OSError, PyMongoError):
        return False
    return True


def _check_tls_files(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that PyMongo would report only when it connects, with an error of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authorities := options.get("tlsCAFile"):
            context.load_verify_locations(authorities)
    except OSError:
        raise ValueError("has the option tlsCAFile, which should be a file of certificates in PEM") from None
    try:
        if revoked := options.get("tlscrlfile"):  # PyMongo returns only this one in lower case
            context.load_verify_locations(revoked)
    except OSError:
        raise ValueError("has the option tlsCRLFile, which should be a file of revoked certificates in PEM") from None
    try:
        if certificate := options.get("tlsCertificateKeyFile"):
            context.load_cert_chain(certificate, password=options.get("tlsCertificateKeyFilePassword") or "")
    except OSError:
        raise ValueError(
            "has the option tlsCertificateKeyFile, which should be a file in PEM with a certificate and its key, "
            "and which tlsCertificateKeyFilePassword opens if it is encrypted"
        ) from None
