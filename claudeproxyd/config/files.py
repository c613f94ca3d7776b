"""Which files make up a configuration: the search for the first, its includes, and their trees."""

from __future__ import annotations

import glob
import os
import re
import tomllib
from collections.abc import Mapping

from claudeproxyd.config.homes import expanded
from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.ordinary import LARGEST_CONFIGURATION, NotOrdinary, read_ordinary
from claudeproxyd.config.places import Path, Place, Source, lines_of

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def found_file(path: str | None, environ: Mapping[str, str]) -> str | None:
    """The file to start from: as asked for, else the first that is there of the usual ones, else None."""
    if asked := path or environ.get("CLAUDEPROXYD_CONFIG"):
        return asked
    usual = ["claudeproxyd.toml"]
    if home := environ.get("HOME"):
        usual.append(os.path.join(home, ".config", "claudeproxyd", "claudeproxyd.toml"))
    return next((name for name in usual if os.path.exists(name)), None)


def sources_from(name: str, findings: Findings) -> list[Source]:
    """That file and all that it includes, each once; a file comes before its includes, they in their globs' order."""
    sources: dict[str, Source] = {}
    _gather(os.path.expanduser(name), (), sources, findings)
    return list(sources.values())


def _gather(name: str, above: tuple[str, ...], sources: dict[str, Source], findings: Findings) -> None:
    """Read one file and its includes into *sources*; *above* are the real paths of those that include it."""
    source = _read(name, findings)
    if source is None:
        return
    real = os.path.realpath(name)
    sources[real] = source
    for included, place in _includes(source, findings):
        if os.path.realpath(included) in (*above, real):
            findings.mistake(place, f"includes {included}, which leads back here", "let no file include itself")
        elif os.path.realpath(included) not in sources:
            _gather(included, (*above, real), sources, findings)


def _includes(source: Source, findings: Findings) -> list[tuple[str, Place]]:
    """The files that a source's globs match, with the glob's place. A wrong type is the reader's to report."""
    patterns = source.tree.get("include")
    found = []
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        if not isinstance(pattern, str):
            continue
        place = Place(source) / "include" / index
        try:
            whole = os.path.join(source.directory, expanded(pattern))
            names = sorted(glob.glob(whole, recursive=True))
            closed = _closed_folder(whole)
        except (ValueError, re.error) as error:
            findings.mistake(place, f"is no file name: {error}")
            continue
        if closed:
            findings.mistake(place, f"looks into {closed}", "let the daemon's user read that folder")
        elif not names and not glob.has_magic(pattern):
            findings.mistake(place, "names a file that is not there", f"it is looked for in {source.directory}")
        elif not names:
            findings.warn(place, f"matches no file in {source.directory}", "nothing is included by it")
        found += [(name, place) for name in names]
    return found


def _closed_folder(pattern: str) -> str:
    """A folder on the way of a glob that may not be looked into, with the reason, or ''.

    The standard library takes such a folder for an empty one: what was not read would be taken for what is not there.
    """
    # Two slashes at the front, which are a root of their own, split into themselves.
    above, name = os.path.split(pattern.rstrip(os.sep))
    if not above or not name:
        return ""
    if closed := _closed_folder(above):
        return closed
    listed = glob.has_magic(name)
    for folder in glob.glob(above, recursive=True):
        try:
            if listed:
                with os.scandir(folder):
                    pass
            os.stat(os.path.join(folder, os.curdir))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"{folder}, which cannot be read: {error.strerror}"
    return ""


def _read(name: str, findings: Findings) -> Source | None:
    """One file, or None with its mistake."""
    try:
        contents = read_ordinary(name, LARGEST_CONFIGURATION)
        text = contents.data.decode()
    except OSError as error:
        findings.file(name, f"cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        findings.file(name, "is not UTF-8 text")
        return None
    except NotOrdinary as error:
        findings.file(name, str(error))
        return None
    except ValueError:
        findings.file(repr(name), "is no file name")
        return None
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        line, column = _position(str(error), text)
        findings.file(name, f"is no TOML: {_POSITION.sub('', str(error))}", line=line, column=column)
        return None
    except RecursionError:
        findings.file(name, "is nested too deeply")
        return None
    return Source(name, tree, os.path.dirname(os.path.abspath(name)), _lines(text), contents.seen_by_all)


def _position(message: str, text: str) -> tuple[int, int]:
    """Line and column of a syntax error, from the parser's words; the end where it says so."""
    found = _POSITION.search(message)
    if found is None:
        return 0, 0
    if found[1] is None:
        return text.count("\n") + 1, len(text) - text.rfind("\n")
    return int(found[1]), int(found[2])


def _lines(text: str) -> dict[Path, int]:
    try:
        return lines_of(text)
    except RecursionError:
        return {}
