"""Responses, good and bad, and what is to be made of them."""

from __future__ import annotations

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"

#: Answers that are whole as they are, with status, body, and whether their connection may be used again.
WHOLE: dict[str, tuple[bytes, int, bytes, bool]] = {
    "by length": (HELLO, 200, b"hello", True),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "no reason phrase": (b"HTTP/1.1 429\r\nContent-Length: 1\r\n\r\nx", 429, b"x", True),
    "chunked": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 200, b"hello world", True),
    "chunked, nothing in it": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;last\r\n\r\n', 200, b"hello", True),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\n", 200, b"hello", True),
    "Chunked in capitals": (OK + b"Transfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, b"x", True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, 200, b"hello", True),
    "103 with headers, twice": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 2 + HELLO, 200, b"hello", True),
    "1xx that claims a length": (b"HTTP/1.1 103 E\r\nContent-Length: 9\r\n\r\n" + HELLO, 200, b"hello", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "Connection: Close": (OK + b"Connection: Close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "close among others": (OK + b"Connection: x, CLOSE\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "bytes above ASCII in a header": (OK + b"X: \xff\xe9\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
}

#: Heads that are refused.
BAD_HEADS: dict[str, bytes] = {
    "garbage": b"hello there\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "both lengths": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both lengths, the other way": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "different lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\n",
    "an empty length": OK + b"Content-Length: \r\n\r\n",
    "a length beyond numbers": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "gzip and then chunked": OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "obs-fold": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a folded length": OK + b"Content-Length:\r\n 5\r\n\r\n",
    "a fold ahead of all": OK + b" X: b\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a bare LF between headers": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "a bare LF at the end": OK + b"Content-Length: 0\r\n\n",
    "a bare CR": OK + b"A: b\rc\r\n\r\n",
    "NUL in a value": OK + b"A: b\0c\r\n\r\n",
    "NUL in a name": OK + b"A\0: b\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"nonsense\r\n\r\n",
    "no name": OK + b": x\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "101 without a word": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "status 99": b"HTTP/1.1 099 Hm\r\nContent-Length: 0\r\n\r\n",
    "status 20": b"HTTP/1.1 20 OK\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "too many headers": OK + b"A: b\r\n" * 257 + b"\r\n",
    "a head too large": OK + (b"A: " + b"b" * 998 + b"\r\n") * 70 + b"\r\n",
}

#: Bodies that are damaged after ``hello``.
BAD_BODIES: dict[str, bytes] = {
    "a size that is none": CHUNKED + b"5\r\nhello\r\nzz\r\n",
    "a negative size": CHUNKED + b"5\r\nhello\r\n-1\r\n",
    "0x": CHUNKED + b"5\r\nhello\r\n0x1\r\n",
    "no size": CHUNKED + b"5\r\nhello\r\n\r\n",
    "a size beyond numbers": CHUNKED + b"5\r\nhello\r\nfffffffffffffffff\r\n",
    "a chunk longer than its size": CHUNKED + b"5\r\nhellooo\r\n0\r\n\r\n",
    "bare LF after a size": CHUNKED + b"5\r\nhello\r\n0\n\r\n",
    "a blank after a size": CHUNKED + b"5\r\nhello\r\n1 \r\n",
    "a length among the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
}

#: Bodies that are ``hello`` once the connection is closed.
UNTIL_CLOSE: dict[str, bytes] = {
    "no length": OK + b"\r\nhello",
    "no length in 1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "no length, close announced": OK + b"Connection: close\r\n\r\nhello",
    "no length, keep-alive claimed": OK + b"Connection: keep-alive\r\n\r\nhello",
}
