"""Real servers that tests start."""

from __future__ import annotations

from subprocess import Popen


def wait_until_it_says(process: Popen[bytes], words: bytes) -> None:
    """Read the log that *process* writes to its standard output, up to a line with *words*; the rest is not kept.

    Raises AssertionError, with what it said, where it ends before.
    """
    assert process.stdout is not None
    said = []
    with process.stdout as lines:
        for line in lines:
            said.append(line)
            if words in line:
                return
    raise AssertionError(b"".join(said).decode())
