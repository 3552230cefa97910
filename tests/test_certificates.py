"""Certificates: several by the name the client asks for, and new ones while the server runs."""

import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from postroom import BINARY, REPLY_SECONDS, Dialogue, eventually, run

pytestmark = [pytest.mark.ours, pytest.mark.needs("tls", "imap")]

ONE, TWO = "mail.one.test", "mail.two.test"
BOTH = "".join(f'[[tls]]\ncertificate = "{name}.pem"\nkey = "{name}.key"\n' for name in (ONE, TWO))


def make_certificate(directory: Path, name: str) -> Path:
    """A new self-signed certificate for `name`, moved into place as an administrator's tool would."""
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{key}.new", "-out", f"{chain}.new")  # fmt: skip
    Path(f"{key}.new").rename(key)
    Path(f"{chain}.new").rename(chain)
    return chain


def der(chain: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(chain.read_text())


def handshake(plain: socket.socket, name: str | None, trusted: Path | None = None) -> ssl.SSLSocket:
    """TLS over a connection. With `trusted` the certificate must name `name` and lead there."""
    if trusted:
        context = ssl.create_default_context(cafile=str(trusted))
    else:
        context = ssl._create_unverified_context()
    return context.wrap_socket(plain, server_hostname=name)


def shown(server, name: str | None, trusted: Path | None = None) -> bytes:
    """The certificate that is shown on 993 to a client that asks for `name`."""
    with socket.create_connection((server.address, server.ports["imaps"]), REPLY_SECONDS) as plain:
        with handshake(plain, name, trusted) as tls:
            return tls.getpeercert(binary_form=True)


def session(server, trusted: Path, name: str) -> Dialogue:
    """An IMAP session under TLS."""
    imap = server.connect("imaps")
    imap.socket = handshake(imap.socket, name, trusted)
    assert imap.line().startswith("* OK")
    return imap


@pytest.fixture
def server(make_server):
    """A server with two certificates."""
    made = make_server(accounts=1, own_certificate=False, extra=BOTH)
    for name in (ONE, TWO):
        make_certificate(made.directory, name)
    made.start()
    return made


def hangup(server):
    server.process.send_signal(signal.SIGHUP)


def test_the_name_chooses_under_tls(server):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    assert shown(server, ONE, trusted=one) == der(one)
    assert shown(server, TWO, trusted=two) == der(two)
    # Who asks for another name, or none, sees the first.
    assert shown(server, "mail.three.test") == shown(server, None) == der(one)


@pytest.mark.parametrize("port, commands", [
    ("imap", [("a STARTTLS", "a OK")]), ("pop3", [("STLS", "+OK")]),
    ("smtp", [("EHLO client.test", "250"), ("STARTTLS", "220")]),
    ("submission", [("EHLO client.test", "250"), ("STARTTLS", "220")]),
])  # fmt: skip
def test_the_name_chooses_after_starttls(server, port, commands):
    for name in (ONE, TWO):
        with server.connect(port) as dialogue:
            dialogue.reply()
            for command, answer in commands:
                dialogue.ask(command, answer)
            chain = server.directory / f"{name}.pem"
            dialogue.socket = handshake(dialogue.socket, name, trusted=chain)
            assert dialogue.socket.getpeercert(binary_form=True) == der(chain)


def test_a_renewed_certificate_is_served_at_once_and_old_sessions_live(server):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    before = der(one)
    with session(server, one, ONE) as imap:
        make_certificate(server.directory, ONE)
        assert shown(server, ONE) == before
        hangup(server)
        eventually("the new certificate is shown", lambda: shown(server, ONE) == der(one), 5)
        assert der(one) != before and shown(server, ONE, trusted=one) == der(one)
        assert shown(server, TWO, trusted=two) == der(two)
        imap.tagged("a", "NOOP")
    assert "a new certificate is in use" in server.tail() and f"{ONE}.pem" in server.tail()


def broken_key(directory: Path):
    (directory / f"{ONE}.key").write_bytes((directory / f"{TWO}.key").read_bytes())


def broken_chain(directory: Path):
    (directory / f"{ONE}.pem").write_text("no certificate\n")


def no_chain(directory: Path):
    (directory / f"{ONE}.pem").unlink()


@pytest.mark.parametrize("damage, words", [
    (broken_key, f"{ONE}.key: this is not the key of the certificate in "),
    (broken_chain, f"{ONE}.pem: there is no certificate in this file"), (no_chain, f"{ONE}.pem: No such file"),
])  # fmt: skip
def test_a_broken_certificate_changes_nothing_and_is_told(server, damage, words):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    before = der(one)
    damage(server.directory)
    make_certificate(server.directory, TWO)
    hangup(server)
    eventually("the mistake is in the log", lambda: words in server.tail(), 5)
    assert shown(server, ONE) == before
    assert shown(server, TWO, trusted=two) == der(two)  # the other one was renewed all the same
    # --check says it too, and a server does not start with it.
    done = subprocess.run([BINARY, "serve", "--check", "--config", server.config], capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "[tls]" in done.stderr, done
    server.stop()
    done = subprocess.run([BINARY, "serve", "--config", server.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr, done
    # Other commands do not need it.
    assert "u0@example.test" in server.cli("account", "list")
