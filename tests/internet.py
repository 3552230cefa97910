"""An internet on loopback: postroom-internet (crates/simnet), which `make binary` builds beside the server."""

import itertools
import json
import os
import subprocess
from pathlib import Path

from postroom import BINARY, Failed

_nets = itertools.count(os.getpid() * 7)


class Internet:
    """Its DNS, its mail hosts and its web servers, for as long as it is open."""

    def __init__(self, directory: Path):
        directory.mkdir()
        # Where another run has the addresses already, it ends at once.
        for net in itertools.islice(_nets, 20):
            command = [BINARY.with_name("postroom-internet"), directory, str(net & 255)]
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
        return self.at["domains"]

    def laboratory(self) -> str:
        """The part of the configuration that leads a server into it."""
        values = "".join(f'{key} = "{self.at[key]}"\n' for key in ["dns", "anchor", "roots"])
        return f"[laboratory]\n{values}"

    def seen(self, domain: str) -> dict:
        """What the domain's host has seen: mails taken, and begun, and connections."""
        self.process.stdin.write(domain + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())
