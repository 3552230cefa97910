"""An internet on loopback: postroom-internet (crates/simnet), which `make binary` builds beside the server."""

import itertools
import json
import os
import subprocess
from pathlib import Path

from postroom import BINARY, Failed, run

_nets = itertools.count(os.getpid() * 7)


def words_of(seeded: dict[str, int]) -> list[str]:
    return [word for name, n in seeded.items() for word in (f"--{name}", str(n))]


def described(**seeded: int) -> list[dict]:
    """What a seed would make: sites, then mails."""
    told = run(BINARY.with_name("postroom-internet"), *words_of(seeded))
    return [json.loads(line) for line in told.splitlines()]


class Internet:
    """Its DNS, its mail hosts and its web servers, for as long as it is open."""

    def __init__(self, directory: Path, **seeded: int):
        """`seeded`: which sites are made beside the cases; words of `postroom-internet`."""
        directory.mkdir()
        words = words_of(seeded)
        # Where another run has the addresses already, it ends at once.
        for net in itertools.islice(_nets, 20):
            command = [BINARY.with_name("postroom-internet"), directory, str(net & 255), *words]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if line := self.process.stdout.readline():
                self.at = json.loads(line)
                return
            self.process.wait()
        raise Failed("no free addresses for an internet")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=20)

    @property
    def domains(self) -> list[str]:
        """Those of the cases."""
        return self.at["domains"]

    def left(self, domain: str) -> tuple[str, int]:
        """Where the test itself is the domain's mail host."""
        address, port = self.at["left"][domain].rsplit(":", 1)
        return address, int(port)

    @property
    def sites(self) -> list[dict]:
        """Those that a seed made."""
        return self.at["sites"]

    @property
    def mails(self) -> list[dict]:
        """What there is to be sent to them, and what becomes of it."""
        return self.at["mails"]

    def laboratory(self) -> str:
        """The part of the configuration that leads a server into it."""
        values = "".join(f'{key} = "{self.at[key]}"\n' for key in ["dns", "anchor", "roots"])
        return f"[laboratory]\n{values}"

    def seen(self, domain: str) -> dict:
        """What the domain's hosts have seen: mails taken, and which, and begun, and connections."""
        self.process.stdin.write(domain + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
