"""Reads a certificate together with its private key."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificate


def key_and_certificate(text: str) -> tuple[RSAPrivateKey, Certificate]:
    """Return what a PEM text holds: a private key without a password, and its certificate, the first if there are more.

    Raises ValueError, whose message says what is wrong and quotes nothing.
    """
    data = text.encode()
    try:
        # Proving that the primes are primes takes 40 ms of the reactor's time; a wrong key is refused where it is used.
        key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("holds no private key that can be read without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("holds no RSA private key")
    try:
        certificate = load_pem_x509_certificate(data)
    except ValueError:
        raise ValueError("holds no certificate beside the private key") from None
    if certificate.public_key() != key.public_key():
        raise ValueError("holds a certificate of another private key")
    return key, certificate
