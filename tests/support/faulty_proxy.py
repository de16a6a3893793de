"""A proxy between a logger and a server that fails on demand."""

import contextlib
import http.client
import select
import socket
import threading
import time

REFUSED = "refused"
BLACK_HOLE = "black hole"
SLOW = "slow"
ANSWER_LOST = "answer lost"
HEALTHY = "healthy"
DELAY = 0.2


class FaultyProxy:
    """Forwards connections on 127.0.0.1 to a server, or fails.

    The fault is ``"healthy"``, ``"refused"``, ``"black hole"`` (connections are accepted, nothing is answered), ``"slow"`` (each
    answer is late by 0.2 s), ``"answer lost"`` (the server processes a request, but the connection is closed before the answer) or
    a status code that answers each request.
    """

    def __init__(self, port):
        self._server = ("127.0.0.1", port)
        self._listener = self._bound(0)
        self.port = self._listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._fault = HEALTHY
        self._open = set()
        self._has_ended = False
        # What the answers with a status code repeat.
        self.requests = []
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def fault(self):
        """The present fault; setting it closes all connections."""
        return self._fault

    @fault.setter
    def fault(self, fault):
        was_refused, self._fault = self._fault == REFUSED, fault
        if fault == REFUSED:
            # A socket that does not listen refuses connections and reserves the port.
            self._listener.close()
            self._listener = self._bound(self.port)
        elif was_refused:
            self._listener.listen(64)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Close all connections."""
        self._has_ended = True
        self.fault = HEALTHY
        self._thread.join(5)
        self._listener.close()

    @staticmethod
    def _bound(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end = time.monotonic() + 5
        while True:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                # Another thread may still wait for the closed socket.
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return listener

    def _accept(self):
        while not self._has_ended:
            if self._fault == REFUSED:
                time.sleep(0.01)
                continue
            with contextlib.suppress(OSError, ValueError):
                if select.select([self._listener], [], [], 0.05)[0]:
                    connection = self._listener.accept()[0]
                    threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client):
        self._open.add(client)
        try:
            with client, contextlib.suppress(OSError):
                if self._fault == BLACK_HOLE:
                    while client.recv(1 << 16):
                        pass
                elif isinstance(self._fault, int):
                    self._answer(client, self._fault)
                else:
                    with socket.create_connection(self._server) as server:
                        self._open.add(server)
                        self._forward(client, server)
        finally:
            self._open.discard(client)

    def _forward(self, client, server):
        try:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is server and self._fault == ANSWER_LOST:
                        return
                    if source is server and self._fault == SLOW:
                        time.sleep(DELAY)
                    (server if source is client else client).sendall(data)
        finally:
            self._open.discard(server)

    def _answer(self, client, status):
        file = client.makefile("rb")
        request = file.readline()
        headers = http.client.parse_headers(file)
        file.read(int(headers.get("Content-Length", 0)))
        # A careless server repeats the headers of the request.
        body = f"refused: {request!r} {dict(headers)}".encode()
        self.requests.append(body)
        client.sendall(
            f"HTTP/1.1 {status} Fault\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
