"""What an upstream signed of its thoughts, kept until the conversation comes back.

Some upstreams want their signatures back with every later turn, and the Claude API has no place for one beside a tool
call or a text. So it is remembered here: by the id of the tool call, or by :meth:`ConversationDigest.key`. As state:

``["signature", key]``
    → ``{"signature", "used"}``

in wall-clock seconds; None stands for what is no more.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from zope.interface import implementer

from claudeproxyd.interfaces import IPersistent
from claudeproxyd.slices import batches
from claudeproxyd.translate.conversation import Text, ToolResult, ToolUse, Turn

#: How many are kept, and how many bytes of keys and signatures; the longest unused go first. One has some KB.
MAX_SIGNATURES = 20_000
MAX_TOTAL_BYTES = 32 * 1024 * 1024
#: A longer one is not kept: state is shared in messages of many changes.
MAX_SIGNATURE_BYTES = 64 * 1024
#: Seconds of rest after which one is forgotten.
SIGNATURE_LIFETIME = 86_400.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Literal["signature"], str]).decode


class ConversationDigest:
    """A digest of a conversation up to now. Updated by a translator, turn by turn.

    Words are common: by those of a text alone one conversation would be given what was signed of another's thoughts.
    """

    def __init__(self, system: Sequence[str] = ()) -> None:
        """*system*: the texts of the prefix."""
        self.calls: set[str] = set()
        """The ids of all calls."""
        self._digest = hashlib.blake2b(digest_size=20)
        for text in system:
            self._add(text)

    def update(self, turn: Turn) -> None:
        """Add the next turn: its words and its calls.

        Not what may be gone when the turn comes again: thinking, and what a system message reminded of.
        """
        for part in turn.parts:
            if isinstance(part, Text):
                if not part.text.startswith("<system-reminder>"):
                    self._add(part.text)
            elif isinstance(part, ToolUse):
                self.calls.add(part.id)
                self._add(part.id)
            elif isinstance(part, ToolResult):
                self._add(part.id)

    def _add(self, text: str) -> None:
        self._digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))

    def key(self, text: str) -> str:
        """Return the key of the signature that came with a text of the next turn: a whole block, as the client is
        given it."""
        digest = self._digest.copy()
        digest.update(b"\0text\0" + text.encode("utf-8", "surrogatepass"))
        return "text-" + digest.hexdigest()

    def call_key(self, maker: str, tool_use_id: str) -> str:
        """Return the key of the reasoning of *maker*'s model that led to a call of the next turn.

        An id alone would not do: there are servers that begin anew to count with each answer, and servers that lead to
        models of many makers.
        """
        digest = self._digest.copy()
        digest.update(f"\0call\0{maker}\0{tool_use_id}".encode("utf-8", "surrogatepass"))
        return "call-" + digest.hexdigest()


class _Value(msgspec.Struct):
    """A signature as state."""

    signature: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SIGNATURE_BYTES)]
    used: float


class _Kept:
    __slots__ = ("shared_at", "signature", "used")

    def __init__(self, signature: str, used: float) -> None:
        self.signature = signature
        self.used = used
        """When it was kept or recalled last."""
        self.shared_at = used
        """When its use was last shared with other keepers."""


@implementer(IPersistent)
class Signatures:
    """Key → signature: bounded in number and bytes. Shared by all executors of the process; used by translators."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        count: int = MAX_SIGNATURES,
        size: int = MAX_TOTAL_BYTES,
        changed: Callable[[Mapping[str, object]], None] | None = None,
        is_secret: Callable[[str], bool] = lambda text: False,
    ) -> None:
        """*now* gives wall-clock seconds. *changed* is given keys and values; it neither blocks nor raises.

        *is_secret*: of what holds a key of ours, which an upstream may have put there, and which is not kept.
        """
        self._changed = changed
        self._is_secret = is_secret
        self.size = 0
        """Bytes of keys and signatures."""
        self._now = now
        self._most = count
        self._most_bytes = size
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """The longest unused first."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: str, signature: str) -> None:
        """Remember a signature. An empty one, or one that is too long, is not kept."""
        if 0 < len(signature) <= MAX_SIGNATURE_BYTES and not (self._is_secret(signature) or self._is_secret(key)):
            now = self._now()
            self._put(key, signature, now)
            self._tell({_name(key): _value(signature, now), **self._evict(now)})

    def lookup(self, key: str) -> str | None:
        """Return the signature, or None. Costs well under a microsecond: histories are long."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._now()
        if now - kept.used > SIGNATURE_LIFETIME:
            self._tell(self._evict(now))
            return None
        kept.used = now
        self._kept.move_to_end(key)
        if now - kept.shared_at > SIGNATURE_LIFETIME / 4:
            kept.shared_at = now
            self._tell({_name(key): _value(kept.signature, now)})
        return kept.signature

    # -- state

    def export_state(self) -> Iterator[Mapping[str, object]]:
        """See :class:`~claudeproxyd.interfaces.IPersistent`."""
        for batch in batches(list(self._kept.items())):
            current = [(key, kept) for key, kept in batch if self._kept.get(key) is kept]
            yield {_name(key): _value(kept.signature, kept.used) for key, kept in current}

    def import_state(self, saved: Mapping[str, object]) -> None:
        """Merge what :meth:`export_state` or *changed* gave. Malformed and expired entries are deleted."""
        self._tell(self._take_over(saved))

    def merge(self, changes: Mapping[str, object]) -> None:
        """Merge what another daemon's *changed* was given. Its deletions are its own affair."""
        self._take_over({name: value for name, value in changes.items() if value is not None})

    def _take_over(self, saved: Mapping[str, object]) -> dict[str, None]:
        """Merge *saved*; the more recently used of two entries wins. Return the deletions to persist."""
        now = self._now()
        useless: dict[str, None] = {}
        fresh: list[tuple[float, str, str]] = []
        for name, value in saved.items():
            try:
                _, key = _decode(name)
                given = msgspec.convert(value, _Value)
            except ValueError:
                useless[name] = None
                continue
            known = self._kept.get(key)
            if not now - given.used <= SIGNATURE_LIFETIME:
                useless[name] = None
            elif known is None or known.used < given.used:
                fresh.append((min(given.used, now), key, given.signature))
        for used, key, signature in sorted(fresh):
            self._put(key, signature, used)
        return {**useless, **self._evict(now)}

    def _put(self, key: str, signature: str, used: float) -> None:
        self._drop(key)
        self._kept[key] = _Kept(signature, used)
        self.size += len(key) + len(signature)

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= len(key) + len(kept.signature)

    def _evict(self, now: float) -> dict[str, None]:
        """Remove entries beyond the limits or the lifetime. Return them as deletions."""
        evicted: dict[str, None] = {}
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if (
                len(self._kept) <= self._most
                and self.size <= self._most_bytes
                and now - oldest.used <= SIGNATURE_LIFETIME
            ):
                break
            self._drop(key)
            evicted[_name(key)] = None
        return evicted

    def _tell(self, changes: Mapping[str, object]) -> None:
        if changes and self._changed is not None:
            self._changed(changes)


def _name(key: str) -> str:
    return _encode(("signature", key)).decode()


def _value(signature: str, used: float) -> dict[str, object]:
    return {"signature": signature, "used": used}
