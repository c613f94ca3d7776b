"""Profiles of AWS's own tools: ``~/.aws/config`` and ``~/.aws/credentials``, or the files that variables name.

Reads files, and blocks for it: called while a configuration is read, and when a credential is refreshed.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping

from claudeproxyd.config.regular_files import LARGEST_CONFIGURATION, NotRegular, read_regular

_FILES = (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials"))


class BadProfile(Exception):
    """A profile cannot be used; ``str()`` says why, and quotes no secret."""


def read_profile(name: str, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return a profile's settings; those of ``credentials`` go before those of ``config``. Raises BadProfile.

    *name*: '' for the one that the environment names, else ``default``, which need not be there.
    """
    wanted = name or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or ""
    found: dict[str, str] = {}
    exists = False
    for variable, file in _FILES:
        sections = _sections(_path(variable, file, environ))
        names = (f"profile {wanted}", wanted) if file == "config" and wanted else (wanted or "default",)
        for section in names:
            if section in sections:
                exists = True
                found |= sections[section]
                break
    if wanted and wanted != "default" and not exists:
        raise BadProfile(f"no profile {wanted} in {' or '.join(_path(*file, environ) for file in _FILES)}")
    return found


def region_of(environ: Mapping[str, str], profile: str = "") -> str:
    """Return the region that the environment or the profile names, in that order; '' if neither does."""
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    try:
        of_profile = read_profile(profile, environ).get("region", "") if profile or not named else ""
    except BadProfile:
        of_profile = ""
    return (of_profile if profile else "") or named or of_profile


def _path(variable: str, file: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    path = environ.get(variable) or os.path.join("~", ".aws", file)
    return os.path.join(home, path[2:]) if path.startswith("~/") else path


def _sections(path: str) -> Mapping[str, Mapping[str, str]]:
    """Return a file's sections; none if it is not there. Raises BadProfile."""
    try:
        text = read_regular(path, LARGEST_CONFIGURATION).data.decode()
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise BadProfile(f"{path} cannot be read: {e.strerror}") from None
    except NotRegular as e:
        raise BadProfile(f"{path}: {e}") from None
    except UnicodeDecodeError:
        raise BadProfile(f"{path} is no text") from None
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:  # its words would quote the file
        raise BadProfile(f"{path} has a line that is no section and no setting") from None
    return {" ".join(name.split()): dict(parser.items(name)) for name in parser.sections()}
