"""Slurm of the distribution: one controller, one node and slurmrestd, all on this machine."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import machine
from http_client import Connection, Refused

PACKAGES = ["slurm-wlm", "slurmrestd", "munge"]
PROGRAMS = ["munged", "slurmctld", "slurmd", "slurmrestd", "sbatch"]
REST = "/slurm/v0.0.38"
HERE = Path(__file__).resolve().parent

# What the controller writes when a job's program has ended.
ENDED = re.compile(rb"_job_complete: JobId=\d+ done")


def install():
    """Installs what is missing. The daemons that the packages would start are not started: there is no need of them."""
    search = os.environ["PATH"] + ":/usr/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=search) is None]
    if not missing:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    words = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)


class Slurm:
    """A controller, a node and a REST server that have just started, with nothing in their queue."""

    name = "slurm"

    def __init__(self, folder, cores, script):
        self.folder, self.cores, self.script = Path(folder), cores, script
        self.daemons = []
        self.environment = {
            **os.environ,
            "PATH": os.environ["PATH"] + ":/usr/sbin",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            # The daemon's own check that it is not root: whoever submits is root here on both sides.
            "SLURMRESTD_SECURITY": "disable_user_check",
        }
        self._write_files()

    def _write_files(self):
        owner = pwd.getpwnam("slurm")
        for name in ["state", "spool"]:
            (self.folder / name).mkdir()
        os.chown(self.folder / "state", owner.pw_uid, owner.pw_gid)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        text = (HERE / "slurm.conf").read_text()
        values = {
            "host": socket.gethostname().split(".")[0],
            "folder": self.folder,
            "cores": self.cores,
            "controller_port": machine.free_port(),
            "node_port": machine.free_port(),
        }
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(value))
        (self.folder / "slurm.conf").write_text(text)

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        socket_file = self.folder / "munge.socket"
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={socket_file}", f"--key-file={self.folder}/munge.key",
            f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed",
        )
        machine.wait_for("munged", socket_file.exists)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        machine.wait_for("an idle node of Slurm", lambda: self._tells("sinfo", "-h", "-o", "%t") == "idle")
        self._daemon("slurmrestd", "-a", "rest_auth/local", "-s", "openapi/v0.0.38", f"unix:{self.folder}/rest.socket")
        machine.wait_for("slurmrestd", self._rest_answers)

    def __exit__(self, *_):
        while self.daemons:
            machine.stop(self.daemons.pop())

    def _daemon(self, *words):
        self.daemons.append(machine.start(words, self.folder / f"{words[0]}.out", self.environment))

    def _tells(self, *words):
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def _orders(self, *words):
        subprocess.run(words, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def _rest_answers(self):
        try:
            connection = self.connect()
            connection.get(f"{REST}/ping")
            connection.close()
            return True
        except (OSError, Refused):
            return False

    def connect(self):
        """A connection to slurmrestd, which knows by the socket who asks."""
        return Connection(self.folder / "rest.socket", [("Accept", "application/json")])

    def by_command(self, count, at_once):
        """Submits jobs on hold with sbatch; seconds."""
        words = ["sbatch", "--hold", "--quiet", "-n", "1", "-o", "/dev/null", self.script]
        return machine.many(words, count, at_once, self.environment)

    def _job(self, **more):
        # slurmrestd wants the environment and the folder that sbatch takes from the shell.
        return {
            "script": Path(self.script).read_text(),
            "job": {
                "name": "true", "tasks": 1, "current_working_directory": "/", "standard_output": "/dev/null",
                "environment": {"PATH": "/usr/bin:/bin"}, **more,
            },
        }

    def by_rest(self, count):
        """Submits jobs on hold over one connection, one after the other; seconds."""
        connection = self.connect()
        request = connection.request("POST", f"{REST}/job/submit", self._job(hold=True))
        begin = time.monotonic()
        for _ in range(count):
            connection.send(request)
        seconds = time.monotonic() - begin
        connection.close()
        return seconds

    def as_array(self, count):
        """Submits one array of held tasks, which is one record until a task starts; seconds."""
        begin = time.monotonic()
        self._orders("sbatch", "--hold", "--quiet", "-n", "1", f"--array=0-{count - 1}", "-o", "/dev/null", self.script)
        return time.monotonic() - begin

    def end_to_end(self, count):
        """Runs jobs that all wait when it begins, until the last is over; seconds."""
        self._orders("scontrol", "update", "PartitionName=work", "State=DOWN")
        connection = self.connect()
        request = connection.request("POST", f"{REST}/job/submit", self._job())
        for _ in range(count):
            connection.send(request)
        connection.close()
        log = self.folder / "slurmctld.log"
        begin = time.monotonic()
        self._orders("scontrol", "update", "PartitionName=work", "State=UP")
        # Reading the log, unlike squeue, costs the controller nothing.
        machine.wait_for(
            "the end of Slurm's jobs", lambda: len(ENDED.findall(log.read_bytes())) >= count, patience_s=600
        )
        return time.monotonic() - begin
