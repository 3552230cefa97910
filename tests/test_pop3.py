"""POP3: what a mail program does that fetches its mail, by hand and with curl, poplib and fetchmail."""

import base64
import poplib

import pytest

from mail import message, pop3_all
from postroom import DOMAIN, HOSTNAME, PASSWORD, Dialogue, Failed, eventually, run

SERVER = {"accounts": 40}


def filled(server, count: int) -> tuple[str, list[bytes]]:
    """An account with that many messages, and what they are."""
    user, sent = server.user(), [message(f"message {n}", f"line {n}\r\n.\r\n..dots\r\n") for n in range(count)]
    for each in sent:
        server.deliver(user, each)
    eventually(f"{count} messages for {user}", lambda: counted(server, user) == count)
    return user, sent


def counted(server, user: str) -> int:
    client = server.pop3(user)
    count = client.stat()[0]
    client.quit()
    return count


def opened(server, user: str = "") -> Dialogue:
    """A raw session: before sign-in without a user, in the transaction state with one."""
    pop3 = server.connect("pop3")
    assert pop3.line().startswith("+OK")
    if user:
        ask(pop3, f"USER {user}")
        ask(pop3, f"PASS {PASSWORD}")
    return pop3


def ask(pop3: Dialogue, line: str, expect: str = "+OK") -> str:
    pop3.send(line)
    reply = pop3.line()
    assert reply.startswith(expect), f"{line!r}: {reply!r}"
    return reply


def listing(pop3: Dialogue, line: str) -> list[str]:
    ask(pop3, line)
    return list(iter(pop3.line, "."))


def test_retrieve(server):
    user, sent = filled(server, 3)
    client = server.pop3(user)
    stored = pop3_all(client)
    assert all(any(each.endswith(one) for each in stored) for one in sent)
    # RFC 1939 §11: sizes are exact, in octets with CRLF ends, without the dot-stuffing.
    assert [int(line.split()[1]) for line in client.list()[1]] == [len(each) for each in stored]
    assert client.stat() == (3, sum(map(len, stored)))
    client.quit()


def test_capabilities(server):
    with opened(server) as pop3:
        capabilities = {line.split()[0]: line for line in listing(pop3, "CAPA")}
    wanted = {"TOP", "USER", "SASL", "UIDL", "RESP-CODES", "PIPELINING", "STLS"}
    if not server.peer:
        wanted |= {"AUTH-RESP-CODE", "UTF8", "EXPIRE", "IMPLEMENTATION"}
        assert capabilities["EXPIRE"] == "EXPIRE NEVER"
    assert wanted <= set(capabilities)
    assert "PLAIN" in capabilities["SASL"].split()


def test_top(server):
    user, (sent,) = filled(server, 1)
    with opened(server, user) as pop3:
        head = [line.encode() for line in listing(pop3, "TOP 1 0")]
        assert head[-1] == b"" and b"\r\n".join(head).endswith(sent.partition(b"\r\n\r\n")[0] + b"\r\n")
        assert listing(pop3, "TOP 1 1")[-1] == "line 0"
        assert len(listing(pop3, "TOP 1 1000")) == len(listing(pop3, "RETR 1"))
        ask(pop3, "TOP 1", "-ERR")
        ask(pop3, "TOP 2 0", "-ERR")


def test_uidl_is_stable_and_unique(server):
    user, _ = filled(server, 3)
    with opened(server, user) as pop3:
        before = listing(pop3, "UIDL")
        ids = [line.split(" ")[1] for line in before]
        assert len(set(ids)) == 3
        assert all(0 < len(each) <= 70 and each.isascii() and each.isprintable() for each in ids)  # RFC 1939 §7
        assert ask(pop3, "UIDL 2") == f"+OK 2 {ids[1]}"
        ask(pop3, "QUIT")
    server.restart()
    with opened(server, user) as pop3:
        assert listing(pop3, "UIDL") == before
    server.deliver(user, message())
    eventually("the fourth", lambda: counted(server, user) == 4)
    with opened(server, user) as pop3:
        assert listing(pop3, "UIDL")[:3] == before


@pytest.mark.ours
def test_the_id_of_a_copy_stays_when_the_other_goes(server):
    user, _ = filled(server, 1)
    imap = server.connect("imap")
    imap.line()
    imap.tagged("a", f'LOGIN "{user}" "{PASSWORD}"')
    imap.tagged("b", "SELECT INBOX")
    imap.tagged("c", "COPY 1 INBOX")
    with opened(server, user) as pop3:
        first, second = [line.split(" ")[1] for line in listing(pop3, "UIDL")]
        assert first != second
        ask(pop3, "DELE 1")
        ask(pop3, "QUIT")
    with opened(server, user) as pop3:
        assert listing(pop3, "UIDL") == [f"1 {second}"]


def test_deletion_happens_at_quit(server):
    user, _ = filled(server, 4)
    with opened(server, user) as pop3:
        ids = [line.split(" ")[1] for line in listing(pop3, "UIDL")]
        ask(pop3, "DELE 2")
        ask(pop3, "DELE 3")
        # RFC 1939 §5: the numbers stay, the deleted ones are gone from every answer.
        assert [line.split()[0] for line in listing(pop3, "LIST")] == ["1", "4"]
        assert ask(pop3, "STAT").split()[1] == "2"
        for line in ["RETR 2", "DELE 2", "UIDL 2", "LIST 3", "TOP 3 0"]:
            ask(pop3, line, "-ERR")
        ask(pop3, "QUIT")
    with opened(server, user) as pop3:
        assert [line.split(" ")[1] for line in listing(pop3, "UIDL")] == [ids[0], ids[3]]


def test_rset_takes_deletions_back(server):
    user, _ = filled(server, 2)
    with opened(server, user) as pop3:
        ask(pop3, "DELE 1")
        ask(pop3, "RSET")
        ask(pop3, "QUIT")
    assert counted(server, user) == 2


def test_a_dropped_connection_deletes_nothing(server):
    user, _ = filled(server, 2)
    with opened(server, user) as pop3:
        ask(pop3, "DELE 1")
    # The session that was cut may still be ending.
    eventually("both messages again", lambda: not_in_use(server, user) == 2)


def not_in_use(server, user: str) -> int | None:
    try:
        return counted(server, user)
    except poplib.error_proto as error:
        assert b"[IN-USE]" in error.args[0]
        return None


def test_two_sessions_at_once(server):
    # RFC 1939 §3 wants an exclusive lock; RFC 2449 §8.1.1 names its refusal. Sharing (as Dovecot does) is as good when
    # each session keeps its own numbers: so either is taken, and in both the first session is not disturbed.
    user, _ = filled(server, 3)
    with opened(server, user) as first, opened(server) as second:
        ask(first, "DELE 1")
        ask(second, f"USER {user}")
        second.send(f"PASS {PASSWORD}")
        reply = second.line()
        if reply.startswith("+OK"):
            assert len(listing(second, "LIST")) == 3
        else:
            assert "[IN-USE]" in reply
        ask(first, "QUIT")
    assert eventually("one gone", lambda: not_in_use(server, user)) == 2


def test_mail_that_arrives_meanwhile_waits_for_the_next_session(server):
    user, _ = filled(server, 1)
    with opened(server, user) as pop3:
        server.deliver(user, message())
        ask(pop3, "NOOP")
        assert len(listing(pop3, "LIST")) == 1
        ask(pop3, "QUIT")
    eventually("the second", lambda: not_in_use(server, user) == 2)


def test_pipelining(server):
    user, _ = filled(server, 3)
    with opened(server, user) as pop3:
        pop3.raw(b"STAT\r\nUIDL 1\r\nRETR 9\r\nTOP 1 0\r\nDELE 1\r\nRSET\r\nQUIT\r\n")
        assert [pop3.line()[:3] for _ in range(3)] == ["+OK", "+OK", "-ER"]
        assert pop3.line()[:3] == "+OK"
        list(iter(pop3.line, "."))
        assert [pop3.line()[:3] for _ in range(3)] == ["+OK"] * 3
        assert pop3.closed()


def test_syntax(server):
    user, _ = filled(server, 1)
    with opened(server) as pop3:
        ask(pop3, "STAT", "-ERR")
        ask(pop3, "PASS x", "-ERR")
        ask(pop3, "FROBNICATE", "-ERR")
    with opened(server, user) as pop3:
        for line in ["RETR", "RETR 0", "RETR -1", "RETR x", "RETR 99999999999999999999", "DELE", "LIST 2", "USER a"]:
            ask(pop3, line, "-ERR")
        assert ask(pop3, "stat").split()[1] == "1"


def test_wrong_password(server):
    with opened(server) as pop3:
        ask(pop3, f"USER u0@{DOMAIN}")
        reply = ask(pop3, "PASS wrong", "-ERR")
        assert "[AUTH]" in reply  # RFC 3206 §4
        ask(pop3, f"USER nobody@{DOMAIN}")
        assert ask(pop3, "PASS wrong", "-ERR") == reply  # nothing tells which names exist


def test_sasl(server):
    first = base64.b64encode(f"\0u0@{DOMAIN}\0{PASSWORD}".encode()).decode()
    with opened(server) as pop3:
        ask(pop3, "AUTH PLAIN", "+ ")
        ask(pop3, "*", "-ERR")
        ask(pop3, "AUTH PLAIN", "+ ")
        ask(pop3, first)
        ask(pop3, "STAT")
    with opened(server) as pop3:
        ask(pop3, f"AUTH PLAIN {first}")
        ask(pop3, "QUIT")


def test_stls(server):
    with opened(server) as pop3:
        ask(pop3, "STLS")
        pop3.starttls()
        assert "STLS" not in listing(pop3, "CAPA")  # RFC 2595 §4
        ask(pop3, "STLS", "-ERR")
        ask(pop3, f"USER u0@{DOMAIN}")
        ask(pop3, f"PASS {PASSWORD}")


def test_never_in_the_clear(make_server):
    server = make_server(cleartext_login=False)
    server.start()
    with opened(server) as pop3:
        capabilities = listing(pop3, "CAPA")
        assert "USER" not in capabilities and not any(line.startswith("SASL ") for line in capabilities)
        pop3.send(f"USER u0@{DOMAIN}")
        if pop3.line().startswith("+OK"):
            ask(pop3, f"PASS {PASSWORD}", "-ERR")
        ask(pop3, "STLS")
        pop3.starttls()
        assert "USER" in listing(pop3, "CAPA")
        ask(pop3, f"USER u0@{DOMAIN}")
        ask(pop3, f"PASS {PASSWORD}")


# -- real programs --------------------------------------------------------------------------------------------------


def test_poplib_over_tls(server):
    user, (sent,) = filled(server, 1)
    client = poplib.POP3_SSL(server.address, server.ports["pop3s"], timeout=30, context=server.tls())
    client.user(user)
    client.pass_(PASSWORD)
    assert pop3_all(client)[0].endswith(sent)
    client.quit()


def test_curl(server):
    user, sent = filled(server, 2)
    common = ["curl", "-sS", "--user", f"{user}:{PASSWORD}", "--cacert", server.certificate, "--ssl-reqd"]
    plain = f"pop3://{server.address}:{server.ports['pop3']}"
    over_tls = f"pop3s://{server.address}:{server.ports['pop3s']}"
    assert run(*common, f"{plain}/").count(b"\r\n") == 2
    assert any(run(*common, f"{plain}/1").endswith(each) for each in sent)
    assert run(*common, f"{over_tls}/", "-X", "UIDL").count(b"\r\n") == 2
    run(*common, f"{over_tls}/1", "-X", "DELE", "-I")
    assert counted(server, user) == 1
    with pytest.raises(Failed):
        run("curl", "-sS", "--user", f"{user}:wrong", f"{plain}/")


@pytest.mark.parametrize("keep", [True, False], ids=["leave_on_server", "download_and_delete"])
def test_fetchmail(server, tmp_path, keep):
    user, sent = filled(server, 5)
    received, settings = tmp_path / "received", tmp_path / "fetchmailrc"
    settings.write_text(
        f"set no bouncemail\npoll {server.address} protocol pop3 port {server.ports['pop3s']} uidl\n"
        f"user '{user}' password '{PASSWORD}' {'keep' if keep else 'nokeep'} ssl sslcertck\n"
        f"sslcertfile '{server.certificate}' sslcommonname '{HOSTNAME}' mda 'cat >> {received}'\n"
    )
    settings.chmod(0o600)
    poll = ["fetchmail", "-f", settings, "-i", tmp_path / "ids", "--pidfile", tmp_path / "pid", "--nosyslog"]
    run(*poll)
    assert all(f"Subject: message {n}".encode() in received.read_bytes() for n in range(5))
    assert counted(server, user) == (5 if keep else 0)
    # The second poll fetches only what is new; fetchmail's exit 1 says that there was nothing.
    run(*poll, check=False)
    assert received.read_bytes().count(b"Subject: message 0") == 1
    server.deliver(user, message("the sixth"))
    eventually("the sixth", lambda: counted(server, user) == (6 if keep else 1))
    run(*poll)
    assert received.read_bytes().count(b"Subject: ") == 6
