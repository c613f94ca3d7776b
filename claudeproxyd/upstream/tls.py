"""TLS towards upstreams: whom to trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

_END = b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """How an upstream's certificate is checked."""

    ca_file: str = ""
    """A PEM file of authorities, instead of the system's."""
    verify: bool = True
    """False takes any certificate: for tests alone."""


def connection_creator(host: str, settings: TLSSettings) -> IOpenSSLClientConnectionCreator:
    """For all connections to *host*: loading the authorities costs milliseconds, so it is made once an origin.

    Raises OSError or ValueError when the file of authorities cannot be read or holds no certificate.
    """
    trust = None
    if settings.ca_file:
        authorities = _authorities(settings.ca_file)
        trust = trustRootFromCertificates(authorities)  # type: ignore[no-untyped-call]  # Twisted gives no types here
    checked = optionsForClientTLS(host, trustRoot=trust, acceptableProtocols=[b"http/1.1"])
    return checked if settings.verify else _Unchecked(checked)


def _authorities(path: str) -> list[Certificate]:
    with open(path, "rb") as file:
        blocks = file.read().split(_END)[:-1]
    if not blocks:
        raise ValueError(f"{path} holds no certificate in PEM form")
    return [Certificate.loadPEM(block[block.index(b"-----BEGIN CERT") :] + _END) for block in blocks]


@implementer(IOpenSSLClientConnectionCreator)
class _Unchecked:
    """Connections that take any certificate but are in all else like the checked ones."""

    def __init__(self, checked: IOpenSSLClientConnectionCreator) -> None:
        self._checked = checked

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        connection = self._checked.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        return connection
