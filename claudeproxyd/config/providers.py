"""The checks of ``[[providers]]``: kinds, credentials, URLs, rules, time-outs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import SplitResult, urlsplit

from cryptography.x509 import load_pem_x509_certificates

from claudeproxyd.config.listening import is_host, is_loopback
from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.ordinary import LARGEST_CONFIGURATION, NotOrdinary, read_ordinary
from claudeproxyd.config.places import Place
from claudeproxyd.config.schema import Aws, Credential, Provider, Rule
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.timeouts import overridable
from claudeproxyd.interfaces import IExecutorMaker
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.patterns import Pattern

_SECRETS = ("api_key", "bearer_token", "service_account", "aws", "oauth")
_BRINGS = {"oauth": "bearer_token"}
"""What a kind must take to take these."""
_WORDS = {"service_account": "adc", "aws": "chain"}
"""The one plain word that these may be instead of a secret."""
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    ("accept-encoding", "connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding")
)
"""Headers that say where a request goes, where it ends and what the daemon can read: a second one would be a lie."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def check_provider(
    provider: Provider,
    place: Place,
    makers: Mapping[str, IExecutorMaker],
    own_ports: Collection[int],
    findings: Findings,
) -> None:
    """Check one provider by itself and as its kind sees it. *own_ports*: where this daemon listens itself."""
    maker = makers.get(provider.kind)
    _proxy(provider.proxy, place / "proxy", findings)
    _headers(provider, place, findings)
    for index, rule in enumerate(provider.rules):
        _rule(rule, place / "rules" / index, findings)
    for name in provider.timeouts:
        if name not in overridable():
            mend = "a provider may override " + ", ".join(overridable())
            findings.mistake(place / "timeouts" / name, "is no time-out of an upstream", mend)
    if provider.tls.ca_file:
        _ca_file(provider.tls.ca_file, place / "tls" / "ca_file", findings)
    if provider.base_url and (maker is None or provider.base_url != maker.default_base_url.rstrip("/")):
        _base_url(provider.base_url, place / "base_url", own_ports, findings)
    if maker is None or not maker.is_built:
        known = f"there are {', '.join(sorted(kind for kind, each in makers.items() if each.is_built))}"
        message = f'there is no kind "{provider.kind}"'
        if maker is not None:
            message = f'kind "{provider.kind}" is not built yet in this version'
        findings.mistake(place / "kind", message, known)
        return
    _credentials(provider, place, maker, findings)
    if not provider.base_url and maker.credential_schema:
        findings.mistake(place / "base_url", "is missing", f"kind '{provider.kind}' has no default")
    for member, message in maker.check(provider):
        where = place
        for index, name in _STEP.findall(member):
            where = where / (int(index) if index else name)
        findings.mistake(where, message)


def _ca_file(path: str, place: Place, findings: Findings) -> None:
    """The authorities are loaded here as they will be: what cannot be trusted is found before anything trusts it."""
    try:
        load_pem_x509_certificates(read_ordinary(path, LARGEST_CONFIGURATION).data)
    except OSError as error:
        findings.mistake(place, f"cannot be read: {error.strerror}")
    except NotOrdinary as error:
        findings.mistake(place, str(error))
    except ValueError:
        findings.mistake(place, "holds no certificates that can be read", "it takes a file in PEM form")


def _credentials(provider: Provider, place: Place, maker: IExecutorMaker, findings: Findings) -> None:
    takes = " or ".join(maker.credential_schema)
    if not provider.credentials:
        what = f"name and {takes}" if takes else "a name"
        findings.mistake(place, "has no credentials", f"add [[providers.credentials]] with {what}")
    for index, credential in enumerate(provider.credentials):
        where = place / "credentials" / index
        given = [name for name in _SECRETS if getattr(credential, name) is not None]
        for name in given:
            if _BRINGS.get(name, name) not in maker.credential_schema:
                findings.mistake(where / name, f"is nothing that kind '{provider.kind}' takes", f"it takes {takes}")
        if not given and maker.credential_schema:
            findings.mistake(where, "has no secret", f"kind '{provider.kind}' takes {takes}")
        if len(given) > 1:
            findings.mistake(where, f"has {' and '.join(given)}", "a credential is one secret: make two of it")
        _secrets(credential, where, findings)


def _secrets(credential: Credential, place: Place, findings: Findings) -> None:
    check_secret(credential.api_key, place / "api_key", findings)
    check_secret(credential.bearer_token, place / "bearer_token", findings)
    for name, word in _WORDS.items():
        value = getattr(credential, name)
        if isinstance(value, str) and value != word:
            findings.mistake(place / name, f'must be "{word}" or a table')
    if isinstance(credential.aws, Aws):
        for name in ("access_key_id", "secret_access_key", "session_token"):
            check_secret(getattr(credential.aws, name), place / "aws" / name, findings)
    if credential.oauth is not None:
        _token_url(credential.oauth.token_url, place / "oauth" / "token_url", findings)


def check_secret(secret: Secret | None, place: Place, findings: Findings) -> None:
    """A secret that travels in a header must fit into one."""
    if secret is None or not secret.known:
        return
    if not fits_a_header(secret.reveal()):
        findings.mistake(place, "holds a line break, a blank at an end, or another character that no header takes")


def fits_a_header(value: str) -> bool:
    """Whether a secret can travel in a header as it is."""
    return value.isascii() and value.isprintable() and value == value.strip()


def _token_url(text: str, place: Place, findings: Findings) -> None:
    try:
        url = parsed_url(text)
    except ValueError as error:
        findings.mistake(place, str(error), "such as https://login.example.com/token")
        return
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        findings.mistake(place, "is not encrypted: the refresh token would travel in the clear", "use https://")


def _proxy(proxy: str, place: Place, findings: Findings) -> None:
    if proxy in ("", "env"):
        return
    try:
        if parsed_url(proxy, userinfo=True).scheme != "http":
            raise ValueError("must begin with http://")
    except ValueError as error:
        findings.mistake(place, str(error), 'http://user:pass@host:port, or "env"')


def _base_url(text: str, place: Place, own_ports: Collection[int], findings: Findings) -> None:
    try:
        url = parsed_url(text)
    except ValueError as error:
        findings.mistake(place, str(error), "such as https://api.example.com")
        return
    host = url.hostname or ""
    if is_loopback(host) and url.port in own_ports:
        findings.mistake(place, "is this daemon itself", "name the upstream; only clients are pointed here")
    elif url.scheme == "http" and not is_loopback(host):
        findings.warn(place, "is not encrypted: credentials and prompts travel in the clear", "use https://")


def parsed_url(text: str, userinfo: bool = False) -> SplitResult:
    """An http or https URL. Raises ValueError, in words that do not quote it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("is no URL") from None
    if url.scheme not in ("http", "https") or not is_host(url.hostname or "") or port == 0:
        raise ValueError("must be an http:// or https:// URL")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must hold no blanks and only ASCII")
    if url.username is not None and not userinfo:
        raise ValueError("must hold no user or password")
    if "?" in text or "#" in text:
        raise ValueError("must hold no query and no fragment")
    return url


def _headers(provider: Provider, place: Place, findings: Findings) -> None:
    for name, value in provider.headers.items():
        if not _TOKEN.fullmatch(name):
            findings.mistake(place / "headers" / name, "is no header name")
        elif name.lower() in _OURS:
            findings.mistake(place / "headers" / name, "is the daemon's own to say")
        if _CONTROL.search(value) or not value.isascii():
            findings.mistake(place / "headers" / name, "must hold only printable ASCII")


def _rule(rule: Rule, place: Place, findings: Findings) -> None:
    if rule.status and not 100 <= rule.status <= 599:
        findings.mistake(place / "status", "must be an HTTP status, or 0 for any")
    try:
        Pattern(rule.match)
    except ValueError as error:
        findings.mistake(place / "match", str(error))
        return
    if not findings.was_read(place):
        return
    try:
        operator_rule(rule.outcome, rule.status, rule.match, rule.cooldown, rule.scope)
    except ValueError as error:
        findings.mistake(place, f"cannot work: {error}")
