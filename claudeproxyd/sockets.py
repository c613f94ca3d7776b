"""Writing to a plain TCP socket at once, where nothing waits before it.

Twisted's ``write`` puts bytes aside, asks epoll for a writable socket, and sends in the next turn of the reactor: three
quarters of what an event of a stream costs. What does not fit into the socket goes Twisted's way, so that producers are
paused as ever.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper


def is_plain_tcp(transport: Any) -> bool:
    """Whether *transport* is a TCP socket of this process, without TLS: asked once a connection."""
    return isinstance(transport, Connection) and not transport.TLS


def write_at_once(transport: Any, data: bytes) -> None:
    """Send what the socket takes and leave the rest to Twisted. *transport* is plain TCP.

    ``_tempDataBuffer`` is private, and the one way to know that nothing waits: tests/test_sockets.py pins it.
    """
    if not transport.dataBuffer and not transport._tempDataBuffer and len(data) <= transport.SEND_LIMIT:
        sent = transport.writeSomeData(data)
        if sent == len(data):
            return
        if isinstance(sent, int):
            data = data[sent:]
    transport.write(data)


def unsent(transport: Any) -> int:
    """Bytes that wait in Twisted for the socket below *transport*, TLS or not; 0 where there is no such socket.

    ``_tempDataLen`` is private; tests/test_sockets.py pins it.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if not isinstance(transport, Connection):
        return 0
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
