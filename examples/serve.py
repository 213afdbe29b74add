#!/usr/bin/env python3
"""A replica of a service: a web server that says who it is, with Python's standard library alone.

It listens on any free port and prints where. SIGTERM ends it with status 0.
"""

import http.server
import os
import signal
import socket
import sys

WHO = f"replica {os.environ.get('OFFTAKE_JOB_ID', '-')}, attempt {os.environ.get('OFFTAKE_ATTEMPT', '-')}"


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers whatever is asked for with who answers."""

    def do_GET(self):
        body = f"hello from {WHO} on {socket.gethostname()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing of each request."""


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"{WHO} listens on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
