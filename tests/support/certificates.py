"""Certificates for TLS between a client and a Redis of a test's own."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


class Certificates:
    """In a folder: an authority, its certificates for a server on 127.0.0.1 and for a client, and a stranger's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        now = datetime.now(UTC)
        authority = ec.generate_private_key(ec.SECP256R1())
        issuer = _name("Test authority")
        self.ca = self._write("ca.pem", _certificate(issuer, authority, issuer, authority, now + _DAY, is_ca=True))
        key = ec.generate_private_key(ec.SECP256R1())
        self.server_key = self._write_key("server.key", key)
        self.server = self._write("server.pem", _certificate(_name("redis"), key, issuer, authority, now + _DAY))
        client = ec.generate_private_key(ec.SECP256R1())
        self.client_key = self._write_key("client.key", client)
        self.client = self._write("client.pem", _certificate(_name("snapshots"), client, issuer, authority, now + _DAY))
        stranger = ec.generate_private_key(ec.SECP256R1())
        named = _name("elsewhere.example")
        self.stranger_key = self._write_key("stranger.key", stranger)
        self.stranger = self._write(
            "stranger.pem", _certificate(named, stranger, named, stranger, now - _DAY, host="elsewhere.example")
        )
        """Self-signed, expired, and for another host."""

    def together(self, name: str) -> Path:
        """The key and the certificate `server` or `client` in one file, as MongoDB wants them."""
        path = self._folder / f"{name}.both.pem"
        path.write_bytes(b"".join((self._folder / f"{name}.{end}").read_bytes() for end in ("key", "pem")))
        return path

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self._folder / name
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey) -> Path:
        path = self._folder / name
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    until: datetime,
    *,
    host: str | None = None,
    is_ca: bool = False,
) -> x509.Certificate:
    alternative: x509.GeneralName = x509.DNSName(host) if host else x509.IPAddress(IPv4Address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 5 * _DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
