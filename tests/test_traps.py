"""Hostile peers at the socket: what other mail servers paid for. The number in a name is that of the trap."""

import base64
import contextlib
import os
import re
import resource
import signal
import smtplib
import socket
import struct
import subprocess
import time
import urllib.request

import pytest

from mail import message
from postroom import DOMAIN, HOSTNAME, PASSWORD, REPLY_SECONDS, Closed, Dialogue, eventually

SERVER = {"accounts": 40}


def greeted(server, port: str = "smtp") -> Dialogue:
    smtp = server.connect(port, tls=port == "submissions")
    smtp.reply()
    smtp.ask("EHLO client.test", "250")
    return smtp


def subjects(server, user: str) -> list[bytes]:
    client = server.pop3(user)
    found = [line for n in range(client.stat()[0]) for line in client.top(n + 1, 0)[1] if line.startswith(b"Subject: ")]
    client.quit()
    return found


def memory(server) -> int:
    """The most that the server has ever had in memory, in KiB."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])


def processor_seconds(server) -> float:
    with open(f"/proc/{server.process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- 1: smuggling -----------------------------------------------------------------------------------------------------

FALSE_ENDS = [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\n\x00.\r\n"]


@pytest.mark.ours  # the peer's version still takes bare line feeds for line ends
@pytest.mark.parametrize("end", FALSE_ENDS, ids=[repr(end)[2:-1] for end in FALSE_ENDS])
def test_trap_01_only_crlf_dot_crlf_ends_a_message(server, end):
    user = server.user()
    inner = b"MAIL FROM:<forged@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\nx" % user.encode()
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<{user}>", "250")
        smtp.ask("DATA", "354")
        smtp.raw(b"Subject: outer\r\n\r\nbody" + end + inner + b"\r\n.\r\nNOOP\r\n")
        first = smtp.reply()
        assert first[:3] in ("250", "550", "554", "521", "500", "501"), first
        # One reply for all of it; then the order is as before, or the server has hung up.
        try:
            smtp.expect("250")
            assert smtp.silent(0.2), smtp.said[-5:]
        except Closed:
            assert first[0] == "5"
    assert b"Subject: smuggled" not in subjects(server, user)


# -- 3: commands before the handshake -----------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["smtp", "submission"])
def test_trap_03_smtp_starttls_injection(server, port):
    with greeted(server, port) as smtp:
        smtp.raw(b"STARTTLS\r\nMAIL FROM:<injected@elsewhere.test>\r\n")
        if not smtp.reply().startswith("220"):
            return  # refused as a whole: as good
        try:
            smtp.starttls()
        except OSError:
            return
        smtp.ask("EHLO client.test", "250")  # and no reply for what was injected comes first
        smtp.ask("RCPT TO:<u0@example.test>", "503" if port == "smtp" else "5")
        assert smtp.silent(0.2)


def test_trap_03_starttls_forgets_what_was_said_in_the_clear(server):
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask("STARTTLS", "503")  # not in the middle of a mail
        smtp.ask("RSET", "250")
        smtp.ask("STARTTLS", "220")
        smtp.starttls()
        if not server.peer:
            smtp.ask("MAIL FROM:<a@elsewhere.test>", "503")  # RFC 3207 §4.2: EHLO too is forgotten
        smtp.ask("EHLO client.test", "250")
        smtp.ask("RCPT TO:<u0@example.test>", "503")


def test_trap_03_pop3_stls_injection(server):
    with server.connect("pop3") as pop3:
        pop3.line()
        pop3.raw(b"STLS\r\nUSER u0@example.test\r\n")
        if not pop3.line().startswith("+OK"):
            return
        with contextlib.suppress(OSError, Closed):
            pop3.starttls()
            pop3.send(f"PASS {PASSWORD}")
            assert pop3.line().startswith("-ERR")
            assert pop3.silent(0.2)


@pytest.mark.needs("imap")
def test_trap_03_imap_starttls_injection(server):
    with server.connect("imap") as imap:
        imap.line()
        imap.raw(b"a STARTTLS\r\nb LOGIN u0@example.test pw\r\n")
        if not imap.line().startswith("a OK"):
            return
        with contextlib.suppress(OSError, Closed):
            imap.starttls()
            assert not any(line.startswith("b ") for line in imap.tagged("c", "NOOP"))
            imap.tagged("d", "SELECT INBOX", "BAD" if server.peer else "")


# -- 4, 12: literals ----------------------------------------------------------------------------------------------------


@pytest.mark.needs("imap")
@pytest.mark.parametrize("line", [
    "a LOGIN {99999999999999999999+}", "a LOGIN {4294967295+}", "a LOGIN {500000000+}", "a LOGIN {500000000}",
    "a AUTHENTICATE PLAIN {500000000+}", "a {500000000+}",
])  # fmt: skip
def test_trap_04_a_huge_literal_before_sign_in(server, line):
    before = None if server.peer else memory(server)
    with server.connect("imap") as imap:
        imap.line()
        imap.send(line)
        with contextlib.suppress(OSError):
            for _ in range(64):
                imap.socket.sendall(b"x" * (1 << 20))
        try:
            reply = imap.line()
        except (Closed, OSError):
            reply = "* BYE"
        assert reply.startswith(("* BYE", "a BAD", "a NO")), reply
    assert before is None or memory(server) < before + 16_384


@pytest.mark.needs("imap")
def test_trap_04_a_refused_literal_is_drained(server):
    evil = b"\r\nevil LOGOUT\r\n" * 10_000
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN u0@{DOMAIN} {PASSWORD}")
        imap.raw(b"b SUBSCRIBE {%d+}\r\n" % len(evil) + evil + b"\r\n")
        try:
            while not (line := imap.line()).startswith("b "):
                assert not line.startswith("evil")
            assert line.startswith(("b BAD", "b NO"))
            assert not any("evil" in line for line in imap.tagged("c", "NOOP"))
        except (Closed, OSError):
            assert any("BYE" in line for line in imap.said)  # RFC 7888 §4 lets it hang up instead


@pytest.mark.needs("imap")
def test_trap_04_the_sum_of_literals_is_bounded(server):
    before = None if server.peer else memory(server)
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN u0@{DOMAIN} {PASSWORD}")
        imap.tagged("b", "SELECT INBOX")
        with contextlib.suppress(OSError):
            imap.socket.sendall(b"c SEARCH ALL")
            for _ in range(1000):
                imap.socket.sendall(b" TEXT {60000+}\r\n" + b"x" * 60_000)
            imap.socket.sendall(b"\r\n")
        with contextlib.suppress(Closed, OSError):
            while not (line := imap.line()).startswith("c "):
                pass
            assert server.peer or not line.startswith("c OK")
    assert before is None or memory(server) < before + 16_384


@pytest.mark.needs("imap")
def test_trap_12_multiappend_to_a_missing_mailbox_takes_its_literals(server):
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN u0@{DOMAIN} {PASSWORD}")
        imap.raw(b"b APPEND nowhere {9+}\r\nx LOGOUT\n {9+}\r\ny LOGOUT\n\r\nc NOOP\r\n")
        lines = imap.until("c")
        assert len([line for line in lines if line.startswith("b NO [TRYCREATE]")]) == 1
        assert not any(line.startswith(("x ", "y ")) for line in lines)


# -- 19: backscatter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["smtp", "lmtp"])
def test_trap_19_unknown_recipients_are_refused_before_the_data(server, port):
    if server.peer and port == "lmtp":
        return  # the peer's user database takes every name
    known = server.user()
    with server.connect(port) as smtp:
        smtp.reply()
        smtp.ask("LHLO client.test" if port == "lmtp" else "EHLO client.test", "250")
        smtp.ask("MAIL FROM:<forged@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<nobody@{DOMAIN}>", "550 5.1.1")
        smtp.ask("DATA", "5")  # no recipients: RFC 5321 §3.3
        smtp.ask(f"RCPT TO:<{known}>", "250")
        smtp.ask("DATA", "354")
        smtp.raw(message() + b".\r\n")
        smtp.expect("250")
        assert smtp.silent(0.1)


@pytest.mark.needs("queue")
def test_trap_19_nothing_is_queued_for_a_forged_sender(server):
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<forged@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<nobody@{DOMAIN}>", "550")
    assert server.cli("queue", "list", "--json").strip() == "[]"


# -- 20: dead peers -----------------------------------------------------------------------------------------------------


@pytest.mark.ours
def test_trap_20_a_handshake_that_never_comes(server):
    with server.connect("submissions") as one, server.connect("pop3s") as two:
        for silent in (one, two):
            silent.raw(b"\x16\x03\x01")
        for silent in (one, two):
            assert silent.closed(65), "a peer that is silent in the handshake keeps its slot"


@pytest.mark.ours
def test_trap_20_a_reader_that_never_reads(server):
    """Replies that nobody takes fill no memory: the server stops reading until they are taken."""
    before = memory(server)
    with greeted(server) as smtp:
        smtp.socket.settimeout(2)
        with contextlib.suppress(TimeoutError, OSError):
            for _ in range(200):
                smtp.socket.sendall(b"NOOP\r\n" * 100_000)
    assert memory(server) < before + 16_384


# -- 24: out of file descriptors ----------------------------------------------------------------------------------------


@pytest.mark.ours
def test_trap_24_no_file_descriptors_left(make_server):
    server = make_server()
    server.start()
    pid = server.process.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, hard))
    many = [socket.create_connection((server.address, server.ports["smtp"])) for _ in range(40)]
    time.sleep(1)
    before = processor_seconds(server)
    time.sleep(2)
    assert processor_seconds(server) - before < 0.5, "the accept loop spins"
    for each in many:
        each.close()

    def answers() -> bool:
        with server.connect("smtp") as smtp, contextlib.suppress(Closed, OSError):
            return smtp.reply().startswith("220")
        return False

    eventually("it accepts again", answers, 10, 0.5)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


# -- 28: sign-in --------------------------------------------------------------------------------------------------------

BAD_TOKENS = ["!!!!", "AA=A", "A", "====", "AHUwAHB3AA==", "AAAA", "/w==", "dTAgcHc="]


@pytest.mark.ours  # over a NUL in the wrong place Postfix loses its connection to Dovecot
@pytest.mark.parametrize("token", BAD_TOKENS)
def test_trap_28_bad_base64_and_bad_tokens(server, token):
    with greeted(server, "submission") as smtp:
        smtp.ask(f"AUTH PLAIN {token}", "5")
        smtp.ask("NOOP", "250")
        smtp.ask("AUTH PLAIN", "334")
        smtp.ask(token, "5")
        smtp.ask("NOOP", "250")
        smtp.ask("AUTH LOGIN", "334")
        smtp.send(token)
        if smtp.reply().startswith("334"):
            assert smtp.ask(token, "")[0] in "45"  # wrong, or one wrong too many
        smtp.ask("NOOP", "250")


def test_trap_28_an_endless_token(server):
    with greeted(server, "submission") as smtp:
        smtp.ask("AUTH PLAIN", "334")
        with contextlib.suppress(OSError):
            for _ in range(16):
                smtp.socket.sendall(b"A" * (1 << 20))
            smtp.socket.sendall(b"\r\n")
        with contextlib.suppress(Closed, OSError):
            assert smtp.reply()[0] in "45"


@pytest.mark.ours
def test_trap_28_a_connection_has_few_guesses(server):
    with greeted(server, "submission") as smtp:
        token = base64.b64encode(b"\0u30@example.test\0guess").decode()
        with contextlib.suppress(Closed, OSError):
            for _ in range(20):
                smtp.ask(f"AUTH PLAIN {token}", "")
            raise AssertionError("twenty guesses in one connection")


@pytest.mark.ours
def test_trap_28_guessing_does_not_lock_out_the_owner(make_server):
    server = make_server()
    server.start()
    wrong, right = (base64.b64encode(f"\0u1@{DOMAIN}\0{word}".encode()).decode() for word in ["guess", PASSWORD])

    def sign_in(source: str, token: str) -> str:
        with socket.create_connection((server.address, server.ports["submissions"]), 30, (source, 0)) as plain:
            tls = server.tls().wrap_socket(plain, server_hostname=HOSTNAME)
            tls.settimeout(REPLY_SECONDS)
            with tls, tls.makefile("rwb") as stream:
                stream.readline()
                stream.write(b"EHLO client.test\r\nAUTH PLAIN %s\r\n" % token.encode())
                stream.flush()
                while (line := stream.readline())[3:4] == b"-":
                    pass
                return stream.readline().decode() if line.startswith(b"250") else line.decode()

    assert sign_in("127.0.0.3", right).startswith("235")
    answers = [sign_in("127.0.0.2", wrong) for _ in range(30)]
    assert not any(answer.startswith("235") for answer in answers)
    began = time.monotonic()
    assert sign_in("127.0.0.3", right).startswith("235")
    assert time.monotonic() - began < 5


# -- 32, 21: the disk ---------------------------------------------------------------------------------------------------


class Strace:
    """strace on the running server with an injection, for the time of a `with`."""

    def __init__(self, server, injection: str):
        calls = injection.partition(":")[0]
        self.command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={injection}",
                        "-p", str(server.process.pid)]  # fmt: skip
        self.pid = server.process.pid

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE)

        def attached() -> bool:
            assert self.process.poll() is None, self.process.stderr.read()
            tasks = os.listdir(f"/proc/{self.pid}/task")
            return all("TracerPid:\t0\n" not in open(f"/proc/{self.pid}/task/{task}/status").read() for task in tasks)

        eventually("strace is attached", attached)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self.process.stderr.close()


SYNC = "fsync,fdatasync,sync_file_range,msync"


@pytest.mark.ours
@pytest.mark.parametrize("port", ["smtp", "lmtp"])
def test_trap_32_250_comes_after_the_sync(server, port):
    with server.connect(port) as smtp:
        smtp.reply()
        smtp.ask("LHLO client.test" if port == "lmtp" else "EHLO client.test", "250")
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<{server.user()}>", "250")
        smtp.ask("DATA", "354")
        with Strace(server, f"{SYNC}:delay_enter=700000"):
            began = time.monotonic()
            smtp.raw(message() + b".\r\n")
            smtp.expect("250")
            assert time.monotonic() - began > 0.65


@pytest.mark.embedded
@pytest.mark.ours
@pytest.mark.needs("imap")
def test_trap_32_ok_to_a_flag_comes_after_the_sync(server):
    user = server.user()
    server.deliver(user, message())
    with server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN {user} {PASSWORD}")
        imap.tagged("b", "SELECT INBOX")
        with Strace(server, f"{SYNC}:delay_enter=700000"):
            began = time.monotonic()
            imap.tagged("c", "STORE 1 +FLAGS (\\Flagged)")
            assert time.monotonic() - began > 0.65


# What statfs(2) tells on a 64-bit machine: type, then the block size, blocks, those that are free, and free for us.
NEARLY_FULL = "statfs:poke_exit=@arg2=" + struct.pack("<5Q", 0xEF53, 4096, 1 << 24, 1 << 10, 1 << 10).hex()


@pytest.mark.embedded
@pytest.mark.ours
@pytest.mark.needs("imap")
def test_trap_32_a_nearly_full_disk_takes_no_new_mail(server):
    user = server.user()
    server.deliver(user, message("before"))
    server.deliver(user, message("deleted"))
    with greeted(server) as smtp, server.connect("imap") as imap:
        imap.line()
        imap.tagged("a", f"LOGIN {user} {PASSWORD}")
        imap.tagged("b", "SELECT INBOX")

        def full() -> bool:
            smtp.send("MAIL FROM:<a@elsewhere.test>")
            reply = smtp.reply()
            smtp.ask("RSET", "250")
            return reply.startswith("452 4.3.1 ")

        def health() -> tuple[int, bytes]:
            with urllib.request.urlopen(f"http://{server.address}:{server.ports['http']}/healthz", timeout=10) as answer:
                return answer.status, answer.read()

        assert health() == (200, b"ok\n")
        with Strace(server, NEARLY_FULL):
            eventually("new mail is refused", full)
            # Who reads and deletes mail is not to lose the server.
            assert health() == (200, b"ok, but the disk is nearly full: new mail is refused\n")
            imap.send("c APPEND INBOX {5}")
            assert imap.line().startswith("c NO [UNAVAILABLE] ")
            imap.send("d APPEND INBOX {5+}\r\nabcde")
            assert imap.line().startswith("d NO [UNAVAILABLE] ")
            assert subjects(server, user) == [b"Subject: before", b"Subject: deleted"]
            imap.tagged("e", "STORE 2 +FLAGS (\\Deleted)")
            imap.tagged("f", "EXPUNGE")
        eventually("it takes mail again", lambda: not full())
        imap.tagged("g", "APPEND INBOX {5+}\r\nabcde")
    server.deliver(user, message("after"))
    assert subjects(server, user) == [b"Subject: before", b"Subject: after"]
    server.verify()


# Writes to the socket must not fail, so only the positioned ones do, with which files are written.
FAULTS = {
    "fsync_fails": f"{SYNC}:error=EIO", "fsync_fails_once": f"{SYNC}:error=EIO:when=1",
    "disk_full": "pwrite64,pwritev,pwritev2:error=ENOSPC",
}  # fmt: skip


@pytest.mark.embedded
@pytest.mark.ours
@pytest.mark.parametrize("lines", [1, 10_000], ids=["small", "large"])
@pytest.mark.parametrize("fault", FAULTS)
def test_trap_21_a_sick_disk_is_4xx_and_loses_nothing(server, fault, lines):
    user = server.user()
    sent = [message(f"number {n}", "one of many lines, so that it does not wait in memory\r\n" * lines) for n in range(5)]
    server.deliver(user, sent[0])
    accepted = {0}
    with greeted(server) as smtp, Strace(server, FAULTS[fault]):
        for n in range(1, 4):
            smtp.ask("MAIL FROM:<a@elsewhere.test>", "")
            smtp.ask(f"RCPT TO:<{user}>", "")
            if not smtp.ask("DATA", "").startswith("354"):
                smtp.ask("RSET", "250")
                continue
            smtp.raw(sent[n] + b".\r\n")
            reply = smtp.reply()
            assert reply[0] in "24", reply
            accepted |= {n} if reply.startswith("250") else set()
    assert accepted == {0} or fault == "fsync_fails_once", "acknowledged though nothing could be kept"

    # Without a restart it is well again.
    def heals() -> bool:
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.deliver(user, sent[4])
            return True
        return False

    eventually("it takes mail again", heals, 20, 0.5)
    assert sorted(subjects(server, user)) == sorted(b"Subject: number %d" % n for n in accepted | {4})
    server.verify()
