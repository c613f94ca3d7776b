"""systemd's end of the notify socket."""

from __future__ import annotations

import os
import socket
import tempfile


class NotifySocket:
    """Hears what the service manager is told."""

    def __init__(self, path: str | None = None) -> None:
        """*path* to listen at; None: a new one."""
        self.path = os.path.join(tempfile.mkdtemp(), "notify") if path is None else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)

    def told(self) -> list[list[str]]:
        """Return the lines of each datagram that came since the last time."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(9999).decode().split("\n"))
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
