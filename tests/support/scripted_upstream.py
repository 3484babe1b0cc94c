"""An upstream made of plain sockets and threads: it does exactly what its script says, on any event loop's side."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT = 10.0
"""Seconds that a script waits for its peer before it gives up: never reached by a test that passes."""


class Peer:
    """One accepted connection, *number* 1 being the first."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.buffer = b""

    def request(self) -> bytes | None:
        """The next whole request, head and body; None once the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return None
        end = self.buffer.index(b"\r\n\r\n") + 4
        end += content_length(self.buffer[:end])
        while len(self.buffer) < end:
            if not self._more():
                return None
        request, self.buffer = self.buffer[:end], self.buffer[end:]
        return request

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.sock.sendall(piece)

    def gone(self) -> bool:
        """Wait until the client has closed."""
        while self._more():
            pass
        return True

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            return False
        self.buffer += data
        return bool(data)


def content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


Script = Callable[[Peer], object]


class Upstream:
    """Serves every connection by *script*, in a thread each; what a script raises is kept in *errors*."""

    def __init__(
        self,
        script: Script,
        *,
        context: ssl.SSLContext | None = None,
        path: Path | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.script = script
        self.context = context
        self.errors: list[BaseException] = []
        self.connections = 0
        self.threads: list[threading.Thread] = []
        self.open: set[socket.socket] = set()
        if path is None:
            self.listener = socket.create_server(address, backlog=256)
            self.port: int = self.listener.getsockname()[1]
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen(256)
            self.port = 80
        self._start(self._accept)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in list(self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(sock)
            self._start(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, number: int) -> None:
        served = sock
        try:
            sock.settimeout(TIMEOUT)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                self.open.discard(sock)
                served = self.context.wrap_socket(sock, server_side=True)
                self.open.add(served)
            self.script(Peer(served, number))
        except OSError:
            pass  # the client went away, as it may
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.open.discard(served)
            served.close()


def reply(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole reply with content-length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A whole chunked reply."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + end


def answer(peer: Peer) -> None:
    """Answer every request with the number of its connection."""
    while peer.request() is not None:
        peer.send(reply(b"connection %d" % peer.number))
