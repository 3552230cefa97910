"""Mail comes in: what strangers' servers and users' programs say to us by SMTP and LMTP, with real clients and by hand."""

import base64
import re
import smtplib

import pytest

from mail import fields_before, header_fields, message, pop3_all
from postroom import DOMAIN, PASSWORD, Failed, eventually, node, run

SERVER = {"accounts": 40}


def mailbox(server, user: str, count: int = 1) -> list[bytes]:
    """All of a user's mail, once there is as much as that (a peer delivers after it has said 250)."""

    def arrived():
        client = server.pop3(user)
        try:
            return pop3_all(client) if client.stat()[0] >= count else None
        finally:
            client.quit()

    return eventually(f"{count} messages for {user}", arrived) if server.peer else arrived() or []


def plain(user: str, password: str = PASSWORD) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def greeted(server, port: str = "smtp"):
    dialogue = server.connect(port, tls=port == "submissions")
    assert dialogue.reply().startswith("220 ")
    dialogue.ask("EHLO client.test", "250")
    return dialogue


# -- from strangers -------------------------------------------------------------------------------------------------


def test_a_message_is_stored_as_it_came(server):
    user, sent = server.user(), message()
    server.deliver(user, sent)
    (stored,) = mailbox(server, user)
    ours = fields_before(stored, sent)
    assert ours[:2] == ["Return-Path", "Delivered-To"] and set(ours[2:]) == {"Received"}
    assert stored.startswith(b"Return-Path: <stranger@elsewhere.test>\r\n")
    assert f"Delivered-To: {user}\r\n".encode() in stored


def test_ehlo_announces_the_extensions(server):
    with server.connect("smtp") as smtp:
        assert re.match(r"220 mx\.example\.test ", smtp.reply())
        lines = smtp.ask("EHLO client.test", "250").split("\n")
    words = {line[4:].split(" ")[0] for line in lines[1:]}
    wanted = {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "STARTTLS", "DSN"}
    if not server.peer:
        wanted |= {"BINARYMIME"}
    assert wanted <= words


def test_unknown_recipient_is_refused_at_rcpt(server):
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<stranger@elsewhere.test>", "250 2.1.0")
        smtp.ask(f"RCPT TO:<nobody@{DOMAIN}>", "550 5.1.1")
        smtp.ask(f"RCPT TO:<u0@{DOMAIN}>", "250 2.1.5")


def test_relaying_is_denied_in_every_spelling(server):
    with greeted(server) as smtp:
        for target in ["<someone@elsewhere.test>", "<@example.test:someone@elsewhere.test>",
                       "<someone%elsewhere.test@other.test>", '<"someone@elsewhere.test"@other.test>',
                       "<someone@[192.0.2.1]>"]:  # fmt: skip
            smtp.ask("RSET", "250")
            smtp.ask("MAIL FROM:<u0@example.test>", "250")
            reply = smtp.ask(f"RCPT TO:{target}", "5")
            if not server.peer:
                assert reply.startswith("550 5.7.1")


@pytest.mark.parametrize("local", ["postmaster", "abuse", "PostMaster"])
def test_postmaster_and_abuse_always_exist(server, local):
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<stranger@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<{local}@{DOMAIN}>", "250")


def test_postmaster_without_a_domain(server):
    # RFC 5321 §4.5.1: "Postmaster" alone, in any case, must be accepted.
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<>", "250")
        smtp.ask("RCPT TO:<Postmaster>", "250")


def test_the_domain_of_an_address_has_no_case(server):
    user, sent = server.user(), message()
    server.deliver(user.upper().replace("U", "u", 1), sent)
    assert mailbox(server, user)[0].endswith(sent)


@pytest.mark.ours
def test_subaddress(server):
    user, sent = server.user(), message()
    server.deliver(user.replace("@", "+lists@"), sent)
    (stored,) = mailbox(server, user)
    assert stored.endswith(sent)


def test_the_null_sender(server):
    user, sent = server.user(), message()
    server.deliver(user, sent, sender="")
    assert mailbox(server, user)[0].startswith(b"Return-Path: <>\r\n")


def test_a_declared_size_over_the_limit_is_refused_before_the_data(server):
    with greeted(server) as smtp:
        size = re.search(r"250.SIZE (\d+)", smtp.ask("EHLO client.test"))
        limit = int(size[1])
        smtp.ask(f"MAIL FROM:<a@elsewhere.test> SIZE={limit + 1}", "552 5.3.4")
        smtp.ask("MAIL FROM:<a@elsewhere.test> SIZE=1000", "250")


def test_a_message_over_the_limit_is_refused_and_the_connection_lives(server):
    with greeted(server) as smtp:
        limit = int(re.search(r"250.SIZE (\d+)", smtp.ask("EHLO client.test"))[1])
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<{server.user()}>", "250")
        smtp.ask("DATA", "354")
        line = b"x" * 76 + b"\r\n"
        block, left = line * 10_000, limit + 2 * len(line) * 10_000
        while left > 0:
            smtp.socket.sendall(block)
            left -= len(block)
        smtp.ask(".", "552")
        smtp.ask("NOOP", "250")


def test_eight_bits_and_dots_come_through(server):
    user = server.user()
    sent = message("naïve", "Zażółć gęślą jaźń — 日本語\r\n.leading dot\r\n..two\r\n.\r\n\r\n")
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test> BODY=8BITMIME", "250")
        smtp.ask(f"RCPT TO:<{user}>", "250")
        smtp.ask("DATA", "354")
        smtp.raw(re.sub(rb"^\.", b"..", sent, flags=re.M))
        smtp.ask(".", "250")
    assert mailbox(server, user)[0].endswith(sent)


@pytest.mark.ours  # the peer's LMTP does not know SMTPUTF8
def test_a_utf8_sender(server):
    user, sent = server.user(), message("Zażółć")
    with greeted(server) as smtp:
        # RFC 6531 §3.5: only after the parameter may an address be more than ASCII.
        smtp.ask("MAIL FROM:<δοκιμή@elsewhere.test>", "5")
        smtp.ask("MAIL FROM:<δοκιμή@elsewhere.test> BODY=8BITMIME SMTPUTF8", "250")
        smtp.ask(f"RCPT TO:<{user}>", "250")
        smtp.ask("DATA", "354")
        smtp.raw(sent)
        smtp.ask(".", "250")
    (stored,) = mailbox(server, user)
    assert stored.endswith(sent)
    assert stored.startswith("Return-Path: <δοκιμή@elsewhere.test>\r\n".encode())
    assert b"with UTF8SMTP" in stored  # RFC 6531 §4.3


def test_chunking(server):
    user, sent = server.user(), message(body="one\r\n.\r\ntwo\r\n")
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<{user}>", "250")
        cut = len(sent) // 2  # in the middle of a line; "." alone ends nothing here (RFC 3030 §2)
        smtp.raw(b"BDAT %d\r\n" % cut + sent[:cut])
        assert smtp.reply().startswith("250")
        smtp.raw(b"BDAT %d\r\n" % (len(sent) - cut) + sent[cut:])
        assert smtp.reply().startswith("250")
        smtp.ask("BDAT 0 LAST", "250")
        smtp.ask("NOOP", "250")
    assert mailbox(server, user)[0].endswith(sent)


def test_chunks_sent_ahead(server):
    user, sent = server.user(), message(body="x" * 70 + "\r\n")
    with greeted(server) as smtp:
        smtp.raw(b"MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<%s>\r\nBDAT %d LAST\r\n" % (user.encode(), len(sent))
                 + sent + b"NOOP\r\n")  # fmt: skip
        assert [smtp.reply()[:3] for _ in range(4)] == ["250"] * 4
    assert mailbox(server, user)[0].endswith(sent)


def test_bdat_after_a_refused_recipient_is_drained(server):
    # RFC 3030 §2: the chunk's octets are consumed whatever the answer; they are never read as commands.
    inside = b"RSET\r\nVRFY root\r\n"
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<nobody@{DOMAIN}>", "550")
        smtp.raw(b"BDAT %d LAST\r\n" % len(inside) + inside + b"NOOP\r\n")
        assert smtp.reply()[:1] == "5"
        assert smtp.reply().startswith("250")


def test_dsn_parameters(server):
    with greeted(server) as smtp:
        smtp.ask("MAIL FROM:<a@elsewhere.test> RET=HDRS ENVID=QQ314159", "250")
        smtp.ask(f"RCPT TO:<u0@{DOMAIN}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2B1@elsewhere.test", "250")
        smtp.ask("RSET", "250")
        # RFC 3461 §4.1: NEVER stands alone; §4.3: RET is FULL or HDRS.
        smtp.ask("MAIL FROM:<a@elsewhere.test> RET=SOME", "501")
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask(f"RCPT TO:<u0@{DOMAIN}> NOTIFY=NEVER,SUCCESS", "501")


def test_pipelining_keeps_the_order_of_replies(server):
    user, sent = server.user(), message()
    with greeted(server) as smtp:
        smtp.raw(
            b"MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\n" % user.encode()
        )
        assert [smtp.reply()[:3] for _ in range(4)] == ["250", "550", "250", "354"]
        smtp.raw(sent + b".\r\nMAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<%s>\r\nDATA\r\n" % user.encode())
        assert [smtp.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        smtp.raw(message() + b".\r\nQUIT\r\n")
        assert [smtp.reply()[:3] for _ in range(2)] == ["250", "221"]
        assert smtp.closed()
    assert len(mailbox(server, user, 2)) == 2


def test_order_and_syntax(server):
    with server.connect("smtp") as smtp:
        smtp.reply()
        if not server.peer:  # Postfix takes mail without a greeting, by default
            smtp.ask("MAIL FROM:<a@elsewhere.test>", "503 5.5.1")
        smtp.ask("HELO client.test", "250")
        smtp.ask("RCPT TO:<u0@example.test>", "503 5.5.1")
        smtp.ask("DATA", "503 5.5.1")
        smtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        smtp.ask("MAIL FROM:<b@elsewhere.test>", "503 5.5.1")
        smtp.ask("RSET", "250")
        smtp.ask("mail from:<a@elsewhere.test>", "250")
        smtp.ask("DATA", "5")  # RFC 5321 §3.3: 503 or 554
        smtp.ask("NOOP whatever", "250")
        smtp.ask("VRFY u0", "252" if not server.peer else "")
        smtp.ask("FROBNICATE", "500" if not server.peer else "5")
        smtp.ask("RSET", "250")
        smtp.ask("MAIL FROM:<a@elsewhere.test> FROB=NICATE", "555" if not server.peer else "5")
        smtp.ask("QUIT", "221")


@pytest.mark.ours
def test_a_loop_is_stopped(server):
    loop = "".join(f"Received: from a{n}.test by b{n}.test; Thu, 01 Jan 2026 10:00:00 +0000\r\n" for n in range(101))
    with pytest.raises(smtplib.SMTPDataError) as refused:
        server.deliver(server.user(), loop.encode() + message())
    assert refused.value.smtp_code == 554 and refused.value.smtp_error.startswith(b"5.4.6")


def test_one_message_to_many(server):
    users, sent = [server.user() for _ in range(5)], message()
    server.deliver(users, sent)
    for user in users:
        (stored,) = mailbox(server, user)
        fields_before(stored, sent)
        # Nobody learns who else got it: that could be a Bcc.
        assert not [other for other in users if other != user and other.encode() in stored]


# -- LMTP -----------------------------------------------------------------------------------------------------------


def test_lmtp_answers_for_each_recipient(server):
    first, second, sent = server.user(), server.user(), message()
    with server.connect("lmtp") as lmtp:
        assert lmtp.reply().startswith("220 ")
        lmtp.ask("LHLO client.test", "250")
        lmtp.ask("MAIL FROM:<a@elsewhere.test>", "250")
        lmtp.ask(f"RCPT TO:<{first}>", "250")
        if not server.peer:  # the peer's user database takes every name
            lmtp.ask(f"RCPT TO:<nobody@{DOMAIN}>", "550 5.1.1")
        lmtp.ask(f"RCPT TO:<{second}>", "250")
        lmtp.ask("DATA", "354")
        lmtp.raw(sent + b".\r\n")
        assert [lmtp.reply()[:3] for _ in range(2)] == ["250", "250"]
        lmtp.ask("QUIT", "221")
    assert mailbox(server, first)[0].endswith(sent) and mailbox(server, second)[0].endswith(sent)


def test_lmtp_wants_lhlo(server):
    with server.connect("lmtp") as lmtp:
        lmtp.reply()
        lmtp.ask("EHLO client.test", "5")  # RFC 2033 §4.1
        lmtp.ask("LHLO client.test", "250")


# -- from users' programs -------------------------------------------------------------------------------------------


def submit(server, user: str, to: str, sent: bytes) -> None:
    with server.smtp("submission") as client:
        client.starttls(context=server.tls())
        client.login(user, PASSWORD)
        client.sendmail(user, to, sent)


@pytest.mark.parametrize("port", ["submission", "submissions", "alternative"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_sign_in_and_send(server, port, mechanism):
    user, sent = "u0@" + DOMAIN, message(mechanism + port)
    with server.smtp(port) as client:
        if port != "submissions":
            client.starttls(context=server.tls())
        client.ehlo()
        client.user, client.password = user, PASSWORD
        method = client.auth_plain if mechanism == "PLAIN" else client.auth_login
        assert client.auth(mechanism, method)[0] == 235
        client.sendmail(user, user, sent)


def test_plain_without_an_initial_response(server):
    with greeted(server, "submission") as smtp:
        smtp.ask("AUTH PLAIN", "334")
        smtp.ask(plain("u0@" + DOMAIN), "235 2.7.0")
        smtp.ask("AUTH PLAIN " + plain("u0@" + DOMAIN), "503")  # RFC 4954 §4: once


def test_wrong_password(server):
    with greeted(server, "submission") as smtp:
        smtp.ask("AUTH PLAIN " + plain("u1@" + DOMAIN, "wrong"), "535 5.7.8")
        smtp.ask("AUTH PLAIN " + plain("nobody@" + DOMAIN, "wrong"), "535 5.7.8")
        smtp.ask("AUTH LOGIN", "334 VXNlcm5hbWU6")
        smtp.ask("*", "501")  # RFC 4954 §4: the client gives up
        smtp.ask("NOOP", "250")


def test_never_in_the_clear(make_server):
    server = make_server(cleartext_login=False)
    server.start()
    with greeted(server, "submission") as smtp:
        assert "AUTH" not in smtp.ask("EHLO client.test")
        smtp.ask("AUTH PLAIN " + plain("u0@" + DOMAIN), "5")
        smtp.ask("AUTH LOGIN", "5")
    with greeted(server, "submissions") as smtp:
        assert "AUTH" in smtp.ask("EHLO client.test")
        smtp.ask("AUTH PLAIN " + plain("u0@" + DOMAIN), "235")


@pytest.mark.ours
def test_submission_wants_sign_in(server):
    with greeted(server, "submission") as smtp:
        smtp.ask("MAIL FROM:<u0@example.test>", "530 5.7.0")


@pytest.mark.ours
def test_a_sender_must_own_its_address(server):
    with greeted(server, "submissions") as smtp:
        smtp.ask("AUTH PLAIN " + plain("u0@" + DOMAIN), "235")
        for stranger in ["u1@example.test", "someone@elsewhere.test"]:
            reply = smtp.ask(f"MAIL FROM:<{stranger}>", "55")
            assert reply[4:9] == "5.7.1"
        smtp.ask("MAIL FROM:<u0@example.test>", "250")


def test_submission_completes_the_header_and_hides_bcc(server):
    user = server.user()
    submit(server, user, user, b"From: me <%s>\r\nBcc: secret@example.test,\r\n other@example.test\r\n"
           b"Subject: short\r\n\r\nHello.\r\n" % user.encode())  # fmt: skip
    (stored,) = mailbox(server, user)
    names = [name.lower() for name in header_fields(stored)]
    assert names.count("date") == 1 and names.count("message-id") == 1
    assert "bcc" not in names and b"secret@" not in stored and b"other@" not in stored
    assert stored.endswith(b"Subject: short\r\n\r\nHello.\r\n") or b"Subject: short\r\n" in stored


def test_submission_leaves_a_whole_header_alone(server):
    user = server.user()
    sent = message().replace(b"stranger@elsewhere.test", user.encode())
    submit(server, user, user, sent)
    assert fields_before(mailbox(server, user)[0], sent)


def test_mail_from_strangers_is_not_completed(server):
    user = server.user()
    sent = b"From: a@elsewhere.test\r\nBcc: kept@example.test\r\n\r\nHello.\r\n"
    server.deliver(user, sent)
    (stored,) = mailbox(server, user)
    assert stored.endswith(sent) or server.peer and b"\r\nBcc: kept@" in stored


# -- real programs --------------------------------------------------------------------------------------------------


def test_swaks(server):
    user = server.user()
    to = ["swaks", "--server", server.address, "--from", "a@elsewhere.test", "--to", user, "--helo", "client.test"]
    run(*to, "--port", server.ports["smtp"])
    run(*to, "--port", server.ports["smtp"], "--tls", "--pipeline")
    run(*to, "--port", server.ports["lmtp"], "--protocol", "LMTP")
    sign_in = ["--from", user, "--auth-user", user, "--auth-password", PASSWORD]
    run(*to, "--port", server.ports["submission"], "--tls", *sign_in, "--auth", "PLAIN")
    run(*to, "--port", server.ports["submissions"], "--tls-on-connect", *sign_in, "--auth", "LOGIN")
    assert len(mailbox(server, user, 5)) == 5
    with pytest.raises(Failed, match="550 5.1.1"):
        run("swaks", "--server", server.address, "--port", server.ports["smtp"], "--to", "nobody@example.test")


def test_curl(server, tmp_path):
    user, sent = server.user(), message()
    file = tmp_path / "message"
    file.write_bytes(sent)
    common = ["curl", "-sS", "--mail-from", user, "--mail-rcpt", user, "-T", file]
    run(*common, f"smtp://{server.address}:{server.ports['smtp']}")
    signed = [*common, "--user", f"{user}:{PASSWORD}", "--cacert", server.certificate, "--ssl-reqd"]
    run(*signed, f"smtp://{server.address}:{server.ports['submission']}")
    run(*signed, f"smtps://{server.address}:{server.ports['submissions']}", "--login-options", "AUTH=LOGIN")
    assert all(stored.endswith(sent) for stored in mailbox(server, user, 3))


def test_nodemailer(server):
    user = server.user()
    node("send.js", server.address, server.ports["submissions"], user, PASSWORD, server.certificate)
    (stored,) = mailbox(server, user)
    assert b"Subject: =?UTF-8?" in stored and b"multipart/mixed" in stored
