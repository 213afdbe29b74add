"""Offtake: `offtake up`, with the agent of this machine."""

import json
import os
import subprocess
import time
from pathlib import Path

import machine
from http_client import Connection, Refused


class Offtake:
    """A control plane and an agent that have just started, with nothing in their queue."""

    name = "offtake"

    def __init__(self, folder, cores, script, binary):
        self.folder, self.cores, self.script = Path(folder), cores, script
        self.binary = str(binary)
        self.socket = self.folder / "server.sock"
        self.process = None
        self.environment = {
            **os.environ,
            "OFFTAKE_SERVER": f"unix:{self.socket}",
            # Keeps what `up` notes for other commands out of the user's own folders.
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def __enter__(self):
        words = [
            self.binary, "up", "--data", str(self.folder / "data"), "--socket", str(self.socket),
            "--listen", f"127.0.0.1:{machine.free_port()}", "--cpus", str(self.cores),
        ]
        self.process = machine.start(words, self.folder / "offtake.out", self.environment)
        try:
            self.node = machine.wait_for("an idle node of Offtake", self._idle_node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        machine.stop(self.process)

    def _idle_node(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"offtake up has ended: {(self.folder / 'offtake.out').read_text()}")
        try:
            connection = self.connect()
            nodes = connection.get("/v1/nodes")
            connection.close()
        except (OSError, Refused):
            return None
        return next((node["name"] for node in nodes if node["state"] == "idle"), None)

    def connect(self):
        """A connection to the server, which knows by the socket who asks."""
        return Connection(self.socket)

    def by_command(self, count, at_once):
        """Submits jobs on hold with `offtake submit`; seconds."""
        words = [self.binary, "submit", "--hold", "-n", "1", "-o", "/dev/null", str(self.script)]
        return machine.many(words, count, at_once, self.environment)

    def _job(self, **more):
        # What Slurm's side sends, field for field.
        return {
            "script": Path(self.script).read_text(), "name": "true", "directory": "/", "output": "/dev/null",
            "environment": {"PATH": "/usr/bin:/bin"}, **more,
        }

    def by_rest(self, count):
        """Submits jobs on hold over one connection, one after the other; seconds."""
        connection = self.connect()
        request = connection.request("POST", "/v1/jobs", self._job(hold=True))
        begin = time.monotonic()
        for _ in range(count):
            connection.send(request)
        seconds = time.monotonic() - begin
        connection.close()
        return seconds

    def as_batch(self, count):
        """Submits distinct jobs on hold in one call; seconds."""
        connection = self.connect()
        jobs = [self._job(hold=True, name=f"true-{number}") for number in range(count)]
        request = connection.request("POST", "/v1/jobs/batch", {"jobs": jobs})
        begin = time.monotonic()
        answer = connection.send(request)
        seconds = time.monotonic() - begin
        connection.close()
        assert len(json.loads(answer)["jobs"]) == count
        return seconds

    def as_array(self, count):
        """Submits one array of held jobs; seconds."""
        words = [
            self.binary, "submit", "--hold", "-n", "1", f"--array=0-{count - 1}", "-o", "/dev/null", str(self.script)
        ]
        begin = time.monotonic()
        subprocess.run(words, check=True, env=self.environment, stdout=subprocess.DEVNULL)
        return time.monotonic() - begin

    def end_to_end(self, count):
        """Runs jobs that all wait when it begins, until the last is over; seconds."""
        connection = self.connect()
        connection.post(f"/v1/nodes/{self.node}/drain", {"reason": "jobs are to wait together"})
        jobs = [self._job(name=f"true-{number}") for number in range(count)]
        connection.post("/v1/jobs/batch", {"jobs": jobs})
        begin = time.monotonic()
        connection.post(f"/v1/nodes/{self.node}/resume", {})
        # The youngest job that is not over: a question that costs the server next to nothing.
        machine.wait_for(
            "the end of Offtake's jobs", lambda: not connection.get("/v1/jobs?limit=1")["jobs"], patience_s=600
        )
        seconds = time.monotonic() - begin
        finished = len(connection.get("/v1/jobs?state=finished&limit=10000")["jobs"])
        connection.close()
        if finished != count:
            raise RuntimeError(f"{finished} of {count} jobs finished; see {self.folder}")
        return seconds
