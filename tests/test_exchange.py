"""Mail between us and other organisations, whose servers are real: Debian's Postfix, Exim and OpenSMTPD."""

import pytest
from others import Exim, OpenSMTPD, Other, Postfix

from mail import message, pop3_all
from postroom import DOMAIN, eventually

SERVER = {"accounts": 20}
EACH = pytest.mark.parametrize("kind", [Postfix, Exim, OpenSMTPD])


def mailbox(server, user: str, count: int = 1) -> list[bytes]:
    def arrived():
        client = server.pop3(user)
        found = pop3_all(client)
        client.quit()
        return found if len(found) >= count else None

    return eventually(f"{count} mails for {user}", arrived)


@EACH
def test_mail_comes_in(server, kind):
    users = [server.user() for _ in range(3)]
    with kind(server) as other:
        for user in users:
            other.send(user, message(f"for {user}", "Zażółć gęślą jaźń\r\n.dot\r\n" * 100))
        other.send(users[0], message("large", "x" * 70 + "\r\n" + "y" * 990 + "\r\n" * 20_000))
        for user, count in zip(users, [2, 1, 1], strict=True):
            stored = mailbox(server, user, count)
            assert any(f"Subject: for {user}".encode() in each for each in stored)
        stored = mailbox(server, users[0], 2)
        # They saw our STARTTLS, and used it.
        tls = [each.partition(b"\r\n\r\n")[0] for each in stored]
        assert server.peer or all(b"with ESMTPS" in each or b"with UTF8SMTPS" in each for each in tls)
        assert all(f"<ann@{kind.domain}>".encode() in each for each in tls)


@EACH
def test_an_unknown_recipient_comes_back_to_its_sender(server, kind):
    with kind(server) as other:
        other.send(f"nobody@{DOMAIN}", message("lost"))
        (bounce,) = other.received()
        assert b"550" in bounce and f"nobody@{DOMAIN}".encode() in bounce and b"5.1.1" in bounce


@pytest.mark.ours
@pytest.mark.needs("relay", "tls")
@EACH
def test_mail_goes_out(make_server, kind):
    other: Other = kind()
    with other:
        server = make_server(extra=f'[routes]\n"{kind.domain}" = "{other.address}:20025"\n')
        server.start()
        user, sent = server.user(), message("from us", "Zażółć\r\n.dot\r\n")
        with server.smtp("submission") as client:
            client.starttls(context=server.tls())
            client.login(user, "pw")
            client.sendmail(user, [f"ann@{kind.domain}", f"bob@{kind.domain}"], sent)
        for got in other.received(2):
            assert got.rstrip().endswith(sent.partition(b"\r\n\r\n")[2].rstrip()) and b"Subject: from us" in got
            assert b"DKIM-Signature:" in got
        # What they do not know comes back to our user as a DSN (RFC 3464).
        with server.smtp("submission") as client:
            client.starttls(context=server.tls())
            client.login(user, "pw")
            client.sendmail(user, f"nobody@{kind.domain}", message("lost"))
        (report,) = mailbox(server, user)
        assert b"multipart/report" in report and b"Action: failed" in report and b"Auto-Submitted: auto-" in report
