"""A certificate authority of the test's own: Debian's pebble, and a DNS in which every name leads to the server."""

import json
import os
import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path

from postroom import eventually, free_address, run

# Where pebble looks for the answers to its challenges, on the server's address.
CHALLENGE_PORT = 25080


class Authority:
    """pebble on a loopback address of its own. It forgets everything when it stops, its root too."""

    def __init__(self, directory: Path, server_address: str, validity: int = 90 * 86400):
        directory.mkdir()
        self.directory, self.address, self.server_address = directory, free_address(), server_address
        self.url = f"https://{self.address}:14000/dir"
        self.root, self.log = directory / "root.pem", directory / "log"
        self.processes: list[subprocess.Popen] = []
        self.own = self._certificate()
        self.config = directory / "pebble.json"
        self.config.write_text(json.dumps({"pebble": {
            "listenAddress": f"{self.address}:14000", "managementListenAddress": f"{self.address}:15000",
            "certificate": str(self.own), "privateKey": str(directory / "own.key"),
            "httpPort": CHALLENGE_PORT, "tlsPort": 25443, "certificateValidityPeriod": validity,
        }}))  # fmt: skip

    def _certificate(self) -> Path:
        """What pebble itself shows: its own authority, and no CA, which it may not be as a server."""
        config, chain = self.directory / "openssl.cnf", self.directory / "own.pem"
        config.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        run("openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=pebble", "-addext", f"subjectAltName=IP:{self.address}",
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", self.directory / "own.key", "-out", chain)  # fmt: skip
        return chain

    def start(self, names_lead_to: str | None = None) -> "Authority":
        target, dns = names_lead_to or self.server_address, f"{self.address}:8053"
        # Real validation without the pauses that are there to teach; few good nonces are refused (each costs a request).
        env = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "1"}
        env.pop("PEBBLE_VA_ALWAYS_VALID", None)
        with self.log.open("ab") as log:
            for command in [
                [shutil.which("pebble-challtestsrv"), "-dns01", dns, "-http01", "", "-https01", "", "-tlsalpn01", "",
                 "-management", f"{self.address}:8055", "-defaultIPv4", target, "-defaultIPv6", ""],
                [shutil.which("pebble"), "-config", self.config, "-dnsserver", dns],
            ]:  # fmt: skip
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env))
        eventually("pebble answers", self._fetch_root)
        return self

    def _fetch_root(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.own))
        try:
            with urllib.request.urlopen(f"https://{self.address}:15000/roots/0", context=context, timeout=5) as answer:
                self.root.write_bytes(answer.read())
                return True
        except OSError:
            assert all(process.poll() is None for process in self.processes), self.log.read_text()
            return False

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()

    def orders(self) -> int:
        return self.log.read_text().count("POST /order-plz")
