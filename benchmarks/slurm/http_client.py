"""HTTP over one connection that is kept alive, on a Unix socket.

`http.client` takes longer to read an answer than a fast server takes to give one, so this one does no more than has to
be done: it sends bytes, and reads until the length that the answer tells, or its last chunk, has come.
"""

import json
import socket


class Refused(Exception):
    """The server answered with something else than success."""


class Connection:
    """A connection to a server on this machine, with the headers that every request carries."""

    def __init__(self, path, headers=()):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.headers = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.rest = b""

    def close(self):
        """Ends the connection."""
        self.socket.close()

    def request(self, method, path, body=None):
        """The whole of a request, as it is sent."""
        body = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n{self.headers}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body

    def send(self, request):
        """Sends a request and gives the answer's body."""
        self.socket.sendall(request)
        head = self._until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(_field(line) for line in head.split(b"\r\n")[1:] if line)
        if fields.get(b"transfer-encoding") == b"chunked":
            body = b"".join(self._chunks())
        else:
            body = self._bytes(int(fields.get(b"content-length", b"0")))
        if not 200 <= status < 300:
            raise Refused(f"status {status}: {body.decode(errors='replace')[:2000]}")
        return body

    def get(self, path):
        """What a path holds, read from JSON."""
        return json.loads(self.send(self.request("GET", path)))

    def post(self, path, body):
        """Posts JSON, and reads the answer from JSON."""
        return json.loads(self.send(self.request("POST", path, body)) or b"null")

    def _more(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise Refused("the server ended the connection")
        self.rest += received

    def _until(self, mark):
        while mark not in self.rest:
            self._more()
        found, self.rest = self.rest.split(mark, 1)
        return found

    def _bytes(self, count):
        while len(self.rest) < count:
            self._more()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def _chunks(self):
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            yield self._bytes(size)
            self._until(b"\r\n")
        self._until(b"\r\n")


def _field(line):
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip().lower()
