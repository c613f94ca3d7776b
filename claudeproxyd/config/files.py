"""Which files make up a configuration: the search for the first, its includes, and their trees."""

from __future__ import annotations

import glob
import os
import re
import tomllib
from collections.abc import Mapping

from claudeproxyd.config.config_paths import ConfigPath, SourceFile, Steps, lines_of
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.homes import expanded
from claudeproxyd.config.regular_files import LARGEST_CONFIGURATION, NotRegular, read_regular

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def found_file(path: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the file to start from: the one asked for, else the first of the usual ones that exists, else None."""
    if asked := path or environ.get("CLAUDEPROXYD_CONFIG"):
        return asked
    usual = ["claudeproxyd.toml"]
    if home := environ.get("HOME"):
        usual.append(os.path.join(home, ".config", "claudeproxyd", "claudeproxyd.toml"))
    return next((name for name in usual if os.path.exists(name)), None)


def sources_from(name: str, diagnostics: Diagnostics) -> list[SourceFile]:
    """Return that file and all that it includes, each once; a file comes before its includes, in their globs' order."""
    sources: dict[str, SourceFile] = {}
    _gather(os.path.expanduser(name), (), sources, diagnostics)
    return list(sources.values())


def _gather(name: str, above: tuple[str, ...], sources: dict[str, SourceFile], diagnostics: Diagnostics) -> None:
    """Read one file and its includes into *sources*; *above* are the real paths of those that include it."""
    source = _read(name, diagnostics)
    if source is None:
        return
    real = os.path.realpath(name)
    sources[real] = source
    for included, at in _includes(source, diagnostics):
        if os.path.realpath(included) in (*above, real):
            diagnostics.error(at, f"includes {included}, which leads back here", "let no file include itself")
        elif os.path.realpath(included) not in sources:
            _gather(included, (*above, real), sources, diagnostics)


def _includes(source: SourceFile, diagnostics: Diagnostics) -> list[tuple[str, ConfigPath]]:
    """Return the files that a source's globs match, with the glob's path. The reader reports wrong types."""
    patterns = source.tree.get("include")
    found = []
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        if not isinstance(pattern, str):
            continue
        at = ConfigPath(source) / "include" / index
        try:
            whole = os.path.join(source.directory, expanded(pattern))
            names = sorted(glob.glob(whole, recursive=True))
            closed = _closed_folder(whole)
        except (ValueError, re.error) as error:
            diagnostics.error(at, f"is no file name: {error}")
            continue
        if closed:
            diagnostics.error(at, f"looks into {closed}", "let the daemon's user read that folder")
        elif not names and not glob.has_magic(pattern):
            diagnostics.error(at, "names a file that is not there", f"it is looked for in {source.directory}")
        elif not names:
            diagnostics.warn(at, f"matches no file in {source.directory}", "nothing is included by it")
        found += [(name, at) for name in names]
    return found


def _closed_folder(pattern: str) -> str:
    """Return a folder on the way of a glob that may not be read, with the reason, or ''.

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


def _read(name: str, diagnostics: Diagnostics) -> SourceFile | None:
    """Return one file; None after an error."""
    try:
        contents = read_regular(name, LARGEST_CONFIGURATION)
        text = contents.data.decode()
    except OSError as error:
        diagnostics.file(name, f"cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        diagnostics.file(name, "is not UTF-8 text")
        return None
    except NotRegular as error:
        diagnostics.file(name, str(error))
        return None
    except ValueError:
        diagnostics.file(repr(name), "is no file name")
        return None
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        line, column = _position(str(error), text)
        diagnostics.file(name, f"is no TOML: {_POSITION.sub('', str(error))}", line=line, column=column)
        return None
    except RecursionError:
        diagnostics.file(name, "is nested too deeply")
        return None
    return SourceFile(name, tree, os.path.dirname(os.path.abspath(name)), _lines(text), contents.seen_by_all)


def _position(message: str, text: str) -> tuple[int, int]:
    """Return line and column of a syntax error, from the parser's message."""
    found = _POSITION.search(message)
    if found is None:
        return 0, 0
    if found[1] is None:
        return text.count("\n") + 1, len(text) - text.rfind("\n")
    return int(found[1]), int(found[2])


def _lines(text: str) -> dict[Steps, int]:
    try:
        return lines_of(text)
    except RecursionError:
        return {}
