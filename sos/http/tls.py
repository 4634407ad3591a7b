"""TLS contexts from PEM files, with certificates on both sides.

Twisted's endpoint strings (``ssl:``) do not support client certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import Connection
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from sos.errors import ConfigError
from sos.files.regular import read_regular
from sos.files.watched import read

#: Makes the TLS context for a host, which verifies its certificate and sends ours.
ClientTLS = Callable[[str], IOpenSSLClientConnectionCreator]

_OLDEST = TLSVersion.TLSv1_2
# Errors of OpenSSL about an answer that is not TLS.
_NOT_TLS = {"wrong version number", "packet length too long", "http request", "unknown protocol"}


@frozen
class _Identity:
    """Certificate, its chain up to the authority, and its private key."""

    certificate: X509
    chain: list[X509]
    key: PKey


def server_tls(certificate: str, key: str | None, client_ca: str | None) -> CertificateOptions:
    """Return the TLS context of a server.

    :param certificate: file with the server's certificate, followed by its chain.
    :param key: file with the private key; None if *certificate* contains it.
    :param client_ca: file with the authorities for client certificates; None if clients need
        no certificate.
    :raises ConfigError: if a file cannot be used; the message names it.
    """
    identity = _identity(certificate, key)
    options = CertificateOptions(
        privateKey=identity.key,
        certificate=identity.certificate,
        extraCertChain=identity.chain,
        trustRoot=None if client_ca is None else _authorities(client_ca),
        raiseMinimumTo=_OLDEST,
    )
    try:
        options.getContext()
    except TLSError as error:
        raise ConfigError(f"cannot use the certificate in {certificate}: {error}") from None
    return options


def client_tls(ca: str | None, certificate: str | None, key: str | None) -> ClientTLS:
    """Return a function that makes the TLS context of a client for a host.

    :param ca: file with the authorities for server certificates; None for those that this
        machine trusts.
    :param certificate: file with the client's certificate, as in :func:`server_tls`, or None.
    :param key: file with its private key; None if *certificate* contains it.
    :raises ConfigError: if a file cannot be used; the message names it.
    """
    trust = None if ca is None else _authorities(ca)
    ours = None
    more: dict[str, Any] = {"raiseMinimumTo": _OLDEST}
    if certificate is not None:
        identity = _identity(certificate, key)
        pair = KeyPair(identity.key)
        ours = PrivateCertificate.fromCertificateAndKeyPair(Certificate(identity.certificate), pair)
        more["extraCertChain"] = identity.chain
    return lambda host: optionsForClientTLS(host, trust, ours, extraCertificateOptions=more)


#: Exceptions of a connection that fails because of TLS.
TLS_ERRORS = (TLSError, VerificationError)


def tls_cause(error: BaseException | None) -> str | None:
    """Describe in one line why TLS failed; return None if *error* is of another kind."""
    if isinstance(error, VerificationError):
        return "the server's certificate is for another name or address"
    if isinstance(error, TLSError) and error.args and isinstance(error.args[0], list):
        reasons = [reason for *_, reason in error.args[0]]
        if _NOT_TLS.intersection(reasons):
            return "the server does not use TLS here; should the URL start with http:?"
        return f"TLS handshake failed: {', '.join(reasons) or 'the connection was lost'}"
    return None


def handshake_failure(
    error: BaseException | None, handle: Connection | None, given_up: bool
) -> str | None:
    """Describe why a server's TLS handshake failed; return None if the client began none.

    Load balancers check that a port is open with a connection that they close at once.

    :param error: the reason why the connection was lost.
    :param handle: the connection of OpenSSL; None if there was none.
    :param given_up: whether the server closed the connection.
    """
    if isinstance(error, TLSError) and error.args and isinstance(error.args[0], list):
        reasons = [reason for *_, reason in error.args[0]]
        if "http request" in reasons:
            return "the client sent HTTP without TLS"
        return ", ".join(reasons) or "the connection was lost"
    if handle is None or handle.client_random() is None:
        return None
    return "timed out" if given_up else "the client closed the connection"


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class Renewable:
    """TLS context of a server, looked up for each connection, so that it can change."""

    _context: Callable[[], CertificateOptions]

    def serverConnectionForTLS(self, protocol: Any) -> Connection:
        """Return a connection, see IOpenSSLServerConnectionCreator."""
        return self._context().serverConnectionForTLS(protocol)


@implementer(IOpenSSLClientConnectionCreator)
class RenewableClient:
    """TLS context of a client for *host*, made anew when *context* returns another object.

    :raises ValueError: if *host* is not a valid host name.
    """

    def __init__(self, context: Callable[[], ClientTLS], host: str) -> None:
        self._context = context
        self._host = host
        self._made_by = context()
        self._made = self._made_by(host)

    def clientConnectionForTLS(self, protocol: Any) -> Connection:
        """Return a connection, see IOpenSSLClientConnectionCreator."""
        now = self._context()
        if now is not self._made_by:
            self._made_by, self._made = now, now(self._host)
        return self._made.clientConnectionForTLS(protocol)


@implementer(IStreamServerEndpoint)
@frozen
class Secured:
    """Endpoint that adds TLS to another endpoint."""

    _endpoint: Any
    _context: CertificateOptions | Renewable

    def listen(self, factory: Any) -> Any:
        """Listen, see IStreamServerEndpoint."""
        wrapper = TLSMemoryBIOFactory(self._context, False, factory)
        wrapper.noisy = False
        return self._endpoint.listen(wrapper)


def _identity(certificate: str, key: str | None) -> _Identity:
    first, *rest = _certificates(certificate)
    # read() also checks that other users cannot read the key.
    try:
        secret = read(key or certificate, _private_key)
    except ConfigError as error:
        if key is None:
            raise ConfigError(f"{error}; if the key is in another file, name it") from None
        raise
    if secret.public_key() != first.public_key():
        raise ConfigError(
            f"the key in {key or certificate} does not match the certificate in {certificate}"
        )
    return _Identity(
        X509.from_cryptography(first),
        [X509.from_cryptography(each) for each in rest],
        PKey.from_cryptography_key(secret),
    )


def _private_key(text: str) -> Any:
    try:
        return load_pem_private_key(text.encode("ascii"), None)
    except TypeError:
        raise ValueError("the key is encrypted: remove its password") from None
    except (ValueError, UnsupportedAlgorithm):  # their messages are about ASN.1
        raise ValueError("the file contains no usable private key in PEM format") from None


def _authorities(path: str) -> Any:
    return trustRootFromCertificates(
        [Certificate(X509.from_cryptography(each)) for each in _certificates(path)]
    )


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_regular(path, named=True))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} contains no usable certificate in PEM format") from None
