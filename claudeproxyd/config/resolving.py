"""Resolves what a configuration has for a secret: a plain string, ``{ env = … }``, ``{ file = … }``, a digest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from claudeproxyd.config.homes import expanded
from claudeproxyd.config.regular_files import LARGEST_SECRET, NotRegular, read_regular
from claudeproxyd.config.secret import Secret

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_OF_NOTHING = hashlib.sha256(b"").hexdigest()
#: The variable with the folder where systemd puts what a unit has by LoadCredential=.
_CREDENTIALS = "CREDENTIALS_DIRECTORY"

#: A warning and its hint.
Warned = tuple[str, str] | None


class BadSecret(Exception):
    """The secret cannot be resolved. The message never quotes the configuration: that may be the secret itself."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


def resolve(
    raw: str | Mapping[str, object], environ: Mapping[str, str], directory: str, digest: bool
) -> tuple[Secret, Warned]:
    """Return the secret that *raw* stands for, and a warning. Raises :class:`BadSecret`.

    *digest*: ``sha256:<hex>`` is enough.
    """
    if isinstance(raw, str):
        return _finished(raw, digest), None
    if raw.keys() == {"env"} and isinstance(raw["env"], str):
        return _from_variable(raw["env"], environ, digest), None
    if raw.keys() == {"file"} and isinstance(raw["file"], str):
        return _from_file(raw["file"], environ, directory, digest)
    raise BadSecret('must be a string, { env = "NAME" } or { file = "PATH" }')


def _from_variable(name: str, environ: Mapping[str, str], digest: bool) -> Secret:
    value = environ.get(name, "")
    if not value:
        # A key that was written where a variable's name belongs must not be shown.
        shown = f"${name}" if _VARIABLE.fullmatch(name) else "the environment variable named here"
        raise BadSecret(f"{shown} is not set, or is empty", "env takes the name of a variable, not the secret")
    return _finished(value, digest, variable=name)


def _from_file(name: str, environ: Mapping[str, str], directory: str, digest: bool) -> tuple[Secret, Warned]:
    try:
        path = os.path.join(directory, expanded(_of_the_unit(name, environ)))
    except ValueError as error:
        raise BadSecret(f"its file {error}", "write its path in full") from None
    hint = f"a relative file is looked for in {directory}" if directory else ""
    try:
        contents = read_regular(path, LARGEST_SECRET)
    except OSError as error:
        raise BadSecret(f"its file cannot be read: {error.strerror}", hint) from error
    except NotRegular as error:
        raise BadSecret(f"its file {error}") from error
    except ValueError as error:
        raise BadSecret("its file has an impossible name") from error
    try:
        value = contents.data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadSecret("its file is not UTF-8 text") from error
    warned = ("its file can be read by everyone on this machine", "chmod o-r") if contents.seen_by_all else None
    return _finished(value, digest, path=os.path.abspath(path)), warned


def _of_the_unit(name: str, environ: Mapping[str, str]) -> str:
    """Replace ``$CREDENTIALS_DIRECTORY`` at the start of *name*, and no other variable: a name may hold a $."""
    for written in (f"${_CREDENTIALS}/", f"${{{_CREDENTIALS}}}/"):
        if name.startswith(written):
            if not environ.get(_CREDENTIALS):
                hint = "systemd sets it for a unit with LoadCredential=: check within one, by systemd-run"
                raise BadSecret(f"${_CREDENTIALS} is not set", hint)
            return os.path.join(environ[_CREDENTIALS], name.removeprefix(written))
    return name


def _finished(value: str, digest: bool, *, path: str = "", variable: str = "") -> Secret:
    if not value:
        raise BadSecret("is empty")
    if value.startswith("sha256:"):
        if not digest:
            raise BadSecret(
                "is a digest, which stands for a key only in [[clients]] and [[operators]]", "give the secret itself"
            )
        found = _DIGEST.fullmatch(value)
        if found is None:
            raise BadSecret("must have 64 hexadecimal digits after sha256:")
        if found[1].lower() == _OF_NOTHING:
            raise BadSecret("is the digest of nothing at all", "the variable that it was made of was not set")
        return Secret(None, found[1].lower(), path=path, variable=variable)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadSecret("is not UTF-8 text") from error
    return Secret(value, path=path, variable=variable)
