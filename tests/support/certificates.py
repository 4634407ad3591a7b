"""Authorities, and certificates of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# What the key of an authority is for.
_SIGNS = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates; its own is in the file ``NAME.pem``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key, authority=True)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(_pem(certificate))

    def issue(
        self, name: str, address: str = "127.0.0.1", days: int = 2, names: Sequence[str] = ()
    ) -> None:
        """Write a certificate into ``NAME.pem``, and its key into ``NAME.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, address=address, days=days, names=names)
        (self._directory / f"{name}.pem").write_bytes(_pem(certificate))
        path = self._directory / f"{name}.key"
        path.write_bytes(private_pem(key))
        path.chmod(0o600)

    def _sign(self, subject, key, authority=False, address=None, days=2, names=()):
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            # Python 3.13 insists on what RFC 5280, 4.2.1, wants certificates to have.
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if authority:
            builder = builder.add_extension(_SIGNS, critical=True)
        if address is not None:
            own = [x509.IPAddress(ip_address(address)), *map(x509.DNSName, names)]
            builder = builder.add_extension(x509.SubjectAlternativeName(own), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_pem(key, password: bytes | None = None) -> bytes:
    """Return the PEM of a private key."""
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
