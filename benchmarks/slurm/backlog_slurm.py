"""Slurm of the distribution with emulated nodes, and the database that its fair share needs."""

import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

import machine

PACKAGES = ["slurm-wlm", "slurmdbd", "munge", "mariadb-server"]
PROGRAMS = ["munged", "slurmctld", "slurmdbd", "sbatch", "sacctmgr", "mariadbd"]
HERE = Path(__file__).resolve().parent
NODES_PER_RACK, RACKS_PER_BLOCK = 32, 16

# What the controller writes when it has found nodes for a job, in the main pass and in backfill.
ALLOCATED = re.compile(rb"sched: Allocate JobId=|_start_job: Started JobId=")


def install():
    """Installs what is missing."""
    search = os.environ["PATH"] + ":/usr/sbin"
    if all(shutil.which(program, path=search) for program in PROGRAMS):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    words = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)


class Emulated:
    """A controller that knows some nodes, which take no work of their own, and its database."""

    def __init__(self, folder, nodes, tenants):
        self.folder, self.nodes, self.tenants = Path(folder), nodes, tenants
        self.daemons = []
        self.environment = {
            **os.environ,
            "PATH": os.environ["PATH"] + ":/usr/sbin",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self._write_files()

    def _write_files(self):
        owner = pwd.getpwnam("slurm")
        for name in ["state", "spool"]:
            (self.folder / name).mkdir()
        os.chown(self.folder / "state", owner.pw_uid, owner.pw_gid)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        values = {
            "host": os.uname().nodename.split(".")[0], "folder": self.folder, "last": self.nodes - 1,
            "controller_port": machine.free_port(), "node_port": machine.free_port(),
            "database_port": machine.free_port(),
        }
        text = (HERE / "backlog.conf").read_text()
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(value))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "topology.conf").write_text(self._topology())
        database = self.folder / "slurmdbd.conf"
        database.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge.socket\nDbdHost=localhost\n"
            f"DbdPort={values['database_port']}\nSlurmUser=slurm\nPidFile={self.folder}/slurmdbd.pid\n"
            f"LogFile={self.folder}/slurmdbd.log\nStorageType=accounting_storage/mysql\nStorageUser=slurm\n"
            f"StorageHost=localhost\nStorageLoc=slurm_acct_db\n"
        )
        database.chmod(0o600)
        os.chown(database, owner.pw_uid, owner.pw_gid)

    def _topology(self):
        racks = -(-self.nodes // NODES_PER_RACK)
        lines = [
            f"SwitchName=rack{rack} Nodes=n[{rack * NODES_PER_RACK}-"
            f"{min((rack + 1) * NODES_PER_RACK, self.nodes) - 1}]"
            for rack in range(racks)
        ]
        blocks = -(-racks // RACKS_PER_BLOCK)
        for block in range(blocks):
            last = min((block + 1) * RACKS_PER_BLOCK, racks) - 1
            lines.append(f"SwitchName=block{block} Switches=rack[{block * RACKS_PER_BLOCK}-{last}]")
        lines.append(f"SwitchName=site Switches=block[0-{blocks - 1}]")
        return "\n".join(lines) + "\n"

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        munge = self.folder / "munge.socket"
        self._daemon(
            "munged", "--foreground", "--force", f"--socket={munge}", f"--key-file={self.folder}/munge.key",
            f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed",
        )
        machine.wait_for("munged", munge.exists)
        self._start_database()
        self._daemon("slurmdbd", "-D", environment={"SLURM_CONF": str(self.folder / "slurm.conf")})
        machine.wait_for("slurmdbd", lambda: self._tells("sacctmgr", "-n", "list", "cluster") is not None)
        self._orders("sacctmgr", "-i", "add", "cluster", "backlog")
        for tenant in range(self.tenants):
            self._orders("sacctmgr", "-i", "add", "account", f"tenant{tenant}", "fairshare=1")
            self._orders("sacctmgr", "-i", "add", "user", "root", f"account=tenant{tenant}", "fairshare=1")
        self._daemon("slurmctld", "-D")
        machine.wait_for("slurmctld", lambda: (self._tells("scontrol", "ping") or "").find("is UP") >= 0)

    def _start_database(self):
        """A server of its own, on a socket where Slurm's library looks for one."""
        data, run = self.folder / "mysql", self.folder / "mysql-run"
        for place in (data, run):
            place.mkdir()
            shutil.chown(place, "mysql", "mysql")
        socket = run / "socket"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
        subprocess.run(["mariadb-install-db", "--user=mysql", f"--datadir={data}"], **quiet)
        self._daemon(
            "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={socket}", "--skip-networking",
            f"--pid-file={data}/pid",
        )
        orders = "create database slurm_acct_db; create user 'slurm'@'localhost' identified via unix_socket; " \
                 "grant all on slurm_acct_db.* to 'slurm'@'localhost';"
        client = ["mariadb", "--no-defaults", f"--socket={socket}"]
        machine.wait_for("mariadbd", lambda: subprocess.run([*client, "-e", "select 1"], capture_output=True).returncode == 0)
        subprocess.run([*client, "-e", orders], check=True)
        # Where the library of slurmdbd looks.
        usual = Path("/run/mysqld/mysqld.sock")
        usual.parent.mkdir(exist_ok=True)
        if not usual.exists():
            usual.symlink_to(socket)
            self.link = usual

    link = None

    def __exit__(self, *_):
        while self.daemons:
            machine.stop(self.daemons.pop())
        if self.link:
            self.link.unlink(missing_ok=True)

    def _daemon(self, *words, environment=None):
        environment = {**self.environment, **(environment or {})}
        self.daemons.append(machine.start(words, self.folder / f"{words[0]}.out", environment))

    def _tells(self, *words):
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def _orders(self, *words):
        subprocess.run(words, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def decisions(self, jobs, workers, most_s):
        """Jobs placed a second from the instant at which the partition goes up, until all are placed or the time is up."""
        script = self.folder / "true.sh"
        script.write_text("#!/bin/sh\ntrue\n")
        for tenant in range(self.tenants):
            mine = len(range(tenant, jobs, self.tenants))
            if mine:
                self._orders(
                    "sbatch", "--quiet", f"--account=tenant{tenant}", f"--array=0-{mine - 1}", f"-N{workers}",
                    "--exclusive", "--time=60", "-o", "/dev/null", str(script),
                )
        log = self.folder / "slurmctld.log"
        begin = time.monotonic()
        self._orders("scontrol", "update", "partitionname=work", "state=up")
        found, position, last = 0, 0, begin
        while found < jobs and time.monotonic() - begin < most_s:
            time.sleep(0.05)
            with open(log, "rb") as file:
                file.seek(position)
                text = file.read()
            end = text.rfind(b"\n") + 1
            position += end
            more = len(ALLOCATED.findall(text[:end]))
            if more:
                found, last = found + more, time.monotonic()
        return found / (last - begin) if found else 0.0, found
