"""Who may do what on the way in: strangers from elsewhere (a PROXY header says where from), users, trusted networks."""

import json
import smtplib

import pytest

from mail import header_fields, message, pop3_all
from postroom import DOMAIN, PASSWORD

pytestmark = pytest.mark.ours
SERVER = {"accounts": 10}
STRANGER = b"Stranger <stranger@elsewhere.test>"  # whom mail.message() is from


def from_elsewhere(server, port: str = "smtp", address: str = "192.0.2.7"):
    """A connection that comes from another network, as the balancer before us says."""
    smtp = server.connect(port)
    smtp.raw(f"PROXY TCP4 {address} {server.address} 40000 25\r\n".encode())
    assert smtp.reply().startswith("220 ")
    smtp.ask("EHLO client.test", "250")
    return smtp


def test_a_stranger_is_told_how_much_a_connection_takes(server, make_server):
    with server.connect("smtp") as smtp:
        smtp.reply()
        assert "MAILMAX" not in smtp.ask("EHLO client.test", "250")
    proxied = make_server(proxied=True)
    proxied.start()
    with from_elsewhere(proxied) as smtp:
        assert "LIMITS RCPTMAX=1000 MAILMAX=1000" in smtp.ask("EHLO client.test", "250")


def test_trap_19_strangers_are_offered_no_reports(make_server):
    server = make_server(proxied=True)
    server.start()
    with from_elsewhere(server) as smtp:
        assert "DSN" not in smtp.ask("EHLO client.test", "250")
        smtp.ask("MAIL FROM:<victim@elsewhere.test> RET=FULL", "555")
        smtp.ask("MAIL FROM:<victim@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<u0@{DOMAIN}> NOTIFY=SUCCESS", "555")
        smtp.ask(f"RCPT TO:<u0@{DOMAIN}>", "250")
    # Who signs in may ask for them.
    with from_elsewhere(server, "submission") as smtp:
        assert "DSN" in smtp.ask("EHLO client.test", "250")


@pytest.mark.parametrize("author", [b"CEO <u1@example.test>", b"u0@example.test, u1@example.test", b"nobody@example.test"])
def test_nobody_writes_in_another_users_name(server, author):
    me = f"u0@{DOMAIN}"
    with server.smtp("submissions") as client:
        client.login(me, PASSWORD)
        for sender in [me, ""]:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail(sender, f"u2@{DOMAIN}", message().replace(STRANGER, author))
            assert refused.value.smtp_code == 550 and refused.value.smtp_error.startswith(b"5.7.1 You may not write as ")
        client.sendmail(me, f"u2@{DOMAIN}", message().replace(STRANGER, b"Me <u0+news@example.test>"))


def stored(server, user: str) -> bytes:
    client = server.pop3(user)
    (found,) = pop3_all(client)
    client.quit()
    return found


def test_a_trusted_program_is_served_like_a_user_where_programs_submit(make_server):
    server = make_server(trusted=("127.0.0.0/8",))
    server.start()
    sent = b"From: app@elsewhere.test\r\nBcc: secret@example.test\r\nResent-Bcc: other@example.test\r\nSubject: x\r\n\r\nHi.\r\n"
    submitted, relayed = server.user(), server.user()
    for port, user in [("submission", submitted), ("smtp", relayed)]:
        with server.smtp(port) as client:
            client.sendmail("app@elsewhere.test", user, sent)
    names = header_fields(stored(server, submitted))
    assert {"Date", "Message-ID"} <= set(names) and not {"Bcc", "Resent-Bcc"} & set(names)
    # Another server brings what is not its own.
    assert stored(server, relayed).endswith(sent)



def test_a_mail_is_found_in_the_log(server):
    me, sent = f"u5@{DOMAIN}", message("in the log")
    before = server.log.stat().st_size
    server.deliver(me, sent)
    with server.smtp("submissions") as client:
        client.login(me, PASSWORD)
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(me, me, sent.replace(STRANGER, b"u1@example.test"))
    assert server.says("refusal", before)
    lines = [json.loads(line) for line in server.log.read_bytes()[before:].splitlines()]
    kept, refused = [line["fields"] for line in lines if line["fields"].get("message") == "mail"]
    assert (kept["peer"], kept["from"], kept["accepted"], kept["octets"]) == \
        ("127.0.0.1", "stranger@elsewhere.test", 1, len(sent))  # fmt: skip
    assert refused["accepted"] == 0 and refused["refusal"].startswith("550 5.7.1") and "account" in refused
