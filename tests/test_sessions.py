"""Who is connected, and for how long: sessions end with the account and the credential they were signed in with."""

import base64
import contextlib
import json
import poplib
import resource
import smtplib
import socket
import ssl
import subprocess

import pytest

from mail import message
from postroom import BINARY, PASSWORD, Dialogue, eventually

SERVER = {"accounts": 20}

STRANGER = "stranger@elsewhere.test"


def plain(user: str, password: str = PASSWORD) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def submission(server, user: str, password: str = PASSWORD) -> Dialogue:
    smtp = server.connect("submission")
    smtp.expect("220")
    smtp.ask("EHLO client.test", "250")
    smtp.ask(f"AUTH PLAIN {plain(user, password)}", "235")
    return smtp


def idling(server, user: str, password: str = PASSWORD) -> Dialogue:
    imap = server.connect("imap")
    imap.line()
    imap.tagged("a", f'LOGIN {user} "{password}"')
    imap.tagged("b", "SELECT INBOX")
    imap.send("c IDLE")
    assert imap.line().startswith("+")
    return imap


def maildrop(server, user: str, password: str = PASSWORD) -> Dialogue:
    pop3 = server.connect("pop3")
    pop3.line()
    for said in (f"USER {user}", f"PASS {password}"):
        pop3.send(said)
        assert pop3.line().startswith("+OK")
    return pop3


def disable(server, user):
    server.cli("account", "change", user, "--disabled", "true")


def remove(server, user):
    server.cli("account", "remove", user)


def new_password(server, user):
    server.cli("account", "password", user, "--password-stdin", stdin="another")


@pytest.mark.ours
@pytest.mark.parametrize("change", [disable, remove, new_password])
def test_sessions_end_with_the_account(server, change):
    user, other = server.user(), server.user()
    server.deliver(user, message())
    with contextlib.ExitStack() as stack:
        smtp, imap, pop3 = (stack.enter_context(open(server, user)) for open in (submission, idling, maildrop))
        sending = stack.enter_context(submission(server, user))
        sending.ask("MAIL FROM:<>", "250")
        sending.ask(f"RCPT TO:<{other}>", "250")
        sending.ask("DATA", "354")
        sending.raw(message("half a mail"))
        bystander = stack.enter_context(idling(server, other))
        pop3.send("DELE 1")
        assert pop3.line().startswith("+OK")

        change(server, user)
        # With the account goes its INBOX: whichever the session hears first.
        said = ("BYE Signed out", "BYE The mailbox was deleted")
        goodbye = imap.line()
        assert any(words in goodbye for words in said[: 2 if change is remove else 1])
        assert smtp.reply().startswith("421 4.7.0 Signed out")
        assert sending.reply().startswith("421 4.7.0 Signed out")
        assert pop3.line().startswith("-ERR [AUTH] Signed out")
        for each in (smtp, imap, pop3, sending):
            assert each.closed(5)
        bystander.send("DONE")
        bystander.until("c")
    # Half a mail was not taken, and what was only marked is still there.
    assert server.pop3(other).stat()[0] == 0
    if change is new_password:
        assert server.pop3(user, "another").stat()[0] == 1


@pytest.mark.ours
def test_pipelined_behind_the_change_nothing_is_sent(server):
    """A session that is never idle is seen to end as well, and cannot submit, not even from nobody."""
    user, other = server.user(), server.user()
    with server.smtp("submission") as smtp:
        smtp.login(user, PASSWORD)
        smtp.sendmail("", other, message())
        remove(server, user)

        def signed_out() -> bool:
            try:
                smtp.docmd("NOOP")
                return False
            except smtplib.SMTPServerDisconnected:
                return True

        eventually("the session ends", signed_out, 5)
        smtp.close()
    assert server.pop3(other).stat()[0] == 1


@pytest.mark.ours
@pytest.mark.parametrize("unnamed", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"], ids=["UNKNOWN", "LOCAL"])
def test_whom_a_proxy_does_not_name_has_none_of_its_trust(make_server, unnamed):
    server = make_server(proxied=True, trusted=("127.0.0.0/8",), cleartext_login=True)
    server.start()

    def forwarded(port: str, header: bytes) -> Dialogue:
        dialogue = server.connect(port)
        dialogue.socket.sendall(header)
        return dialogue

    for header, trusted in [(b"PROXY TCP4 127.0.0.9 127.0.0.1 4000 25\r\n", True), (unnamed, False)]:
        with forwarded("smtp", header) as smtp:
            smtp.expect("220")
            assert ("AUTH" in smtp.ask("EHLO client.test", "250")) == trusted
            smtp.ask(f"MAIL FROM:<{STRANGER}>", "250")
            smtp.ask("RCPT TO:<victim@elsewhere.test>", "250" if trusted else "550 5.7.1")
        with forwarded("submission", header) as smtp:
            smtp.expect("220")
            smtp.ask("EHLO client.test", "250")
            smtp.ask(f"MAIL FROM:<{STRANGER}>", "250" if trusted else "530 5.7.0")
        with forwarded("imap", header) as imap:
            assert ("LOGINDISABLED" in imap.line()) != trusted
        with forwarded("pop3", header) as pop3:
            pop3.line()
            pop3.send("USER u0@example.test")
            assert pop3.line().startswith("+OK" if trusted else "-ERR")
    # Who delivers on this machine needs no header, though the balancer is on this machine too.
    with server.connect("lmtp") as lmtp:
        lmtp.expect("220")


@pytest.mark.ours
def test_what_binds_to_the_channel_is_offered_where_it_can_be_bound_to(make_server):
    server = make_server(extra="[sign_in]\nscram = true\n")
    server.start()
    for newest, bound in [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)]:
        context = server.tls()
        context.maximum_version = newest

        def offered(port: str, ask: str, end: str, begin: str = "") -> str:
            """What is offered under TLS, from the first octet or after `begin`."""
            with server.connect(port) as dialogue:
                if begin:
                    dialogue.line()
                    dialogue.send(begin)
                    dialogue.line()
                wrapped = context.wrap_socket(dialogue.socket, server_hostname=server.address)
                dialogue.socket = wrapped
                if not begin:
                    dialogue.line()
                dialogue.send(ask)
                lines = []
                while not lines or not lines[-1].startswith(end):
                    lines.append(dialogue.line())
                return "\n".join(lines)

        for said in [
            offered("submissions", "EHLO client.test", "250 "),
            offered("pop3s", "CAPA", "."),
            offered("pop3", "CAPA", ".", "STLS"),
            offered("imaps", "a CAPABILITY", "a "),
        ]:
            assert "SCRAM-SHA-256" in said and ("SCRAM-SHA-256-PLUS" in said) == bound, said
        with server.smtp("submission") as smtp:
            smtp.starttls(context=context)
            smtp.ehlo()
            assert ("SCRAM-SHA-256-PLUS" in smtp.esmtp_features["auth"]) == bound


@pytest.mark.ours
def test_the_log_says_who_signed_in_and_who_did_not(server):
    user, since = server.user(), server.log.stat().st_size
    for _ in range(3):
        server.pop3(user).quit()
    with server.smtp("submission") as smtp, pytest.raises(smtplib.SMTPAuthenticationError):
        smtp.login(user, "hunter2secret")
    with pytest.raises(poplib.error_proto):
        server.pop3("nobody@example.test", "hunter2secret")
    assert server.says("nobody@example.test", since)
    text = server.tail(since, lines=1000)
    lines = [json.loads(line) for line in text.splitlines() if "sign" in line]
    said = [each["fields"] | {"level": each["level"]} for each in lines]
    keys = ("level", "message", "login", "service", "by")
    assert [tuple(each.get(key) for key in keys) for each in said] == [
        ("INFO", "signed in", user, "pop3", "password"),
        *[("INFO", "sign-in refused", user, "smtp", None)] * 2,  # smtplib tries PLAIN, then LOGIN
        ("INFO", "sign-in refused", "nobody@example.test", "pop3", None),
    ]
    assert all(each["peer"].startswith("127.") for each in said)
    assert "hunter2" not in text and base64.b64encode(b"hunter2secret").decode() not in text


@pytest.mark.ours
def test_the_limit_of_open_files_is_raised_and_a_low_one_is_warned_of(make_server):
    server = make_server()
    server.start()
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard
    server.stop()
    assert "open files make room" not in server.tail()
    low = ["prlimit", "--nofile=512:1024", BINARY]
    doctor = subprocess.run([*low, "doctor", "--offline", "--config", server.config], capture_output=True, text=True)
    assert "1024 open files make room for 768 connections only" in doctor.stdout
    server.through = low[:2]
    server.start()
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (1024, 1024)
    assert server.says("1024 open files make room for 768 connections only")


@pytest.mark.ours
def test_a_server_that_says_it_is_ready_can_be_stopped(make_server):
    """Nine of a hundred were killed instead, when the signal was waited for only after the word was out."""
    server = make_server()
    for _ in range(30):
        command = [BINARY, "serve", "--config", server.config]
        with server.log.open("ab") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout.readline() == b"postroom: ready\n"
            process.terminate()
            assert process.wait(30) == 0, server.tail()


@pytest.mark.ours
def test_the_lmtp_socket_has_its_mode_and_goes_with_the_server(make_server):
    server = make_server()
    text = server.config.read_text()
    tcp = f'lmtp = "{server.address}:{server.ports["lmtp"]}"'
    path = server.directory / "lmtp"
    assert tcp in text
    server.config.write_text(text.replace(tcp, f'lmtp = "unix:{path}"\nlmtp_mode = 0o660'))
    server.start()
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as lmtp:
        lmtp.connect(str(path))
        assert lmtp.recv(100).startswith(b"220 ")
    server.stop()
    assert not path.exists()
