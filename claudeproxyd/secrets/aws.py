"""Keys of AWS that expire: of roles, containers and machines, and the chain in which AWS's own tools look for keys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec
from treq.client import HTTPClient
from twisted.web.http_headers import Headers

from claudeproxyd.config.endpoints import is_loopback
from claudeproxyd.config.regular_files import LARGEST_SECRET, NotRegular, read_regular
from claudeproxyd.observe.scrub import remember
from claudeproxyd.secrets.aws_profiles import BadProfile, read_profile, region_of
from claudeproxyd.secrets.endpoint import response_of
from claudeproxyd.secrets.failures import refused, unavailable
from claudeproxyd.secrets.sigv4 import Signer

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Aws

REREAD_SECONDS = 900.0
"""Keys that do not say when they expire are looked for anew after so long: another program may have replaced them."""

_STS_VERSION = "2011-06-15"
_SESSION = "claudeproxyd"
_STS_FORM = "application/x-www-form-urlencoded"
_XML = re.compile(rb"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration|Code|Message)>([^<]*)</")
#: Errors of STS that say nothing against the credential.
_TEMPORARY = ("IDPCommunicationError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "Throttling")
_MACHINE = "http://169.254.169.254"
_MACHINE_TOKEN_SECONDS = "21600"  # noqa: S105  # a time, no secret
_CONTAINER = "http://169.254.170.2"
#: Hosts that a container's keys may come from without TLS.
_CONTAINER_HOSTS = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23")
#: Profiles that lead to one another.
_MAX_PROFILES = 5


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """A key pair, with a session's token where it is of one."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    lifetime: float
    """Seconds, from when it was asked for."""

    def members(self) -> Mapping[str, str]:
        """See :class:`~claudeproxyd.secrets.refreshed.Fetched`."""
        members = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        return {**members, "session_token": self.session_token} if self.session_token else members

    def secrets(self) -> list[str]:
        """See :class:`~claudeproxyd.secrets.refreshed.Fetched`."""
        return [self.secret_access_key, *filter(None, [self.session_token])]


class _Answer(msgspec.Struct, rename="pascal"):
    """What containers and machines say."""

    access_key_id: str = ""
    secret_access_key: str = ""
    token: str = ""
    expiration: str = ""
    code: str = "Success"
    message: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


class AwsChain:
    """Keys by AWS's chain: the environment, a profile, a web identity, a container, the machine; perhaps of a role."""

    def __init__(
        self,
        http: HTTPClient,
        wall_clock: Callable[[], float],
        environ: Mapping[str, str] = os.environ,
        *,
        profile: str = "",
        role_arn: str = "",
        keys: AwsKeys | None = None,
        region: str = "",
    ) -> None:
        """*profile*: this one alone. *role_arn*: a role, which *keys*, or what the chain brings, may assume. *region*:
        whose STS is asked; that of the environment or of the profile, if left out."""
        self._http = http
        self._wall_clock = wall_clock
        self._environ = environ
        self._profile = profile
        self._role_arn = role_arn
        self._keys = keys
        self._region = region

    async def fetch(self) -> AwsKeys:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        keys = self._keys or await self._found()
        if self._role_arn:
            return await self._assume(self._role_arn, keys, {})
        return keys

    async def _found(self) -> AwsKeys:
        environ = self._environ
        if self._profile:
            return await self._of_profile(self._profile)
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return _lasting(
                environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN", "")
            )
        settings = self._read_profile("")
        if "role_arn" in settings and "web_identity_token_file" not in settings:
            return await self._of_settings("", settings, 0)
        if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
            return await self._web_identity(
                environ["AWS_ROLE_ARN"],
                environ["AWS_WEB_IDENTITY_TOKEN_FILE"],
                environ.get("AWS_ROLE_SESSION_NAME", ""),
            )
        if _has_keys(settings):
            return await self._of_settings("", settings, 0)
        if environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            return await self._container()
        if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
            return await self._machine()
        raise refused("neither the environment nor a profile, a web identity or a container has keys of AWS")

    # -- profiles

    def _read_profile(self, name: str) -> Mapping[str, str]:
        try:
            return read_profile(name, self._environ)
        except BadProfile as e:
            raise refused(str(e)) from None

    async def _of_profile(self, name: str, depth: int = 0) -> AwsKeys:
        return await self._of_settings(name, self._read_profile(name), depth)

    async def _of_settings(self, name: str, settings: Mapping[str, str], depth: int) -> AwsKeys:
        shown = name or "default"
        if depth >= _MAX_PROFILES:
            raise refused(f"the profile {shown} leads to itself")
        role = settings.get("role_arn")
        if role and (path := settings.get("web_identity_token_file")):
            return await self._web_identity(role, path, settings.get("role_session_name", ""))
        if role:
            return await self._assume(role, await self._source(shown, settings, depth), settings)
        if "aws_access_key_id" in settings and "aws_secret_access_key" in settings:
            return _lasting(
                settings["aws_access_key_id"],
                settings["aws_secret_access_key"],
                settings.get("aws_session_token", ""),
            )
        if "credential_process" in settings or "sso_session" in settings or "sso_start_url" in settings:
            raise refused(
                f"the profile {shown} has its keys of a program or of a login by browser, which a daemon does not use:"
                " take keys, a role, or a Bedrock API key"
            )
        raise refused(f"the profile {shown} has no keys and no role")

    async def _source(self, shown: str, settings: Mapping[str, str], depth: int) -> AwsKeys:
        """The keys that may assume a profile's role."""
        if source := settings.get("source_profile"):
            if source == shown and "aws_access_key_id" in settings:  # a role of the profile's own keys
                return _lasting(settings["aws_access_key_id"], settings.get("aws_secret_access_key", ""), "")
            return await self._of_profile(source, depth + 1)
        match settings.get("credential_source"):
            case "Environment":
                environ = self._environ
                return _lasting(
                    environ.get("AWS_ACCESS_KEY_ID", ""),
                    environ.get("AWS_SECRET_ACCESS_KEY", ""),
                    environ.get("AWS_SESSION_TOKEN", ""),
                )
            case "EcsContainer":
                return await self._container()
            case "Ec2InstanceMetadata":
                return await self._machine()
        raise refused(f"the profile {shown} has a role_arn, and neither a source_profile nor a credential_source")

    # -- STS

    async def _assume(self, role: str, keys: AwsKeys, settings: Mapping[str, str]) -> AwsKeys:
        form = {"RoleArn": role, "RoleSessionName": settings.get("role_session_name") or _SESSION}
        if seconds := settings.get("duration_seconds"):
            form["DurationSeconds"] = seconds
        if external := settings.get("external_id"):
            form["ExternalId"] = external
        return await self._ask_sts("AssumeRole", form, keys)

    async def _web_identity(self, role: str, path: str, session: str) -> AwsKeys:
        try:
            token = read_regular(path, LARGEST_SECRET).data.decode().strip()
        except (OSError, NotRegular, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "it is no text of a token"
            raise refused(f"the web identity token {path} cannot be read: {why}") from None
        remember([token])
        form = {"RoleArn": role, "RoleSessionName": session or _SESSION, "WebIdentityToken": token}
        return await self._ask_sts("AssumeRoleWithWebIdentity", form, None)

    async def _ask_sts(self, action: str, form: Mapping[str, str], keys: AwsKeys | None) -> AwsKeys:
        region = self._region or region_of(self._environ, self._profile) or "us-east-1"
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        url = (self._environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{region}.{domain}").rstrip("/") + "/"
        body = urlencode({"Action": action, "Version": _STS_VERSION, **form}).encode()
        headers = Headers({"content-type": [_STS_FORM], "accept": ["text/xml"]})
        if keys is not None:
            remember(keys.secrets())
            parts = urlsplit(url)
            signed = [("content-type", _STS_FORM)]
            lines = Signer(region, "sts").lines(
                keys.members(), "POST", parts.netloc, parts.path, signed, body, self._wall_clock()
            )
            for line in lines.decode().splitlines():
                name, _, value = line.partition(": ")
                headers.setRawHeaders(name, [value])
        status, answer = await response_of(
            self._http.post(url, data=body, headers=headers, allow_redirects=False), "AWS STS"
        )
        said = {name.decode(): value.decode("utf-8", "replace") for name, value in _XML.findall(answer)}
        if status == 200:
            return self._keys_of(
                said.get("AccessKeyId", ""),
                said.get("SecretAccessKey", ""),
                said.get("SessionToken", ""),
                said.get("Expiration", ""),
            )
        code = said.get("Code", "")
        why = f"AWS STS says {status} {code} {said.get('Message', '')}"
        if status in (400, 401, 403) and not code.startswith(_TEMPORARY):
            raise refused(why)
        raise unavailable(why)

    # -- containers and machines

    async def _container(self) -> AwsKeys:
        environ = self._environ
        relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = _CONTAINER + relative if relative else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" and host not in _CONTAINER_HOSTS and not is_loopback(host):
            raise refused("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor a container's own address")
        token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if path := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            try:
                token = read_regular(path, LARGEST_SECRET).data.decode().strip()
            except (OSError, NotRegular, UnicodeDecodeError):
                raise refused(f"the container's token {path} cannot be read") from None
        remember([token])
        headers = Headers({"authorization": [token]} if token else {})
        return await self._told(url, headers, "the container's endpoint")

    async def _machine(self) -> AwsKeys:
        """By IMDSv2, which asks for a token first."""
        base = (self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _MACHINE).rstrip("/")
        wanted = Headers({"x-aws-ec2-metadata-token-ttl-seconds": [_MACHINE_TOKEN_SECONDS]})
        what = "the machine's metadata"
        status, token = await response_of(
            self._http.put(f"{base}/latest/api/token", headers=wanted, allow_redirects=False), what
        )
        if status != 200:
            raise unavailable(f"{what} gives no token: {status}")
        remember([token.decode("latin-1").strip()])
        headers = Headers({b"x-aws-ec2-metadata-token": [token.strip()]})
        roles = f"{base}/latest/meta-data/iam/security-credentials/"
        status, named = await response_of(self._http.get(roles, headers=headers, allow_redirects=False), what)
        role = named.decode("utf-8", "replace").strip().partition("\n")[0]
        if status == 404 or not role:
            raise refused("this machine has no role, and nothing else has keys of AWS")
        if status != 200:
            raise unavailable(f"{what} names no role: {status}")
        return await self._told(f"{roles}{role}", headers, what)

    async def _told(self, url: str, headers: Headers, what: str) -> AwsKeys:
        status, body = await response_of(self._http.get(url, headers=headers, allow_redirects=False), what)
        try:
            answer = _decode(body)
        except ValueError:
            answer = _Answer(code="")
        if status != 200 or answer.code != "Success":
            why = f"{what} says {status} {answer.code} {answer.message}"
            raise refused(why) if status in (400, 401, 403, 404) else unavailable(why)
        return self._keys_of(answer.access_key_id, answer.secret_access_key, answer.token, answer.expiration)

    def _keys_of(self, access: str, secret: str, token: str, expires: str) -> AwsKeys:
        if not access or not secret or not token:
            raise unavailable("the answer of AWS holds no keys")
        try:
            moment = datetime.fromisoformat(expires)
        except ValueError:
            return AwsKeys(access, secret, token, REREAD_SECONDS)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - self._wall_clock()
        if seconds <= 0:
            raise unavailable("the keys that AWS gives have expired already")
        return AwsKeys(access, secret, token, seconds)


def _has_keys(settings: Mapping[str, str]) -> bool:
    return bool(
        settings.keys() & {"aws_access_key_id", "role_arn", "credential_process", "sso_session", "sso_start_url"}
    )


def _lasting(access: str, secret: str, token: str) -> AwsKeys:
    """Keys that do not say when they expire."""
    if not access or not secret:
        raise refused("a key of AWS, or its id, is empty")
    return AwsKeys(access, secret, token, REREAD_SECONDS)


def configured_keys(aws: Aws) -> AwsKeys | None:
    """Return the keys that stand in a configuration; None if there are none."""
    if aws.access_key_id is None or aws.secret_access_key is None:
        return None
    token = "" if aws.session_token is None else aws.session_token.reveal()
    return AwsKeys(aws.access_key_id.reveal(), aws.secret_access_key.reveal(), token, REREAD_SECONDS)
