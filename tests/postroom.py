"""A Postroom of the test's own: configuration, accounts, start, kill, stop, verify; and the same face for a peer.

Used by conftest.py, which hands tests a running server. Each server has a loopback address to itself, so that runs on
one machine never meet, and every port is the standard one + 20000. A process is only ever signalled by its id.
"""

import contextlib
import imaplib
import itertools
import os
import poplib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("POSTROOM_CACHE") or Path.home() / ".cache/postroom")
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BINARY = Path(os.environ.get("POSTROOM_BIN") or TARGET / "debug/postroom")

DOMAIN = "example.test"
HOSTNAME = "mx.example.test"
PASSWORD = "pw"
PORTS = {
    "lmtp": 20024, "smtp": 20025, "alternative": 22525, "submission": 20587, "submissions": 20465,
    "imap": 20143, "imaps": 20993, "pop3": 20110, "pop3s": 20995, "http": 20080,
}  # fmt: skip
START_SECONDS = 60
STOP_SECONDS = 30
# A reply that takes longer than this is a hang.
REPLY_SECONDS = 30


class Failed(AssertionError):
    """The server did something a server may not do: did not start, did not stop, left an inconsistent store."""


class Closed(Failed):
    """The server hung up where it should have answered."""


def user(number: int) -> str:
    return f"u{number}@{DOMAIN}"


def run(*command, stdin: bytes = b"", timeout: float = 60, check: bool = True, env: dict | None = None):
    """Runs a client to its end; its whole output is in the error if it fails. Returns its standard output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, env={**os.environ, **(env or {})})
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(words)}\nexit {done.returncode}\n{done.stdout.decode(errors='replace')}"
                     f"\n{done.stderr.decode(errors='replace')}")  # fmt: skip
    return done.stdout


def eventually(what: str, ask, seconds: float = 20, every: float = 0.05):
    """Asks until the answer is true and returns it; fails with `what` when it never is."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)


_addresses = itertools.count(os.getpid() * 251)


def free_address() -> str:
    """A loopback address that no other server of this run has, and on which nothing listens: 127.23.x.y."""
    for at in itertools.islice(_addresses, 1000):
        # None twice: who asked for the last one may not listen there yet.
        address = f"127.23.{at // 255 % 256}.{at % 255 + 1}"
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, PORTS["smtp"])) != 0:
                return address
    raise Failed("no free loopback address")


def certificate(directory: Path, address: str) -> tuple[Path, Path]:
    """A certificate for our name and address, which clients of the test trust: so they check it for real.

    The address stands there as a DNS name too, because mbsync looks nowhere else.
    """
    cert, key = directory / "cert.pem", directory / "key.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={HOSTNAME}", "-addext", f"subjectAltName=DNS:{HOSTNAME},DNS:{address},IP:{address}",
        "-keyout", key, "-out", cert)  # fmt: skip
    return cert, key


class Server:
    """One server in a directory of its own. Not started until `start`."""

    peer = False

    def __init__(self, directory: Path, accounts: int = 10, cleartext_login: bool = True, trusted: tuple[str, ...] = (),
                 own_certificate: bool = True, proxied: bool = False, extra: str = ""):  # fmt: skip
        self.directory = directory
        self.address = free_address()
        self.ports = dict(PORTS)
        self.accounts = accounts
        self.log = directory / "log"
        self.config = directory / "postroom.toml"
        self.process: subprocess.Popen | None = None
        # What its processes have in their environment beside ours.
        self.env: dict[str, str] = {}
        # A command that runs `postroom serve` in its own place: ["prlimit", …].
        self.through: list[str] = []
        self._next = 0
        self.certificate: Path | None = None
        listen = "\n".join(f'{name} = "{self.address}:{port}"' for name, port in self.ports.items())
        tls = ""
        if own_certificate:
            self.certificate, key = certificate(directory, self.address)
            tls = f'[tls]\ncertificate = "{self.certificate}"\nkey = "{key}"\n'
        self.config.write_text(
            f'hostname = "{HOSTNAME}"\ndata = "./data"\n[listen]\n{listen}\n[network]\n'
            f"trusted = [{', '.join(repr(net) for net in trusted)}]\n"
            f"proxy_protocol_from = {['127.0.0.0/8'] if proxied else []}\n"
            f"cleartext_login_on_loopback = {str(cleartext_login).lower()}\n{tls}{extra}"
        )

    # -- life ---------------------------------------------------------------------------------------------------

    def create(self) -> None:
        self.cli("init", "--domain", DOMAIN, "--admin", f"admin@{DOMAIN}", "--password-stdin", stdin=PASSWORD)
        for number in range(self.accounts):
            self.cli("account", "add", user(number), "--password-stdin", stdin=PASSWORD)

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [*self.through, BINARY, "serve", "--config", self.config]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.env})  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)
        seen = b""

        def ready() -> bool:
            nonlocal seen
            seen += self.process.stdout.read() or b""
            if self.process.poll() is not None:
                raise Failed(f"postroom serve ended with {self.process.returncode} before it was ready")
            return b"postroom: ready\n" in seen

        try:
            eventually("postroom: ready", ready, START_SECONDS)
        except Failed as failed:
            self.kill()
            raise Failed(f"{failed}\n{self.tail()}") from None

    def stop(self) -> None:
        """SIGTERM: the server finishes what it does and exits 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"SIGTERM did not end the server within {STOP_SECONDS} s\n{self.tail()}") from None
        self._gone()
        if status != 0:
            raise Failed(f"SIGTERM: exit {status}\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL: the process is gone at once, as after a fault."""
        self.process.kill()
        self.process.wait()
        self._gone()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _gone(self) -> None:
        self.process.stdout.close()
        self.process = None

    @property
    def running(self) -> bool:
        return self.process is not None

    def verify(self) -> None:
        self.cli("verify")

    def cli(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        command = [BINARY, *arguments, "--config", self.config]
        return run(*command, stdin=stdin.encode(), timeout=300, check=check, env=self.env).decode()

    def tail(self, since: int = 0, lines: int = 60) -> str:
        with self.log.open("rb") as log:
            log.seek(since)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def says(self, text: str, since: int = 0) -> bool:
        """Whether the log says so, or will in a moment: lines are gathered for some milliseconds."""
        return eventually(f"the log says: {text}", lambda: text in self.tail(since, 10**6), 5)

    # -- clients ------------------------------------------------------------------------------------------------

    def user(self) -> str:
        """An account that no other test of this server has used."""
        if self._next == self.accounts:
            raise Failed(f"all {self.accounts} accounts are taken: ask for more (SERVER = dict(accounts=…))")
        self._next += 1
        return user(self._next - 1)

    def tls(self) -> ssl.SSLContext:
        if self.certificate:
            return ssl.create_default_context(cafile=str(self.certificate))
        return ssl._create_unverified_context()

    def connect(self, name: str, tls: bool = False) -> "Dialogue":
        return Dialogue(self, name, tls)

    def smtp(self, name: str = "smtp") -> smtplib.SMTP:
        client = smtplib.SMTP_SSL if name == "submissions" else smtplib.SMTP
        context = {"context": self.tls()} if name == "submissions" else {}
        return client(self.address, self.ports[name], local_hostname="client.test", timeout=REPLY_SECONDS, **context)

    def pop3(self, name: str, password: str = PASSWORD) -> poplib.POP3:
        poplib._MAXLINE = 1 << 20  # real mail has lines longer than Python's 2048
        client = poplib.POP3(self.address, self.ports["pop3"], timeout=REPLY_SECONDS)
        client.user(name)
        client.pass_(password)
        return client

    def imap(self, name: str, password: str = PASSWORD) -> imaplib.IMAP4:
        client = imaplib.IMAP4(self.address, self.ports["imap"], timeout=REPLY_SECONDS)
        client.login(name, password)
        return client

    def deliver(self, to: str | list[str], message: bytes, sender: str = "stranger@elsewhere.test") -> None:
        """One message in by SMTP, as a stranger's server would send it."""
        with self.smtp() as client:
            client.sendmail(sender, to, message)


class Peer(Server):
    """Real Postfix and Dovecot behind the same face (POSTROOM_PEER=dovecot): proves the tests themselves, not us."""

    peer = True

    def __init__(self, directory: Path, accounts: int = 10, **options):
        super().__init__(directory, accounts, **options)
        # Not below pytest's directory, which is closed to the users that Postfix and Dovecot run as.
        self.home = Path(tempfile.mkdtemp(prefix="peer-"))
        self.ports = {name: port - 10000 for name, port in PORTS.items()}
        self.options = options

    def create(self) -> None:
        pass

    def _script(self, verb: str) -> None:
        options = self.options
        env = {"PEER_DIR": str(self.home), "PEER_ADDRESS": self.address, "PEER_CERT": str(self.directory),
               "PEER_TRUSTED": " ".join(options.get("trusted", ())),
               "PEER_CLEARTEXT": "yes" if options.get("cleartext_login", True) else "no"}  # fmt: skip
        run(ROOT / "bench/peer", verb, env=env)

    def start(self) -> None:
        self._script("start")
        self.log = self.home / "log"
        self.process = True

    def stop(self) -> None:
        self._script("stop")
        self.process = None

    kill = stop

    def verify(self) -> None:
        if not self.running:
            shutil.rmtree(self.home)


def make_server(directory: Path, **options) -> Server:
    kind = Peer if os.environ.get("POSTROOM_PEER") == "dovecot" else Server
    return kind(directory, **options)


class Dialogue:
    """A raw line connection that remembers what was said: a failing test prints it as C:/S: lines."""

    def __init__(self, server: Server, name: str, tls: bool = False):
        self.server = server
        self.said: list[str] = []
        self.socket = socket.create_connection((server.address, server.ports[name]), REPLY_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        if tls:
            self.starttls()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()
        if error is not None and hasattr(error, "add_note"):
            error.add_note("the dialogue:\n" + "\n".join(self.said[-80:]))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def starttls(self) -> None:
        self.socket = self.server.tls().wrap_socket(self.socket, server_hostname=self.server.address)
        self.said.append("(TLS)")

    def raw(self, data: bytes) -> None:
        self.said.extend("C: " + line[:200] for line in data.decode(errors="backslashreplace").splitlines()[:40])
        self.socket.sendall(data)

    def send(self, line: str | bytes) -> None:
        self.raw((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def line(self) -> str:
        """The next line, without its end."""
        while b"\n" not in self._buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                self.said.append("S: (closed)")
                raise Closed("the server closed the connection")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        text = line.rstrip(b"\r").decode(errors="backslashreplace")
        self.said.append("S: " + text[:200])
        return text

    def octets(self, count: int) -> bytes:
        """The next `count` bytes, of an IMAP literal."""
        while len(self._buffer) < count:
            data = self.socket.recv(65536)
            assert data, "closed inside a literal"
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self.said.append(f"S: ({count} octets)")
        return data

    def reply(self) -> str:
        """A whole SMTP reply, its lines joined by newlines."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def ask(self, line: str | bytes, expect: str = "") -> str:
        """Sends an SMTP command and returns the reply, which must begin with `expect`."""
        self.send(line)
        return self.expect(expect)

    def expect(self, code: str) -> str:
        """The next SMTP reply, which must begin with `code`."""
        reply = self.reply()
        if reply.startswith("421") and not code.startswith("4"):
            raise Closed(f"{reply!r}, expected {code}")
        assert reply.startswith(code), f"{reply!r}, expected {code}"
        return reply

    def tagged(self, tag: str, command: str | bytes, expect: str = "OK") -> list[str]:
        """Sends an IMAP command and returns the lines before its tagged reply, and that reply, last."""
        self.send(tag.encode() + b" " + (command.encode() if isinstance(command, str) else command))
        return self.until(tag, expect)

    def until(self, tag: str, expect: str = "OK") -> list[str]:
        lines = []
        while not lines or not lines[-1].startswith(tag + " "):
            lines.append(self.line())
        assert lines[-1].startswith(f"{tag} {expect}"), f"{lines[-1]!r}, expected {expect}"
        return lines

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long (the connection staying open)."""
        if self._buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(REPLY_SECONDS)
        self._buffer += data
        return False

    def closed(self, seconds: float = REPLY_SECONDS) -> bool:
        """Whether the server closes the connection in that time, whatever it says before."""
        self.socket.settimeout(seconds)
        try:
            while True:
                self.line()
        except Closed:
            return True
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(REPLY_SECONDS)


def node(script: str, *arguments, stdin: bytes = b"", timeout: float = 60) -> bytes:
    """Runs a script of tests/node with the packages of the cache."""
    return run(shutil.which("node"), ROOT / "tests/node" / script, *arguments, stdin=stdin, timeout=timeout,
               env={"NODE_PATH": str(CACHE / "node/node_modules")})  # fmt: skip
