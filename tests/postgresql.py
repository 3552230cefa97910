"""A PostgreSQL server of the test run's own: Debian's programs, a Unix socket, durability as in production."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from postroom import Failed, eventually, run


class Cluster:
    """Started at the first database that is asked for; ended, with all databases, when the run ends."""

    _one: "Cluster | None" = None

    def __init__(self):
        found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
        if not found:
            raise Failed("PostgreSQL's programs are missing: install the Debian package postgresql")
        self.programs = max(found, key=lambda path: int(path.parent.name))
        # Not below pytest's directory, which is closed to the user that PostgreSQL runs as.
        self.home = Path(tempfile.mkdtemp(prefix="postroom-pg-"))
        self.databases = 0
        atexit.register(self.stop)
        self.process: subprocess.Popen | None = None
        # It does not run as root.
        self.user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self.user:
            os.chown(self.home, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", self.home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        self._start()

    def _start(self) -> None:
        with (self.home / "log").open("ab") as log:
            command = [self.programs / "postgres", "-D", self.home / "data", "-k", self.home, "-c", "listen_addresses="]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._as_its_user())
        eventually("PostgreSQL answers", self._ready, 30)

    def restart(self, how: signal.Signals) -> None:
        """SIGINT: transactions are rolled back; SIGQUIT: as after a crash."""
        self.process.send_signal(how)
        self.process.wait(60)
        self._start()

    def _as_its_user(self) -> dict:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments) -> None:
        done = subprocess.run([self.programs / program, *map(str, arguments)], cwd="/", capture_output=True, timeout=120,
                              **self._as_its_user())  # fmt: skip
        if done.returncode != 0:
            raise Failed(f"{program}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise Failed(f"PostgreSQL ended\n{(self.home / 'log').read_text(errors='replace')}")
        probe = [self.programs / "pg_isready", "-q", "-h", self.home]
        return subprocess.run(probe, timeout=10).returncode == 0

    def sql(self, text: str) -> str:
        return run(self.programs / "psql", "-h", self.home, "-U", "postgres", "-Atqc", text).decode()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()  # as "smart": waits for clients, of which none should be left
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def cluster() -> Cluster:
    """The one of this run."""
    if Cluster._one is None:
        Cluster._one = Cluster()
    return Cluster._one


def database() -> str:
    """The URL of a new, empty database."""
    one = cluster()
    one.databases += 1
    name = f"mail{one.databases}"
    one.sql(f"CREATE DATABASE {name}")
    return f"postgres:///{name}?host={one.home}&user=postgres"
