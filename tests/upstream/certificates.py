"""Certificates of an authority that somebody trusts, good ones and forged ones."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509, PKey
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer

_DAY = datetime.timedelta(days=1)


def dns(name: str) -> x509.GeneralName:
    """A name, whatever it is made of."""
    return x509.DNSName._init_without_validation(name)


def ip(address: str) -> x509.GeneralName:
    """An address."""
    return x509.IPAddress(ip_address(address))


def mail(address: str) -> x509.GeneralName:
    """A mailbox."""
    return x509.RFC822Name._init_without_validation(address)


def uri(text: str) -> x509.GeneralName:
    """A URI."""
    return x509.UniformResourceIdentifier._init_without_validation(text)


@implementer(IOpenSSLContextFactory)
class Shown:
    """What a server shows of itself."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_privatekey(PKey.from_cryptography_key(key))
        self._context.use_certificate(X509.from_cryptography(certificate))

    def getContext(self) -> SSL.Context:
        """See the interface."""
        return self._context


class Authority:
    """Signs whatever it is asked to."""

    def __init__(self, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - 400 * _DAY)
            .not_valid_after(now + 400 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """What those who trust it are given."""
        return self._certificate.public_bytes(Encoding.PEM)

    def server(
        self,
        names: Sequence[x509.GeneralName] | bytes | None,
        *,
        common_name: str = "",
        days: tuple[int, int] = (-1, 1),
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Shown:
        """What a server shows that has a certificate for *names*.

        *names*: None leaves the extension out; bytes are what stands in it, DER or not. *days*: from when and until
        when it is valid, from today.
        """
        now = datetime.datetime.now(datetime.UTC)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * _DAY)
            .not_valid_after(now + days[1] * _DAY)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if isinstance(names, bytes):
            oid = x509.SubjectAlternativeName.oid
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, names), critical=False)
        elif names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Shown(key, certificate)
