"""``claudeproxyd doctor``."""

from __future__ import annotations

import os
import time
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from claudeproxyd.checkup import Checkup, Finding, IssuerFinding
from claudeproxyd.cli.admin import Admin, AdminCommand, admin_at
from claudeproxyd.cli.command import DONE, REFUSED, UNREACHABLE, CommandFailed, complain, on_reactor
from claudeproxyd.cli.figures import counted, plain
from claudeproxyd.cli.place import PLACE_VARIABLE, find_place
from claudeproxyd.translate.signatures import Signatures
from claudeproxyd.web.buffers import BufferBudget

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds for all credentials: two questions of each, eight at once.
PATIENCE = 600.0


class Findings(msgspec.Struct):
    """How credentials and issuers are."""

    credentials: list[Finding]
    issuers: list[IssuerFinding] = []


class DoctorCommand(AdminCommand):
    """Asks each credential's provider for its models and a count of tokens, and each issuer of tokens for its keys, and
    says what is wrong and what mends it.

    The running daemon asks with the secrets that it has. Where none runs, or with --alone, this command asks by the
    configuration. Neither costs anything at the provider. Exits with 1 if something is wrong with an issuer, or with a
    credential that is not disabled.
    """

    optParameters: ClassVar = [
        ["provider", None, "", "Only the credentials of this provider."],
        ["credential", None, "", "Only the credentials of this name."],
    ]
    optFlags: ClassVar = [
        ["alone", None, "Ask by the configuration itself, even where a daemon runs: to try a file ahead of a reload."],
        ["json", None, "Print what was found for machines."],
    ]

    def perform(self) -> int:
        """Ask the daemon, or else the providers."""

        async def do(reactor: Any) -> int:
            if not self["alone"]:
                try:
                    place = find_place(self["admin"], self["config"], os.environ)
                    return await self.ask(admin_at(reactor, place), reactor)
                except CommandFailed as error:
                    if error.code != UNREACHABLE or self["admin"] or os.environ.get(PLACE_VARIABLE):
                        raise
                    complain(f"{error}; asking by the configuration meanwhile")
            return self.tell(await _ask_alone(reactor, self["config"], self["provider"], self["credential"]))

        return on_reactor(do)

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        which = {"provider": self["provider"], "credential": self["credential"]}
        return self.tell(await admin.post("/admin/v1/pool/check", which, Findings, PATIENCE))

    def tell(self, found: Findings) -> int:
        """Print them; return the exit code."""
        credentials, issuers = found.credentials, found.issuers
        if not credentials and not issuers:
            raise CommandFailed(REFUSED, "there is no such credential: claudeproxyd pool lists them")
        lines = [*map(in_words, credentials), *map(issuer_in_words, issuers)]
        self.show(msgspec.json.encode(found), "\n".join(lines))
        in_trouble = [*(each.trouble for each in credentials if not each.disabled), *(each.trouble for each in issuers)]
        return REFUSED if any(in_trouble) else DONE


def in_words(finding: Finding) -> str:
    """Return the lines that tell of one credential."""
    name = f"{finding.provider}/{finding.credential}" + (", which is disabled" if finding.disabled else "")
    if finding.trouble:
        return _wrong(name, finding.trouble, finding.mend)
    able = [] if finding.models is None else [f"lists {counted(finding.models, 'model')}"]
    if finding.tokens is not None:
        able.append(f"counts tokens of {finding.model}")
    if finding.note:
        able.append(f"but {finding.note}" if able else finding.note)
    return plain(f"well   {name}: {', '.join(able)}")


def issuer_in_words(finding: IssuerFinding) -> str:
    """Return the lines that tell of one issuer."""
    name = f"issuer {finding.issuer}"
    if finding.trouble:
        return _wrong(name, finding.trouble, finding.mend)
    return plain(f"well   {name}: publishes {counted(finding.keys or 0, 'key')}, for {', '.join(finding.algorithms)}")


def _wrong(name: str, trouble: str, mend: str) -> str:
    return plain(f"WRONG  {name}: {trouble}") + "\n" + plain(f"       {mend}")


async def _ask_alone(reactor: Any, config_file: str | None, provider: str, credential: str) -> Findings:
    """Make executors of the configuration, and ask with them. Raises CommandFailed."""
    # They take half a second, which who asks a daemon need not wait for.
    from claudeproxyd import configured
    from claudeproxyd.config.diagnostics import ConfigError
    from claudeproxyd.config.loading import load
    from claudeproxyd.executors.kinds import makers
    from claudeproxyd.executors.turns import Turns
    from claudeproxyd.issuers.checkup import issuer_findings
    from claudeproxyd.issuers.registry import fetcher_over_http
    from claudeproxyd.observe.scrub import configure, redact_bytes
    from claudeproxyd.plugin_loader import plugin_makers
    from claudeproxyd.providers import ExecutorServices, Upstreams
    from claudeproxyd.secrets.sources import Sources
    from claudeproxyd.sockets import Hub

    try:
        loaded = load(config_file, os.environ, makers([]), plugin_makers=plugin_makers([]))
        config = loaded.config
        configure(configured.secrets_of(config))
        services = ExecutorServices(
            buffers=BufferBudget(config.server.max_buffered_bytes),
            turns=Turns(reactor),
            hub=Hub(reactor),
            own_hop=token_hex(8).encode(),
            signatures=Signatures(time.time),
        )
        upstreams = Upstreams(reactor, loaded, None, (), services)
    except ConfigError as error:
        raise CommandFailed(REFUSED, str(error)) from None
    sources = Sources(reactor)
    sources.reload(config)
    granted = {(section.name, each.name) for section in config.providers for each in section.credentials if each.oauth}
    credentials = configured.credentials(config, sources)
    asked = [each for each in credentials if (each.provider, each.name) not in granted]
    checkup = Checkup(reactor, config, upstreams.executors, asked)
    found = Findings(await checkup.findings(provider, credential))
    if not (provider or credential):
        found.issuers = await issuer_findings(reactor, config.issuers, partial(fetcher_over_http, reactor))
    found = msgspec.json.decode(redact_bytes(msgspec.json.encode(found)), type=Findings)
    found.credentials += [
        Finding(
            provider=each.provider,
            credential=each.name,
            disabled=each.disabled,
            note="it was not asked: its refresh token may be good for one use, which is the daemon's",
        )
        for each in credentials
        if (each.provider, each.name) in granted and provider in ("", each.provider) and credential in ("", each.name)
    ]
    return found
