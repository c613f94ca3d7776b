"""Clients' keys on the admin listener: mint, list, rotate, revoke."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from claudeproxyd.accounts.key_file import NameTaken, NoSuchKey, nobody_objects
from claudeproxyd.accounts.keys import RuntimeKeys, described
from claudeproxyd.errors import ClaudeError
from claudeproxyd.globs import oddity
from claudeproxyd.observe.scrub import redact_bytes, scrub
from claudeproxyd.principals import Principal
from claudeproxyd.web.answering import answer_in_turns
from claudeproxyd.web.asking import read_body
from claudeproxyd.web.audit import audit, audit_refusal
from claudeproxyd.web.minting import BeyondBounds, no_such_key
from claudeproxyd.web.roles import Operator, Role, needed_role
from claudeproxyd.web.root import Endpoint, NotFound, Walk

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from claudeproxyd.accounts.keys import Minted
    from claudeproxyd.web.minting import Minting
    from claudeproxyd.web.request import GatewayRequest

OVERLAP = 3600.0
"""Seconds that a rotated key's secret before holds, where nobody says."""
LONGEST = 3_155_760_000.0
"""Seconds that a key may be valid: a hundred years."""
ENTRIES_PER_TURN = 50
"""Keys that are written in one turn of the reactor."""

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]

_log = Logger()
_encode = msgspec.json.Encoder().encode


class _Mint(msgspec.Struct, forbid_unknown_fields=True):
    name: _Word
    labels: Annotated[dict[_Word, _Word], msgspec.Meta(max_length=20)] = {}
    models: Annotated[list[_Word], msgspec.Meta(max_length=100)] | None = None
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=LONGEST)] | None = None
    max_concurrency: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class _Rotate(msgspec.Struct, forbid_unknown_fields=True):
    overlap: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)] = OVERLAP


class _OfKeys(Endpoint):
    """The base of all that has to do with keys."""

    for_minters = True

    def __init__(self, keys: RuntimeKeys | None) -> None:
        super().__init__()
        self._keys = keys

    @property
    def keys(self) -> RuntimeKeys:
        """Raises ClaudeError: there is no database for them."""
        if self._keys is None:
            raise ClaudeError(404, 'There are no keys of run time: accounts.database is ""')
        return self._keys

    def answer(self, request: GatewayRequest, work: Coroutine[Deferred[object], object, bytes]) -> None:
        """Send what comes of *work*."""
        Deferred.fromCoroutine(_answer(request, work))


def bounds_of(request: GatewayRequest, seen_by: Role) -> Minting | None:
    """Return the bounds that whoever asks is held to; None for those whose role is enough without."""
    operator = request.principal
    assert isinstance(operator, Operator)
    return None if operator.role >= needed_role(request.method, seen_by) else operator.minting


async def _answer(request: GatewayRequest, work: Coroutine[Deferred[object], object, bytes]) -> None:
    try:
        body = await work
    except ClaudeError as error:
        refusal: ClaudeError | None = error
        if isinstance(error, BeyondBounds):
            audit_refusal(request, error)
    except Exception as error:  # sqlite3's, the system's, or that the database is another program's
        _log.warn("the keys' database does not answer: {why}", why=str(error))
        refusal = ClaudeError(503, "The keys' database does not answer; the log says why")
    else:
        refusal = None
    if request.channel is None:
        return
    if refusal is not None:
        request.refuse(refusal)
    else:
        request.answer(200, ((b"content-type", b"application/json"), (b"cache-control", b"no-store")), body)


class Keys(_OfKeys):
    """``/admin/v1/keys``: those of the configuration, and those that were minted."""

    allowedMethods = (b"GET", b"HEAD", b"POST")

    def getChild(self, path: bytes, walk: Walk) -> Endpoint:
        """Return the endpoint of the key of that name."""
        return OneKey(self._keys, path.decode("utf-8", "replace")) if path else NotFound()

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with all, or those that the bounds leave, and no secret of any."""
        bounds = bounds_of(request, self.seen_by)
        answer_in_turns(request, b"application/json", _pieces(self.keys, bounds))

    def render_POST(self, request: GatewayRequest) -> None:
        """Mint one. Answer with its secret, which is kept nowhere."""
        self.answer(request, self._mint(request, self.keys, read_body(request, _Mint)))

    async def _mint(self, request: GatewayRequest, keys: RuntimeKeys, wanted: _Mint) -> bytes:
        _check(wanted)
        models = ("*",) if wanted.models is None else tuple(wanted.models)
        holder, expires_in = Principal(wanted.name, wanted.labels, models, wanted.max_concurrency), wanted.expires_in
        bounds = bounds_of(request, self.seen_by)
        if bounds is not None:
            holder, expires_in = bounds.granted(holder, wanted.models, expires_in)
        if keys.is_open:
            raise ClaudeError(409, "server.open lets anybody call: take it out, and restart the daemon")
        if keys.is_configured(wanted.name):
            raise ClaudeError(409, f"name: {wanted.name} is in the configuration")
        try:
            minted = await keys.mint(holder, expires_in, nobody_objects if bounds is None else bounds.judge_name)
        except NameTaken:
            raise ClaudeError(409, f"name: there is a key {wanted.name}: rotate or revoke it") from None
        audit(request, "key.mint", wanted.name, after=described(minted.key))
        return _told(minted)


class OneKey(_OfKeys):
    """``/admin/v1/keys/NAME``."""

    allowedMethods = (b"DELETE",)

    def __init__(self, keys: RuntimeKeys | None, name: str) -> None:
        super().__init__(keys)
        self._name = name
        self.putChild(b"rotate", RotateKey(keys, name))

    def render_DELETE(self, request: GatewayRequest) -> None:
        """Revoke it: at once here, and within a second in daemons that share the database."""
        self.answer(request, self._revoke(request, self.keys))

    async def _revoke(self, request: GatewayRequest, keys: RuntimeKeys) -> bytes:
        before, bounds = keys.get(self._name), bounds_of(request, self.seen_by)
        try:
            await keys.revoke(self._name, nobody_objects if bounds is None else bounds.judge)
        except NoSuchKey:
            raise _missing(keys, self._name, bounds) from None
        audit(request, "key.revoke", self._name, before=None if before is None else described(before))
        return _encode({"name": self._name, "revoked": True})


class RotateKey(_OfKeys):
    """``/admin/v1/keys/NAME/rotate``."""

    allowedMethods = (b"POST",)

    def __init__(self, keys: RuntimeKeys | None, name: str) -> None:
        super().__init__(keys)
        self._name = name

    def render_POST(self, request: GatewayRequest) -> None:
        """Give it another secret, and answer with that."""
        self.answer(request, self._rotate(request, self.keys, read_body(request, _Rotate)))

    async def _rotate(self, request: GatewayRequest, keys: RuntimeKeys, wanted: _Rotate) -> bytes:
        before, bounds = keys.get(self._name), bounds_of(request, self.seen_by)
        try:
            minted = await keys.rotate(
                self._name, wanted.overlap, nobody_objects if bounds is None else bounds.judge_secret
            )
        except NoSuchKey:
            raise _missing(keys, self._name, bounds) from None
        audit(
            request,
            "key.rotate",
            self._name,
            before=None if before is None else {"secrets": before.shown_digests},
            after={"secrets": minted.key.shown_digests, "overlap": wanted.overlap},
        )
        return _told(minted)


def _pieces(keys: RuntimeKeys, bounds: Minting | None) -> Iterator[bytes]:
    some: list[dict[str, object]] = []
    comma = b'{"keys":['
    for entry in keys.entries(None if bounds is None else bounds.sees):
        some.append(entry)
        if len(some) == ENTRIES_PER_TURN:
            yield comma + redact_bytes(_encode(some)[1:-1])
            some, comma = [], b","
    yield (comma + redact_bytes(_encode(some)[1:-1]) if some or comma != b"," else b"") + b"]}"


def _check(wanted: _Mint) -> None:
    name = wanted.name
    if not name.isprintable() or "/" in name or name in (".", ".."):
        raise ClaudeError(400, "name: must be printable, and have no slash")
    for word in (name, *wanted.labels, *wanted.labels.values(), *(wanted.models or ())):
        if scrub(word) != word:
            raise ClaudeError(400, "Names, labels and models are shown: one of them looks like a secret")
    for glob in wanted.models or ():
        if why := oddity(glob):
            raise ClaudeError(400, f"models: {glob} {why}")


def _missing(keys: RuntimeKeys, name: str, bounds: Minting | None) -> ClaudeError:
    if bounds is None and keys.is_configured(name):
        return ClaudeError(409, f"{name} is in the configuration: change it there, and reload")
    return no_such_key()


def _told(minted: Minted) -> bytes:
    return _encode({"name": minted.key.principal.name, "key": minted.secret})
