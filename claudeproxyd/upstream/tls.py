"""TLS towards upstreams, token endpoints and Redis. A server that does not prove its name is never trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from weakref import ref

from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName
from OpenSSL import SSL
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, CertificatePattern, DNSPattern, IPAddress_ID, IPAddressPattern
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.upstream.errors import TLSFailed

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.protocols.tls import TLSMemoryBIOProtocol

_PEM_END = b"-----END CERTIFICATE-----"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9*._-]+")


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """How an upstream's certificate is checked."""

    ca_file: str = ""
    """A PEM file of authorities, instead of the system's."""
    verify: bool = True
    """False takes any certificate: for tests alone."""


def connection_creator(
    host: str,
    settings: TLSSettings = TLSSettings(),  # immutable
    protocols: Sequence[bytes] = (b"http/1.1",),
) -> IOpenSSLClientConnectionCreator:
    """Return what begins TLS on all connections to *host*. Made once an origin: loading authorities costs milliseconds.

    *protocols* are offered by ALPN. A connection whose certificate proves nothing fails with
    :class:`~claudeproxyd.upstream.errors.TLSFailed`, or with OpenSSL's own error where the certificate is not to be
    trusted at all. Raises OSError or ValueError when the file of authorities cannot be read or holds no certificate,
    and ValueError for a host that no certificate can be for.
    """
    trust = None
    if settings.ca_file:
        authorities = _authorities(settings.ca_file)
        trust = trustRootFromCertificates(authorities)  # type: ignore[no-untyped-call]  # Twisted gives no types here
    options = optionsForClientTLS(host, trustRoot=trust, acceptableProtocols=protocols or None)
    return _Verified(options, host) if settings.verify else _Unchecked(options)


def _authorities(path: str) -> list[Certificate]:
    with open(path, "rb") as file:
        blocks = file.read().split(_PEM_END)[:-1]
    if not blocks:
        raise ValueError(f"{path} holds no certificate in PEM form")
    return [Certificate.loadPEM(block[block.index(b"-----BEGIN CERT") :] + _PEM_END) for block in blocks]


@implementer(IOpenSSLClientConnectionCreator)
class _Verified:
    """Makes connections that fail unless the server has a trusted certificate for *host*.

    Twisted's own callback lets a certificate pass whose names it cannot read; this one takes its place.
    """

    def __init__(self, options: IOpenSSLClientConnectionCreator, host: str) -> None:
        self._options = options
        self._host = host
        self._identity = IPAddress_ID(host) if isIPAddress(host) or isIPv6Address(host) else DNS_ID(host)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        connection = self._options.clientConnectionForTLS(tlsProtocol)
        protocol = ref(tlsProtocol)  # OpenSSL holds the callback, and the protocol holds OpenSSL's connection

        def verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, trusted: int) -> bool:
            """Called for each certificate of the chain, the server's own at depth 0 last."""
            if not trusted or depth:
                return bool(trusted)
            why = self._objection(certificate)
            if why is None:
                return True
            waiting = protocol()
            if waiting is not None:
                waiting.failVerification(Failure(why))  # type: ignore[no-untyped-call]  # Twisted gives no types here
            return False

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def _objection(self, certificate: X509) -> TLSFailed | None:
        """Return why *certificate* does not prove the host's name, None if it does. Failing to read it is a reason."""
        try:
            if any(self._identity.verify(name) for name in _readable_names(certificate)):
                return None
            return TLSFailed(f"the certificate of {self._host} is for another name")
        except Exception:
            return TLSFailed(f"the certificate of {self._host} names nobody that can be read")


def _readable_names(certificate: X509) -> Iterator[CertificatePattern]:
    """Yield the names and addresses that *certificate* is for. One that cannot be read is left out, and hides no other.

    Raises whatever reading a certificate may: where there is no such list, or it is damaged, nothing of it counts.
    """
    names = certificate.to_cryptography().extensions.get_extension_for_class(SubjectAlternativeName).value
    for address in names.get_values_for_type(IPAddress):
        yield IPAddressPattern(ip_address(str(address)))
    for name in names.get_values_for_type(DNSName):
        if _PLAIN_NAME.fullmatch(name):
            with suppress(CertificateError):
                yield DNSPattern.from_bytes(name.encode("ascii"))


@implementer(IOpenSSLClientConnectionCreator)
class _Unchecked:
    """Makes connections that accept any certificate, and are like the verified ones otherwise."""

    def __init__(self, checked: IOpenSSLClientConnectionCreator) -> None:
        self._checked = checked

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        connection = self._checked.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        return connection
