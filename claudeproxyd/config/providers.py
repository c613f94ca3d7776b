"""The checks of ``[[providers]]``: kinds, credentials, URLs, rules, time-outs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import SplitResult, urlsplit

from cryptography.x509 import load_pem_x509_certificates

from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.endpoints import is_host, is_loopback
from claudeproxyd.config.installed import check_by
from claudeproxyd.config.pem import key_and_certificate
from claudeproxyd.config.regular_files import LARGEST_CONFIGURATION, NotRegular, read_regular
from claudeproxyd.config.schema import Aws, CredentialSection, Entra, Provider, Rule
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.timeouts import overridable
from claudeproxyd.interfaces import IExecutorMaker
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.patterns import Pattern

_SECRETS = ("api_key", "bearer_token", "service_account", "aws", "oauth", "entra")
#: The secret that a kind must take to take these.
_BRINGS = {"oauth": "bearer_token", "entra": "bearer_token"}
#: The one plain word that these may be instead of a table.
_WORDS = {"service_account": "adc", "aws": "chain"}
_TENANT = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: Headers that say where a request goes, where it ends and what the daemon can read: it writes them itself.
_RESERVED_HEADERS = frozenset(
    ("accept-encoding", "connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding")
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_provider(
    provider: Provider,
    at: ConfigPath,
    makers: Mapping[str, IExecutorMaker],
    own_ports: Collection[int],
    diagnostics: Diagnostics,
) -> None:
    """Check one provider, and have its kind check it. *own_ports* are those that this daemon listens on."""
    maker = makers.get(provider.kind)
    check_proxy(provider.proxy, at / "proxy", diagnostics)
    _headers(provider, at, diagnostics)
    for index, rule in enumerate(provider.rules):
        _rule(rule, at / "rules" / index, diagnostics)
    for name in provider.timeouts:
        if name not in overridable():
            hint = "a provider may override " + ", ".join(overridable())
            diagnostics.error(at / "timeouts" / name, "is no time-out that a provider has", hint)
    if provider.tls.ca_file:
        check_ca_file(provider.tls.ca_file, at / "tls" / "ca_file", diagnostics)
    if provider.base_url and (maker is None or provider.base_url != maker.default_base_url.rstrip("/")):
        _base_url(provider.base_url, at / "base_url", own_ports, diagnostics)
    if maker is None:
        diagnostics.error(at / "kind", f'there is no kind "{provider.kind}"', f"there are {', '.join(sorted(makers))}")
        return
    _credentials(provider, at, maker, diagnostics)
    if not provider.base_url and maker.credential_schema:
        diagnostics.error(at / "base_url", "is missing", f'kind "{provider.kind}" has no default')
    check_by(maker.check, provider, at, diagnostics)


def check_ca_file(path: str, at: ConfigPath, diagnostics: Diagnostics) -> None:
    """Load the certificate authorities as they will be loaded later, to find what cannot be."""
    try:
        load_pem_x509_certificates(read_regular(path, LARGEST_CONFIGURATION).data)
    except OSError as error:
        diagnostics.error(at, f"cannot be read: {error.strerror}")
    except NotRegular as error:
        diagnostics.error(at, str(error))
    except ValueError:
        diagnostics.error(at, "holds no certificates that can be read", "it takes a file in PEM form")


def _credentials(provider: Provider, at: ConfigPath, maker: IExecutorMaker, diagnostics: Diagnostics) -> None:
    takes = " or ".join(maker.credential_schema)
    if not provider.credentials:
        what = f"name and {takes}" if takes else "a name"
        diagnostics.error(at, "has no credentials", f"add [[providers.credentials]] with {what}")
    for index, credential in enumerate(provider.credentials):
        where = at / "credentials" / index
        given = [name for name in _SECRETS if getattr(credential, name) is not None]
        for name in given:
            if _BRINGS.get(name, name) not in maker.credential_schema:
                diagnostics.error(
                    where / name, f'is not accepted by kind "{provider.kind}"', f"it takes {takes or 'no secret'}"
                )
        if not given and maker.credential_schema:
            diagnostics.error(where, "has no secret", f'kind "{provider.kind}" takes {takes}')
        if len(given) > 1:
            diagnostics.error(
                where, f"has {' and '.join(given)}", "a credential is one secret, so make it two credentials"
            )
        _secrets(credential, where, diagnostics)


def _secrets(credential: CredentialSection, at: ConfigPath, diagnostics: Diagnostics) -> None:
    check_secret(credential.api_key, at / "api_key", diagnostics)
    check_secret(credential.bearer_token, at / "bearer_token", diagnostics)
    for name, word in _WORDS.items():
        value = getattr(credential, name)
        if isinstance(value, str) and value != word:
            diagnostics.error(at / name, f'must be "{word}" or a table')
    if isinstance(credential.aws, Aws):
        _aws(credential.aws, at / "aws", diagnostics)
        for name in ("access_key_id", "secret_access_key", "session_token"):
            check_secret(getattr(credential.aws, name), at / "aws" / name, diagnostics)
    if credential.oauth is not None:
        _token_url(credential.oauth.token_url, at / "oauth" / "token_url", diagnostics)
    if credential.entra is not None:
        _entra(credential.entra, at / "entra", diagnostics)


def _aws(aws: Aws, at: ConfigPath, diagnostics: Diagnostics) -> None:
    given = [name for name in ("access_key_id", "secret_access_key") if getattr(aws, name) is not None]
    if aws.profile and given:
        diagnostics.error(at / "profile", "stands beside keys", "it has keys of its own: leave one or the other out")
    elif len(given) == 1:
        missing = "secret_access_key" if given == ["access_key_id"] else "access_key_id"
        diagnostics.error(at / missing, "is missing", "a key pair is both")
    elif not given and not aws.profile and not aws.role_arn:
        hint = 'access_key_id and secret_access_key, a profile or a role_arn; or aws = "chain"'
        diagnostics.error(at, "has no keys", hint)


def check_secret(secret: Secret | None, at: ConfigPath, diagnostics: Diagnostics) -> None:
    """Check that a secret fits into a header."""
    if secret is None or not secret.known:
        return
    if not fits_a_header(secret.reveal()):
        diagnostics.error(
            at, "holds a line break, a blank at an end, or another character that is not allowed in a header"
        )


def fits_a_header(value: str) -> bool:
    """Whether a secret can be sent in a header as it is."""
    return value.isascii() and value.isprintable() and value == value.strip()


def _entra(entra: Entra, at: ConfigPath, diagnostics: Diagnostics) -> None:
    if entra.tenant_id and not _TENANT.fullmatch(entra.tenant_id):
        diagnostics.error(at / "tenant_id", "is no id and no domain of a directory", "the portal's overview shows it")
    if (entra.client_secret is None) == (entra.certificate is None):
        diagnostics.error(at, "must have either client_secret or certificate")
    if not entra.scope or not entra.scope.isprintable() or " " in entra.scope:
        diagnostics.error(at / "scope", "is no scope", "it is a resource's URI followed by /.default")
    if entra.certificate is not None and entra.certificate.known:
        try:
            key_and_certificate(entra.certificate.reveal())
        except ValueError as error:
            hint = "it takes the key and the certificate in one PEM file"
            diagnostics.error(at / "certificate", str(error), hint)
    _token_url(entra.authority, at / "authority", diagnostics, "https://login.microsoftonline.com")


def _token_url(
    text: str, at: ConfigPath, diagnostics: Diagnostics, example: str = "https://login.example.com/token"
) -> None:
    try:
        url = parsed_url(text)
    except ValueError as error:
        diagnostics.error(at, str(error), f"such as {example}")
        return
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        diagnostics.error(at, "is not encrypted: secrets would be sent in the clear", "use https://")


def check_proxy(proxy: str, at: ConfigPath, diagnostics: Diagnostics) -> None:
    """Check the URL of a proxy, or what stands for none and for the environment's."""
    if proxy in ("", "env"):
        return
    try:
        if parsed_url(proxy, userinfo=True).scheme != "http":
            raise ValueError("must begin with http://")
    except ValueError as error:
        diagnostics.error(at, str(error), 'http://user:pass@host:port, or "env"')


def _base_url(text: str, at: ConfigPath, own_ports: Collection[int], diagnostics: Diagnostics) -> None:
    try:
        url = parsed_url(text)
    except ValueError as error:
        diagnostics.error(at, str(error), "such as https://api.example.com")
        return
    host = url.hostname or ""
    if is_loopback(host) and url.port in own_ports:
        diagnostics.error(at, "is this daemon itself", "name the upstream; only clients use this address")
    elif url.scheme == "http" and not is_loopback(host):
        diagnostics.warn(at, "is not encrypted: credentials and prompts are sent in the clear", "use https://")


def parsed_url(text: str, userinfo: bool = False) -> SplitResult:
    """Return *text* as an http or https URL. Raises ValueError, whose message does not quote it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if url.scheme not in ("http", "https") or not is_host(url.hostname or "") or port == 0:
        raise ValueError("must be an http:// or https:// URL")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must hold no blanks and only ASCII")
    if url.username is not None and not userinfo:
        raise ValueError("must hold no user or password")
    if "?" in text or "#" in text:
        raise ValueError("must hold no query and no fragment")
    return url


def _headers(provider: Provider, at: ConfigPath, diagnostics: Diagnostics) -> None:
    for name, value in provider.headers.items():
        check_header_name(name, at / "headers" / name, diagnostics)
        if _CONTROL.search(value) or not value.isascii():
            diagnostics.error(at / "headers" / name, "must hold only printable ASCII")


def check_header_name(name: str, at: ConfigPath, diagnostics: Diagnostics) -> None:
    """Check that a header is one, and not of those that the daemon writes itself."""
    if not _TOKEN.fullmatch(name):
        diagnostics.error(at, "is not a header name")
    elif name.lower() in _RESERVED_HEADERS:
        diagnostics.error(at, "is a header that the daemon writes itself", "leave it out")


def _rule(rule: Rule, at: ConfigPath, diagnostics: Diagnostics) -> None:
    if rule.status and not 100 <= rule.status <= 599:
        diagnostics.error(at / "status", "must be an HTTP status, or 0 for any")
    try:
        Pattern(rule.match)
    except ValueError as error:
        diagnostics.error(at / "match", str(error))
        return
    if not diagnostics.was_read(at):
        return
    try:
        operator_rule(rule.outcome, rule.status, rule.match, rule.cooldown, rule.scope)
    except ValueError as error:
        diagnostics.error(at, f"cannot work: {error}")
