"""The work that bench/run puts on a server: clients that read replies raw, so that the clock sees the server, not Python.

A Side is one server on the loopback; each function takes a Side and returns what one run of its work gave.
"""

import base64
import contextlib
import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PASSWORD = "pw"
SINK_PORT = 10026
PATIENCE = 600  # seconds that any one run may take


@dataclass
class Side:
    """A server: the number that is added to the standard ports, and the processes whose memory and CPU are its own."""

    name: str
    add: int
    # Its script, bench/server or bench/peer; gives what that prints.
    control: Callable[..., str] = lambda *_: ""
    # Whether it can be ended and started on what it has.
    can_restart: bool = False
    roots: list[int] = field(default_factory=list)
    has_imap: bool = True

    def begin(self, verb: str) -> None:
        """By start, restart or serve; it is ready then."""
        self.roots = [int(process) for process in self.control(verb).strip().split(",")]

    def port(self, standard: int) -> int:
        return standard + self.add

    def connect(self, standard: int, tls: bool = False) -> "Line":
        return Line(socket.create_connection(("127.0.0.1", self.port(standard)), PATIENCE), tls)

    def has(self, standard: int) -> bool:
        """Whether there is a server that greets."""
        try:
            with self.connect(standard) as line:
                return bool(line.until(b"\n"))
        except OSError:
            return False


def user(number: int) -> str:
    return f"u{number}@example.test"


class Line:
    """A connection whose replies are read to a mark and thrown away, but for their end."""

    def __init__(self, plain: socket.socket, tls: bool = False):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = ssl._create_unverified_context().wrap_socket(plain) if tls else plain
        self.rest = b""
        self.tags = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def until(self, mark: bytes) -> bytes:
        """Reads up to and with `mark`; returns at most the last 64 KB."""
        data = self.rest
        while (at := data.find(mark)) < 0:
            more = self.socket.recv(1 << 18)
            if not more:
                raise ConnectionError(f"closed after {data[-200:]!r}")
            data = data[-65536:] + more
        self.rest = data[at + len(mark) :]
        return data[: at + len(mark)]

    def imap(self, command: str) -> bytes:
        """One IMAP command; returns the end of its answer."""
        self.tags += 1
        tag = b"zq%d " % self.tags
        self.socket.sendall(tag + command.encode() + b"\r\n")
        tail = self.until(tag)
        status = self.until(b"\r\n")
        if not status.startswith(b"OK"):
            raise RuntimeError(f"{command[:60]}: {status.decode().strip()}")
        return tail

    def pop3(self, command: str, multi: bool = False) -> bytes:
        self.socket.sendall(command.encode() + b"\r\n")
        reply = self.until(b"\r\n.\r\n" if multi else b"\r\n")
        if not reply.startswith(b"+OK"):
            raise RuntimeError(f"{command}: {reply[:100]!r}")
        return reply


def imap(side: Side, number: int, tls: bool = False) -> Line:
    line = side.connect(993 if tls else 143, tls)
    line.until(b"\r\n")
    line.imap(f'LOGIN "{user(number)}" "{PASSWORD}"')
    return line


def pop3(side: Side, number: int) -> Line:
    line = side.connect(110)
    line.until(b"\r\n")
    line.pop3(f"USER {user(number)}")
    line.pop3(f"PASS {PASSWORD}")
    return line


# -- mail in and out --------------------------------------------------------------------------------------------------


def await_count(side: Side, line: Line | None, number: int, count: int) -> None:
    """Waits until the INBOX of a user holds `count` messages; without IMAP (no `line`) it asks by POP3."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if line:
            now = int(re.search(rb"MESSAGES (\d+)", line.imap("STATUS INBOX (MESSAGES)"))[1])
        else:
            with pop3(side, number) as fresh:
                now = int(fresh.pop3("STAT").split()[1])
                fresh.pop3("QUIT")
        if now >= count:
            return
        time.sleep(0.02)
    raise RuntimeError(f"{user(number)} never got its {count} messages")


def wipe(side: Side, users: int) -> None:
    for number in range(users):
        if side.has_imap:
            wipe_one(side, number)
        else:
            with pop3(side, number) as line:
                for at in range(1, int(line.pop3("STAT").split()[1]) + 1):
                    line.pop3(f"DELE {at}")
                line.pop3("QUIT")


def wipe_one(side: Side, number: int) -> None:
    with imap(side, number) as line:
        if not re.search(rb"\* 0 EXISTS", line.imap("SELECT INBOX")):
            line.imap("STORE 1:* +FLAGS.SILENT (\\Deleted)")
        line.imap("CLOSE")


def source(side: Side, standard: int, to: str, count: int, size: int, sessions: int, recipients: int = 1) -> subprocess.Popen:
    return subprocess.Popen(["smtp-source", "-s", str(sessions), "-m", str(count), "-l", str(size), "-f", "s@example.org",
                             "-r", str(recipients), "-t", to, f"127.0.0.1:{side.port(standard)}"],
                            stderr=subprocess.PIPE)  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    error = process.communicate(timeout=PATIENCE)[1]
    if process.returncode != 0:
        raise RuntimeError(f"smtp-source: {error.decode().strip()[-300:]}")


def receive(side: Side, messages: int, size: int, sessions: int = 20) -> float:
    """Messages a second until all stand in the mailboxes of as many users as there are sessions."""
    each = messages // sessions
    wipe(side, sessions)
    lines = [imap(side, number) if side.has_imap else None for number in range(sessions)]
    began = time.monotonic()
    sources = [source(side, 25, user(number), each, size, 1) for number in range(sessions)]
    for process in sources:
        finish(process)
    for number, line in enumerate(lines):
        await_count(side, line, number, each)
    return each * sessions / (time.monotonic() - began)


class Sink:
    """Postfix's smtp-sink on SINK_PORT, counting; `seen` is what it has taken so far."""

    def __init__(self, port: int = SINK_PORT):
        self.process = subprocess.Popen(["smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{port}", "1024"],
                                        stdout=subprocess.PIPE)  # fmt: skip
        self.seen = 0
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(0.5)

    def _read(self) -> None:
        tail = b""
        while data := self.process.stdout.read1(65536):
            tail = (tail + data)[-400:]
            if found := re.findall(rb"mesg=(\d+)", tail):
                self.seen = int(found[-1])
            # Not each count as it comes: on two cores who reads would take part in what is measured.
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


CPU = "CPU of a mail, user and system"


def relay(side: Side, messages: int, size: int = 4096, sessions: int = 20) -> dict[str, float]:
    """Messages a second until the next hop has counted all, and seconds of CPU for each."""
    with Sink() as sink:
        before, began = cpu(side.roots), time.monotonic()
        finish(source(side, 25, "r@sink.test", messages, size, sessions))
        while sink.seen < messages:
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"the sink has only {sink.seen} of {messages}")
            time.sleep(0.01)
        rate = messages / (time.monotonic() - began)
        # What is written down of the last ones counts too.
        time.sleep(1)
        return {"": rate, CPU: (cpu(side.roots) - before) / messages}


def nothing_stored(messages: int = 10_000, sessions: int = 20) -> float:
    """smtp-source to smtp-sink: what the machine gives when no mail is kept. As in `receive`, each session is a process of
    its own: twenty sessions of one process cost less, and say nothing about that row."""
    with Sink(SINK_PORT + 1):
        began, sink = time.monotonic(), Side("sink", SINK_PORT + 1 - 25)
        sources = [source(sink, 25, "r@sink.test", messages // sessions, 4096, 1) for _ in range(sessions)]
        for process in sources:
            finish(process)
        return messages // sessions * sessions / (time.monotonic() - began)


def durable_writes(directory: str, seconds: float = 3) -> float:
    """4 KB appends a second, each with its fdatasync."""
    path = os.path.join(directory, "fdatasync.bench")
    count, file = 0, os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
        count += 1
    os.close(file)
    os.unlink(path)
    return count / seconds


# -- the mailbox ------------------------------------------------------------------------------------------------------


def mails(count: int) -> list[bytes]:
    """Mail as offices have it, the same in every run: short text, text with HTML, text with an attachment; 17 KB a piece."""
    chance = random.Random(7)
    words = ["".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(chance.randint(1, 4)))
             for _ in range(3000)]  # fmt: skip

    def text(size: int) -> str:
        lines = []
        while size > 0:
            lines.append(" ".join(chance.choices(words, k=10)))
            size -= len(lines[-1])
        return "\r\n".join(lines) + "\r\n"

    made = []
    for n in range(count):
        who, kind = chance.choice(words), chance.random()
        head = (f"Received: from mail.{who}.example by mx.example.test with ESMTPS id {n:x};\r\n"
                f"\tThu, 01 Jan 2026 {n % 24:02}:00:00 +0000\r\nFrom: {who.title()} <{who}@{who}.example>\r\n"
                f"To: u0@example.test\r\nDate: Thu, 01 Jan 2026 {n % 24:02}:00:00 +0000\r\n"
                f"Message-ID: <{n}@{who}.example>\r\n"
                f"Subject: {' '.join(chance.choices(words, k=5))}\r\nMIME-Version: 1.0\r\n")  # fmt: skip
        plain = "Content-Type: text/plain; charset=utf-8\r\n\r\n"
        if kind < 0.5:
            rest = plain + text(chance.randint(300, 6000))
        else:
            other = "Content-Type: text/html; charset=utf-8\r\n\r\n<p>" + text(chance.randint(1000, 9000))
            if kind > 0.83:
                octets = base64.encodebytes(chance.randbytes(chance.randint(15_000, 100_000))).decode()
                other = ('Content-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
                         + octets.replace("\n", "\r\n"))  # fmt: skip
            rest = (f"Content-Type: multipart/mixed; boundary=cut{n}\r\n\r\n--cut{n}\r\n{plain}{text(2000)}\r\n"
                    f"--cut{n}\r\n{other}\r\n--cut{n}--\r\n")  # fmt: skip
        made.append((head + rest).encode())
    return made


def append(line: Line, mailbox: str, messages: list[bytes]) -> None:
    """APPENDs, twenty sent ahead (LITERAL+), so that round trips do not count."""
    for at in range(0, len(messages), 20):
        part = messages[at : at + 20]
        line.socket.sendall(b"".join(b"ap%d APPEND %s {%d+}\r\n%s\r\n" % (n, mailbox.encode(), len(each), each)
                                     for n, each in enumerate(part)))  # fmt: skip
        for n in range(len(part)):
            line.until(b"ap%d " % n)
            if not (status := line.until(b"\r\n")).startswith(b"OK"):
                raise RuntimeError(f"APPEND: {status.decode()}")


class Times(dict[str, list[float]]):
    """Seconds that single commands took, by name."""

    def of(self, line: Line, name: str, *commands: str) -> None:
        for command in commands:
            began = time.perf_counter()
            line.imap(command)
            self.setdefault(name, []).append(time.perf_counter() - began)


# A command that changes nothing is timed so often in a run.
OFTEN = 3


def big_mailbox(side: Side, size: int = 10_000) -> Times:
    """Single commands on a mailbox of `size`."""
    messages = mails(1000)
    times = Times()

    with imap(side, 0) as line:
        for mailbox in ("big", "copies"):
            with contextlib.suppress(RuntimeError):
                line.imap(f"DELETE {mailbox}")
            line.imap(f"CREATE {mailbox}")
        began = time.perf_counter()
        append(line, "big", [messages[n % 1000] for n in range(size)])
        times["APPEND"] = [time.perf_counter() - began]
        line.imap("LOGOUT")
    for _ in range(OFTEN):
        with imap(side, 0) as line:
            times.of(line, "SELECT", "SELECT big")
            line.imap("LOGOUT")
    with imap(side, 0) as line:
        line.imap("SELECT big")
        times.of(line, "FETCH FLAGS", *["FETCH 1:* (FLAGS)"] * OFTEN)
        structures = "FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE)"
        line.imap(structures)
        times.of(line, "FETCH ENVELOPE BODYSTRUCTURE, again", *[structures] * OFTEN)
        times.of(line, "FETCH 1,000 bodies", *["UID FETCH 1:1000 (BODY.PEEK[])"] * OFTEN)
        times.of(line, "STORE 1:*", "STORE 1:* +FLAGS (\\Seen)", "STORE 1:* -FLAGS (\\Seen)", "STORE 1:* +FLAGS (\\Seen)")
        times.of(line, "COPY 1,000", *[f"COPY 1:{min(size, 1000)} copies"] * OFTEN)
        line.imap(f"STORE 1:{size // 2} +FLAGS.SILENT (\\Deleted)")
        times.of(line, "EXPUNGE half", "EXPUNGE")
        line.imap("CLOSE")
        line.imap("DELETE big")
        line.imap("DELETE copies")
        line.imap("LOGOUT")
    return times


def fill(side: Side, number: int, size: int) -> None:
    """Makes the INBOX of a user hold `size` messages, if it does not: ten thousand, and copies of them."""
    with imap(side, number) as line:
        there = int(re.search(rb"MESSAGES (\d+)", line.imap("STATUS INBOX (MESSAGES)"))[1])
        if there >= size:
            return
        line.imap("CREATE seed")
        seed, messages = min(size, 10_000), mails(1000)
        append(line, "seed", [messages[n % 1000] for n in range(seed)])
        line.imap("SELECT seed")
        for at in range(there, size, seed):
            line.imap(f"COPY 1:{min(seed, size - at)} INBOX")
        line.imap("CLOSE")
        line.imap("DELETE seed")


def huge_mailbox(side: Side, size: int = 500_000) -> Times:
    """Single commands on a mailbox of `size`, of a server that has just begun and of one that knows it."""
    fill(side, HUGE, size)
    side.begin("restart")
    times = Times()
    with imap(side, HUGE) as line:
        times.of(line, "SELECT, cold", "SELECT INBOX")
        times.of(line, "FETCH FLAGS", *["FETCH 1:* (FLAGS)"] * OFTEN)
        times.of(line, "SELECT, warm", *["SELECT INBOX"] * OFTEN)
        line.imap("LOGOUT")
    return times


HUGE, EMPTY = 98, 97


def deliver_into_huge(side: Side, size: int, messages: int) -> float:
    """How much longer delivery into a mailbox of `size` takes than into an empty one."""
    fill(side, HUGE, size)
    wipe_one(side, EMPTY)

    def took(number: int) -> float:
        with imap(side, number) as line:
            there = int(re.search(rb"MESSAGES (\d+)", line.imap("STATUS INBOX (MESSAGES)"))[1])
            began = time.monotonic()
            finish(source(side, 25, user(number), messages, 4096, 20))
            await_count(side, line, number, there + messages)
            return time.monotonic() - began

    return took(HUGE) / took(EMPTY)


def fetch_by_pop3(side: Side, count: int = 1000) -> float:
    """Messages a second of RETR, one at a time."""
    wipe(side, 1)
    finish(source(side, 25, user(0), count, 4096, 10))
    await_count(side, None, 0, count)
    with pop3(side, 0) as line:
        began = time.monotonic()
        for number in range(1, count + 1):
            line.pop3(f"RETR {number}", multi=True)
        took = time.monotonic() - began
        line.pop3("QUIT")
    return count / took


# -- memory and CPU ---------------------------------------------------------------------------------------------------


def stat(process: int) -> list[str]:
    """proc(5), from the state on: the parent is [1], and times are [11:15], those of children that are gone last."""
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()


def family(roots: list[int]) -> list[int]:
    """The processes and all below them."""
    children: dict[int, list[int]] = {}
    for process in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat(process)[1]), []).append(process)
    todo, found = list(roots), []
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu(roots: list[int]) -> float:
    """Seconds, user and system, of the processes and of all that they ever had below them. Postfix's come and go: what one
    took that is gone stands at its master."""
    ticks = 0
    for process in family(roots):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, stat(process)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(roots: list[int]) -> int:
    """The proportional set size of the processes and all below them, in KiB."""
    total = 0
    for process in family(roots):
        with contextlib.suppress(OSError), open(f"/proc/{process}/smaps_rollup") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M)[1])
    return total


def most_memory(process: int) -> int:
    """What a process had resident at most, in KiB."""
    with open(f"/proc/{process}/status") as status:
        return int(re.search(r"^VmHWM:\s+(\d+)", status.read(), re.M)[1])


def idle(side: Side, count: int = 1000, tls: bool = False) -> float:
    """KiB that an IMAP connection in IDLE costs. A server that can be restarted is compared with itself before anybody has
    signed in: what a hundred users' mailboxes and the hashing of their passwords take and keep counts too."""
    if side.can_restart:
        side.begin("restart")
    else:
        imap(side, 0, tls).__exit__()
        time.sleep(1)
    before, lines = memory(side.roots), []
    try:
        for number in range(count):
            line = imap(side, number % 100, tls)
            line.imap("SELECT INBOX")
            line.socket.sendall(b"i IDLE\r\n")
            line.until(b"+ ")
            lines.append(line)
        time.sleep(10)
        return (memory(side.roots) - before) / count
    finally:
        for line in lines:
            line.socket.close()


# -- a full queue -----------------------------------------------------------------------------------------------------

WAIT_PORT = 10028
READY, SENDS = "from start to ready", "from start to the first MAIL"
# Caches are filled and what came is tidied up by then.
REST = 10


class First:
    """A host that notes when it is first given a mail, and takes none."""

    def __init__(self):
        self.at: float | None = None
        self.come = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", WAIT_PORT))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self.socket.accept()[0] as peer, peer.makefile("rb") as lines:
            peer.sendall(b"220 sink.test\r\n")
            for line in lines:
                if line.startswith(b"MAIL"):
                    self.at = time.monotonic()
                    self.come.set()
                    return
                peer.sendall(b"250 sink.test\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def waiting(side: Side, messages: int = 1000, recipients: int = 1000) -> dict[str, float]:
    """What a server takes, in MB, that has so many messages to so many recipients in its queue, all of a domain that is held;
    and how soon after a start it is ready, and sends. It is a new server, and what it had is gone."""
    side.begin("start")
    side.control("ask", "queue", "hold", "--domain", "wait.test")
    finish(source(side, 25, "r@wait.test", messages, 1024, 4, recipients))
    time.sleep(REST)
    (process,) = side.roots
    found = {"memory at most, while they come (RSS)": most_memory(process), "memory at rest (PSS)": memory([process])}
    side.control("stop")
    began = time.monotonic()
    side.begin("serve")
    ready = time.monotonic() - began
    time.sleep(REST)
    (process,) = side.roots
    found |= {"memory at most, after a restart (RSS)": most_memory(process),
              "memory at rest, after a restart (PSS)": memory([process])}  # fmt: skip
    side.control("stop")
    # No server runs: nothing leaves before the start that is timed.
    side.control("ask", "queue", "resume", "--domain", "wait.test")
    with First() as first:
        began = time.monotonic()
        side.begin("serve")
        if not first.come.wait(PATIENCE):
            raise RuntimeError("nothing is sent after a start")
        sends = first.at - began
    return {part: kib / 1024 for part, kib in found.items()} | {READY: ready, SENDS: sends}
