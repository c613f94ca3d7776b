"""``claudeproxyd keys``: list, mint, rotate, revoke."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

import msgspec
from twisted.python.usage import UsageError

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.command import DONE, CommandGroup, complain, say
from claudeproxyd.cli.figures import span, table

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

KEYS = "/admin/v1/keys"

_SPAN = re.compile(r"(\d{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class ToldKey(msgspec.Struct):
    """One key, without its secret."""

    name: str
    source: str
    state: str
    labels: dict[str, str] = {}
    models: list[str] = []
    expires: float | None = None
    last_used: float | None = None


class ToldKeys(msgspec.Struct):
    """All keys."""

    keys: list[ToldKey]


class MintedKey(msgspec.Struct):
    """A key, the only time that it is told."""

    name: str
    key: str


class ListKeysCommand(AdminCommand):
    """Prints all keys: those of the configuration, and those that were minted; no secret of any."""

    optFlags: ClassVar = [["json", None, "Print the daemon's own answer."]]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        raw = await admin.raw("GET", KEYS, {})
        return self.show(raw, keys_in_words(admin.read(raw, ToldKeys).keys, time.time()))


class _OneKey(AdminCommand):
    """The base of what is done to one key."""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse them; the name may come first, which getopt takes for the end of the options."""
        words = list(options or ())
        super().parseOptions([*words[1:], words[0]] if words and not words[0].startswith("-") else words)

    def parseArgs(self, *names: str) -> None:
        """Take its name. Raises UsageError."""
        if len(names) != 1:
            raise UsageError("which key? its NAME, and one alone")
        (self["name"],) = names

    @property
    def path(self) -> str:
        """Return where it is on the admin listener."""
        return f"{KEYS}/{quote(self['name'], safe='')}"

    def tell(self, minted: MintedKey, words: str) -> int:
        """Print the secret alone, so that it can be piped to where it belongs, and the rest beside it."""
        say(minted.key)
        complain(f"{words}: this is the only time that it is shown")
        return DONE


class MintKeyCommand(_OneKey):
    """Mints a key of that name, and prints it: the only time that it is shown."""

    synopsis = "NAME [options]"
    optParameters: ClassVar = [
        ["expires", None, None, "How long it holds, such as 90d or 12h; else until it is revoked."],
        ["max-concurrency", None, "0", "Requests at once; 0: no limit."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[str, str] = {}
        self.models: list[str] = []

    def opt_label(self, text: str) -> None:
        """A label, such as team=ads; may be given several times."""
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--label {text}: must be NAME=VALUE")
        self.labels[name] = value

    def opt_model(self, glob: str) -> None:
        """A glob of the models that it may ask for; may be given several times; else all that you may give."""
        self.models.append(glob)

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        terms: dict[str, object] = {"name": self["name"], "labels": self.labels}
        if self.models:  # else all that whoever asks may give
            terms["models"] = self.models
        terms["max_concurrency"] = int(self.number("max-concurrency", int, 0))
        if self["expires"] is not None:
            terms["expires_in"] = seconds_of("expires", self["expires"])
        return self.tell(await admin.post(KEYS, terms, MintedKey), f"minted the key of {self['name']}")


class RotateKeyCommand(_OneKey):
    """Gives a key another secret, and prints that; the one before holds a while longer."""

    synopsis = "NAME [options]"
    optParameters: ClassVar = [["overlap", None, "1h", "How long the secret before still holds, such as 7d or 0."]]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        overlap = seconds_of("overlap", self["overlap"])
        minted = await admin.post(f"{self.path}/rotate", {"overlap": overlap}, MintedKey)
        return self.tell(minted, f"{self['name']} has another secret, the one before holds for {span(overlap)}")


class RevokeKeyCommand(_OneKey):
    """Revokes a key, with all its secrets."""

    synopsis = "NAME [options]"

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        await admin.raw("DELETE", self.path, {})
        say(f"revoked {self['name']}")
        return DONE


class KeysCommand(CommandGroup):
    """Lists, mints, rotates and revokes clients' keys. Those of the configuration are changed there alone."""

    synopsis = "COMMAND [options]"
    asking = "keys: "
    subCommands: ClassVar = [
        ("list", None, ListKeysCommand, "All keys."),
        ("mint", None, MintKeyCommand, "Mint a key."),
        ("rotate", None, RotateKeyCommand, "Give a key another secret."),
        ("revoke", None, RevokeKeyCommand, "Revoke a key."),
    ]


def seconds_of(option: str, text: str) -> int:
    """Return how long somebody says. Raises UsageError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageError(f"--{option} {text}: must be such as 90d, 12h, 30m or 45s")
    return int(found[1]) * _SECONDS[found[2]]


def keys_in_words(keys: Sequence[ToldKey], now: float) -> str:
    """Return their table; *now* in seconds since the epoch."""
    if not keys:
        return "there are no keys"
    rows = [
        (
            key.name,
            key.state,
            key.source,
            ",".join(f"{name}={value}" for name, value in key.labels.items()) or "-",
            ",".join(key.models),
            "-" if key.expires is None else f"in {span(key.expires - now)}" if key.expires > now else "over",
            "-" if key.last_used is None else f"{span(max(0.0, now - key.last_used))} ago",
        )
        for key in keys
    ]
    return table(["NAME", "STATE", "SOURCE", "LABELS", "MODELS", "EXPIRES", "LAST-USED"], rows)
