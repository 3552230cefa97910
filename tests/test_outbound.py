"""Mail goes out: what the sender is told, what other hosts can check, what the administrator sees, what a crash leaves."""

import base64
import csv
import hashlib
import io
import json
import re
import signal
import smtplib
import ssl
import subprocess
import threading
import urllib.request
from collections import Counter
from email import message_from_bytes, policy

import pytest

from host import PORT, Host
from mail import message, pop3_all
from postroom import BINARY, DOMAIN, PASSWORD, eventually, run

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]


def submit(server, sender: str, to: str | list[str], raw: bytes, mail_options=(), rcpt_options=()) -> None:
    with server.smtp("submission") as client:
        client.starttls(context=server.tls())
        client.login(sender, PASSWORD)
        client.sendmail(sender, to, raw, mail_options, rcpt_options)


def mailbox(server, user: str, count: int = 1) -> list[bytes]:
    def arrived():
        client = server.pop3(user)
        found = pop3_all(client)
        client.quit()
        return found if len(found) >= count else None

    return eventually(f"{count} mails for {user}", arrived)


def start(make_server, host: Host, *domains: str, extra: str = ""):
    server = make_server(extra=extra or host.route(*domains))
    server.start()
    return server


def queue(server, *arguments: str):
    return json.loads(server.cli("queue", *(arguments or ["list"]), "--json"))


# -- reports ----------------------------------------------------------------------------------------------------------


def report(raw: bytes):
    """A delivery status notification taken apart by Python's parser: words, fields of the mail and of each recipient, and
    what was returned."""
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail.get_content_type() == "multipart/report" and mail.get_param("report-type") == "delivery-status"
    assert mail["Auto-Submitted"] == "auto-replied" and mail["Return-Path"] == "<>" and mail["Received"]
    assert re.fullmatch(r"<[^<>@\s]+@mx\.example\.test>", mail["Message-ID"])
    words, status, returned = mail.iter_parts()
    assert words.get_content_type() == "text/plain" and status.get_content_type() == "message/delivery-status"
    for part in mail.walk():
        assert not part.defects, (part.get_content_type(), part.defects)
        assert all(not value.defects for value in part.values() if hasattr(value, "defects"))
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    about, *recipients = status.iter_parts()
    assert about["Reporting-MTA"] == "dns; mx.example.test"
    return mail, words.get_content(), about, recipients, returned


def test_a_failure_is_reported_so_that_programs_can_read_it(make_server):
    with Host(RCPT="550-5.1.1 There is no\r\n550 5.1.1 such user") as host:
        server = start(make_server, host, "out.test")
        user, sent = server.user(), message("lost", "The body.\r\n")
        submit(server, user, ["ann@out.test", "bob@out.test"], sent, ["RET=HDRS", "ENVID=an+2Bid"], ["ORCPT=rfc822;Ann@out.test"])
        mail, words, about, recipients, returned = report(mailbox(server, user)[0])
    assert mail["To"] == user and mail["In-Reply-To"] == message_from_bytes(sent)["Message-ID"]
    assert "could not be delivered" in mail["Subject"] and "ann@out.test" in words and "such user" in words
    assert about["Original-Envelope-Id"] == "an+id"
    assert [each["Final-Recipient"] for each in recipients] == ["rfc822;ann@out.test", "rfc822;bob@out.test"]
    for each in recipients:
        assert (each["Action"], each["Status"]) == ("failed", "5.1.1")
        assert each["Remote-MTA"] == f"dns; [{host.address}]" and each["Original-Recipient"] == "rfc822;Ann@out.test"
        assert each["Diagnostic-Code"] == "smtp; 550 5.1.1 There is no such user"
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Subject: lost" in returned.get_content() and "The body." not in returned.get_content()
    assert queue(server) == []


def test_the_whole_mail_comes_back_on_request(make_server):
    with Host(end="554 5.7.1 Looks like spam") as host:
        server = start(make_server, host, "out.test")
        user, sent = server.user(), message("returned", "Zażółć gęślą jaźń.\r\n")
        submit(server, user, "ann@out.test", sent, ["RET=FULL"])
        *_, returned = report(mailbox(server, user)[0])
    inner = returned.get_content()
    assert inner["Subject"] == "returned" and inner.get_payload(decode=True).endswith("Zażółć gęślą jaźń.\r\n".encode())


def test_trap_31_a_report_is_whole_whatever_is_quoted(make_server):
    nasty = ["550-5.1.1 \x1b[31m" + "x" * 1500, "550-5.1.1 --=_0 \udcff\udcfe ünï " + "word " * 300, "550 5.1.1 end"]
    with Host(RCPT="\r\n".join(nasty)) as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        raw = (b"From: " + user.encode() + b"\r\nSubject: =?utf-8?q?broken\r\nMessage-ID: <<twice@client.test>>\r\n"
               b"X-Long: " + b"y" * 990 + b"\r\nX-Eight: \xfc\r\n\r\nhello\r\n")  # fmt: skip
        submit(server, user, "ann@out.test", raw)
        mail, words, _, (recipient,), _ = report(mailbox(server, user)[0])
    assert mail["In-Reply-To"] == "<twice@client.test>"
    assert recipient["Diagnostic-Code"].startswith("smtp; 550 5.1.1 ") and "\x1b" not in words


def test_success_is_reported_when_asked_for(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, other = server.user(), server.user()
        submit(server, user, ["ann@out.test", other], message(), (), ["NOTIFY=SUCCESS,FAILURE"])
        host.has()
        # One report tells of both.
        *_, recipients, _ = report(mailbox(server, user)[0])
        actions = {each["Final-Recipient"]: (each["Action"], each["Status"]) for each in recipients}
    # Their host knows no DSN: ours is the last word. The other one is at home.
    assert actions == {"rfc822;ann@out.test": ("relayed", "2.0.0"), f"rfc822;{other}": ("delivered", "2.0.0")}


def test_trap_19_no_report_about_a_mail_from_nobody(make_server):
    with Host(RCPT="550 5.1.1 No such user") as host:
        server = start(make_server, host, "out.test")
        server.cli("alias", "add", "away@example.test", "ann@out.test")
        server.deliver("away@example.test", message(), sender="")
        eventually("it was tried", lambda: any(line.startswith("RCPT") for line in host.said))
        eventually("the queue is empty", lambda: queue(server) == [])
        assert "MAIL FROM:<>" in [line.split(">")[0] + ">" for line in host.said if line.startswith("MAIL")]


# -- signatures -------------------------------------------------------------------------------------------------------


def relaxed(name: bytes, value: bytes) -> bytes:
    """RFC 6376 §3.4.2."""
    return name.lower() + b":" + re.sub(rb"[ \t]+", b" ", re.sub(rb"\r\n(?=[ \t])", b"", value)).strip()


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    return [tuple(each.split(b":", 1)) for each in re.split(rb"\r\n(?![ \t])", head)]


def verify_signatures(raw: bytes, records: dict[str, str], tmp_path) -> set[str]:
    """Checks each DKIM-Signature by the DNS records, with openssl; returns their algorithms."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    body = b"\r\n".join(lines).rstrip(b"\r\n") + b"\r\n"
    good = set()
    for name, value in (field for field in fields(head) if field[0] == b"DKIM-Signature"):
        tags = dict(tag.strip().split("=", 1) for tag in re.sub(r"\s", "", value.decode()).rstrip(";").split(";"))
        assert base64.b64decode(tags["bh"]) == hashlib.sha256(body).digest()
        left, signed = fields(head), b""
        for wanted in tags["h"].split(":"):
            at = next((n for n in reversed(range(len(left))) if left[n][0].lower() == wanted.lower().encode()), None)
            if at is not None:
                signed += relaxed(*left.pop(at)) + b"\r\n"
        signed += relaxed(name, re.sub(rb"(?<=[\s;])b=[^;]*$", b"b=", value))
        key = dict(tag.strip().split("=", 1) for tag in records[f"{tags['s']}._domainkey.{tags['d']}"].split(";"))
        public = base64.b64decode(key["p"])
        if tags["a"] == "ed25519-sha256":
            public, signed = bytes.fromhex("302a300506032b6570032100") + public, hashlib.sha256(signed).digest()
        files = {"key": public, "signed": signed, "signature": base64.b64decode(tags["b"])}
        for file, octets in files.items():
            (tmp_path / file).write_bytes(octets)
        how = ["-rawin"] + ([] if tags["a"].startswith("ed") else ["-digest", "sha256"])
        run("openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", tmp_path / "key", "-in", tmp_path / "signed",
            "-sigfile", tmp_path / "signature", *how)  # fmt: skip
        good.add(tags["a"])
    return good


def test_signatures_verify_by_the_records_that_are_printed(make_server, tmp_path):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        raw = message("signed,  with   spaces", "A  line \t of words \r\n\r\n.dot\r\nend\r\n\r\n\r\n", "To: second@x.test\r\n")
        submit(server, user, "ann@out.test", raw)
        ((_, _, got),) = host.has()
    records = {each["name"]: each["value"] for each in json.loads(server.cli("domain", "dns", "example.test", "--json"))}
    assert verify_signatures(got, records, tmp_path) == {"rsa-sha256", "ed25519-sha256"}
    with pytest.raises(AssertionError):
        verify_signatures(got.replace(b"signed,", b"changed,"), records, tmp_path)
    assert records["example.test"] and records["_dmarc.example.test"].startswith("v=DMARC1;")
    zone = server.cli("domain", "dns", "example.test")
    assert "example.test. IN MX 10 mx.example.test." in zone
    assert all(len(string) <= 255 for string in re.findall('"([^"]*)"', zone))


def test_hosts_that_ask_are_shown_our_certificate(make_server, tmp_path):
    for name in ("us", "host"):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}.test", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem")  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "host.pem", tmp_path / "host.key")
    tls.load_verify_locations(tmp_path / "us.pem")
    tls.verify_mode = ssl.CERT_OPTIONAL
    ours = ssl.PEM_cert_to_DER_cert((tmp_path / "us.pem").read_text())
    files = f'[client_certificate]\ncertificate = "{tmp_path}/us.pem"\nkey = "{tmp_path}/us.key"\n'
    for extra, shown in [("", None), (files, ours)]:
        with Host(tls) as host:
            server = start(make_server, host, extra=host.route("out.test") + extra)
            submit(server, server.user(), "ann@out.test", message())
            assert host.has() and host.shown == [shown]


def test_a_certificate_of_ours_that_is_not_taken_costs_no_tls_and_a_new_one_needs_no_restart(make_server, tmp_path):
    def make(name: str) -> None:
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", f"/CN={name}.test", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem")  # fmt: skip

    for name in ("us", "host", "new"):
        make(name)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Where a certificate is refused within the handshake.
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(tmp_path / "host.pem", tmp_path / "host.key")
    tls.load_verify_locations(tmp_path / "new.pem")
    tls.verify_mode = ssl.CERT_OPTIONAL
    files = f'[client_certificate]\ncertificate = "{tmp_path}/us.pem"\nkey = "{tmp_path}/us.key"\n'
    with Host(tls) as host:
        server = start(make_server, host, extra=host.route("out.test") + files)
        user = server.user()
        submit(server, user, "ann@out.test", message())
        assert host.has() and host.shown == [None]
    with Host(tls) as host:
        server = start(make_server, host, extra=host.route("out.test") + files)
        user = server.user()
        for end in ("key", "pem"):
            (tmp_path / f"new.{end}").replace(tmp_path / f"us.{end}")
        server.process.send_signal(signal.SIGHUP)
        eventually("it is read again", lambda: "a new client certificate is in use" in server.tail(), 5)
        submit(server, user, "ann@out.test", message())
        assert host.has() and host.shown == [ssl.PEM_cert_to_DER_cert((tmp_path / "us.pem").read_text())]


def signers(mail: bytes) -> set[str]:
    head = mail.partition(b"\r\n\r\n")[0].decode()
    return set(re.findall(r"(?<=\ts=)\w+(?=; t=)", head))


def test_new_keys_sign_when_they_are_seen_in_the_dns_or_told_to(make_server, tmp_path):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()

        def keys() -> dict[str, str]:
            return {each["selector"]: each["state"] for each in json.loads(server.cli("domain", "key", "list", DOMAIN, "--json"))}

        first = set(keys())
        told = server.cli("domain", "key", "rotate", DOMAIN)
        new = set(keys()) - first
        assert len(first) == len(new) == 2 and set(keys().values()) == {"active", "waiting"}
        assert all(f"{selector}._domainkey.{DOMAIN}. IN TXT" in told for selector in new)
        assert "already" in server_error(server, "domain", "key", "rotate", DOMAIN)
        # No DNS knows of this domain.
        for command in [("domain", "key", "check", DOMAIN), ("domain", "dns", DOMAIN, "--check")]:
            done = subprocess.run([BINARY, *command, "--config", server.config], capture_output=True, text=True, timeout=60)
            assert done.returncode == 1 and "WRONG  " in done.stdout, done
        submit(server, user, "ann@out.test", message())
        assert signers(host.has()[-1][2]) == first
        server.cli("domain", "key", "check", DOMAIN, "--force")
        assert keys() == dict.fromkeys(first, "retired") | dict.fromkeys(new, "active")
        submit(server, user, "ann@out.test", message())
        got = host.has(2)[-1][2]
        assert signers(got) == new
        assert "no new keys" in server_error(server, "domain", "key", "check", DOMAIN, "--force")
        # The records of both are told: mail that the old ones signed is on its way.
        records = {each["name"]: each["value"] for each in json.loads(server.cli("domain", "dns", DOMAIN, "--json"))}
        assert {f"{selector}._domainkey.{DOMAIN}" for selector in first | new} < set(records)
        assert verify_signatures(got, records, tmp_path) == {"rsa-sha256", "ed25519-sha256"}


# -- the administrator ------------------------------------------------------------------------------------------------


def test_the_queue_is_seen_and_steered(make_server):
    with Host(MAIL="451 4.7.1 Greylisted, come back") as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        submit(server, user, ["ann@out.test", "bob@out.test"], message())
        submit(server, user, "eve@out.test", message())

        def tried():
            all_tried = queue(server)
            return all_tried if all(r["attempts"] == 1 for each in all_tried for r in each["recipients"]) else None

        first, second = eventually("both were tried", tried)
        assert first["from"] == user and [r["to"] for r in first["recipients"]] == ["ann@out.test", "bob@out.test"]
        (waits,) = second["recipients"]
        assert (waits["state"], waits["status"], waits["host"]) == ("waiting", "4.7.1", host.address)
        assert "Greylisted" in server.cli("queue", "list") and "eve@out.test" in server.cli("queue", "show", second["id"])
        assert queue(server, "cancel", second["id"])["cancelled"] == 1
        assert "there is no message" in server_error(server, "queue", "show", second["id"])
        assert "a number like" in server_error(server, "queue", "show", "nonsense")
        # While the server does not run, too.
        server.stop()
        assert [each["id"] for each in queue(server)] == [first["id"]]
        server.start()
        del host.answers["MAIL"]
        assert queue(server, "retry", first["id"])["due"] == 2
        taken = host.has()
        assert [sorted(recipients) for _, recipients, _ in taken] == [["ann@out.test", "bob@out.test"]], (taken, host.said)
        eventually("the queue is empty", lambda: queue(server) == [])


def test_what_waits_is_searched_and_exported(make_server):
    with Host(RCPT="451 4.7.1 Greylisted") as host:
        server = start(make_server, host, "out.test", "far.test")
        user = server.user()
        submit(server, user, ["ann@out.test", "bob@far.test"], message())
        submit(server, user, "Eve@out.test", message())
        eventually("all were tried", lambda: [r["attempts"] for m in queue(server) for r in m["recipients"]] == [1] * 3)
        first, second = (each["id"] for each in queue(server))

        def found(*which: str):
            return [(m["id"], r["to"]) for m in queue(server, "list", *which) for r in m["recipients"]]

        ann, bob, eve = (first, "ann@out.test"), (first, "bob@far.test"), (second, "Eve@out.test")
        assert found() == [ann, bob, eve]
        assert found("--to", "eve@OUT.test") == [eve] and found("--to", "@out.test") == [ann, eve]
        assert found("--from", user, "--to", "@far.test") == [bob] and found("--from", "somebody@out.test") == []
        assert found("--state", "waiting") == [ann, bob, eve] and found("--stream", "marketing") == []
        assert found("--limit", "1") == [ann] and found("--after", f"{first}/0", "--limit", "9") == [bob, eve]
        assert f"--after {first}/1" in server.cli("queue", "list", "--limit", "2")
        assert "Nothing like that" in server.cli("queue", "list", "--to", "@nowhere.test")
        assert "waiting, claimed" in server_error(server, "queue", "list", "--state", "lost")
        rows = [json.loads(line) for line in server.cli("queue", "export", "--to", "@out.test").splitlines()]
        assert [(r["id"], r["to"], r["status"], r["from"]) for r in rows] == [(*ann, "4.7.1", user), (*eve, "4.7.1", user)]
        table = list(csv.DictReader(io.StringIO(server.cli("queue", "export", "--csv"))))
        assert [(r["id"], r["number"], r["to"]) for r in table] == [(first, "0", ann[1]), (first, "1", bob[1]), (second, "0", eve[1])]
        assert {r["state"] for r in table} == {"waiting"} and "Greylisted" in table[0]["reply"]
        assert "say which" in server_error(server, "queue", "cancel")
        assert queue(server, "cancel", "--from", "nobody@out.test")["cancelled"] == 0
        assert queue(server, "cancel", "--to", "@out.test")["cancelled"] == 2
        # Of a message that is not over its other recipients are shown, too.
        assert found("--state", "waiting") == [bob] and found("--state", "cancelled") == [ann]
        del host.answers["RCPT"]
        assert queue(server, "retry", "--stream", "mail")["due"] == 1
        assert [to for _, to, _ in host.has()] == [["bob@far.test"]]


def server_error(server, *arguments: str) -> str:
    done = subprocess.run([BINARY, *arguments, "--config", server.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_why_a_mail_has_not_left_is_said_in_words(make_server):
    with Host(RCPT="452 4.2.2 The mailbox of that user is full") as host:
        server = start(make_server, host, "out.test")
        assert "Nothing for ann@out.test waits here" in server.cli("queue", "why", "ann@out.test")
        submit(server, server.user(), ["ann@out.test", "bob@out.test"], message())
        eventually("it was tried", lambda: [r["attempts"] for each in queue(server) for r in each["recipients"]] == [1, 1])
        (told,) = queue(server, "why", "Ann@OUT.test")
        # RFC 3463 §3.3, X.2.2: mailbox full.
        assert (told["to"], told["class"], told["state"]) == ("ann@out.test", "mailbox-full", "waiting")
        words = server.cli("queue", "why", "ann@out.test")
        assert "1 so far" in words and "452 4.2.2" in words and "only the recipient" in words and "bob" not in words
        # Without a server the store is asked all the same.
        server.stop()
        assert "mailbox-full" in server.cli("queue", "why", "ann@out.test")
        server.start()
        assert "nonsense" in server_error(server, "queue", "why", "nonsense")


def test_everything_goes_to_the_smart_host(make_server, tmp_path):
    with Host() as host:
        host.offers.append("AUTH PLAIN LOGIN")
        (tmp_path / "secret").write_text("s3cret\n")
        extra = f'[smarthost]\naddress = "{host.address}:{PORT}"\nuser = "us"\npassword_file = "{tmp_path}/secret"\n'
        server = start(make_server, host, extra=extra)
        user = server.user()
        submit(server, user, ["ann@one.test", "bob@two.test"], message())
        ((_, recipients, _),) = host.has()
    assert sorted(recipients) == ["ann@one.test", "bob@two.test"]
    assert "AUTH PLAIN " + base64.b64encode(b"\0us\0s3cret").decode() in host.said


# -- forwards, loops, crashes -----------------------------------------------------------------------------------------


def test_an_alias_may_lead_elsewhere(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        server.cli("alias", "add", "both@example.test", user, "ann@out.test")
        sent = message("to both")
        server.deliver("both@example.test", sent)
        ((sender, recipients, got),) = host.has()
        assert recipients == ["ann@out.test"] and sender.endswith("=elsewhere.test=stranger@example.test")
        assert got.endswith(sent) and b"DKIM-Signature" not in got
        assert mailbox(server, user)[0].endswith(sent)


class Knows(Host):
    """A host that takes mail for all but those who are gone."""

    gone: tuple[str, ...] = ()

    def answer(self, verb, line):
        return "550 5.1.1 No such user" if verb == "RCPT" and any(f"<{each}>" in line for each in self.gone) else None


def test_reports_about_a_forwarded_mail_find_its_sender(make_server):
    with Knows() as host:
        server = start(make_server, host, "out.test", "elsewhere.test")
        server.cli("alias", "add", "--forward", "away@example.test", "ann@out.test")
        server.deliver("away@example.test", message("first"))
        ((sender, _, _),) = host.has()
        assert sender.startswith("SRS0=")
        # The next host finds out later, and says so to the return address.
        with server.smtp("smtp") as client:
            client.sendmail("", sender, message("sorry"))
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                client.sendmail("ann@out.test", sender, message("a word with you"))
            ((code, words),) = refused.value.recipients.values()
            assert code == 550 and words.startswith(b"5.7.1 ")
        _, recipients, got = host.has(2)[1]
        assert recipients == ["stranger@elsewhere.test"] and b"sorry" in got
        # Or at once: then the report is ours.
        host.gone = ("ann@out.test",)
        server.deliver("away@example.test", message("second"))
        _, recipients, got = host.has(3)[2]
        assert recipients == ["stranger@elsewhere.test"]
        assert message_from_bytes(got).get_content_type() == "multipart/report" and b"away@example.test" in got
        eventually("the queue is empty", lambda: queue(server) == [])


def test_trap_18_a_mail_that_comes_back_for_ever_is_stopped(make_server):
    # A route that leads to ourselves: each round adds a Received field.
    server = make_server(trusted=("127.0.0.0/8",))
    with server.config.open("a") as config:
        config.write(f'[routes]\n"circle.test" = "{server.address}:{server.ports["smtp"]}"\n')
    server.start()
    user = server.user()
    submit(server, user, "ann@circle.test", message())
    _, words, _, (recipient,), _ = report(mailbox(server, user)[0])
    assert recipient["Status"] == "5.4.6" and "Too many hops" in words
    assert queue(server) == []


@pytest.mark.parametrize("round_", range(3))
def test_trap_23_a_kill_loses_nothing_and_doubles_only_what_was_under_way(make_server, round_):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, count = server.user(), 300
        with server.smtp("submission") as client:
            client.starttls(context=server.tls())
            client.login(user, PASSWORD)
            for n in range(count):
                client.sendmail(user, f"u{n}@out.test", message())
                if n == 100 * round_ + 50:
                    killer = threading.Timer(0.02, server.kill)
                    killer.start()
                    killer.join()
                    count = n + 1
                    break
        at_kill = len(host.taken)
        server.start()
        waiting = queue(server)
        eventually("the queue is empty", lambda: queue(server) == [], 60)
        got = Counter(recipient for _, recipients, _ in host.taken for recipient in recipients)
        assert set(got) == {f"u{n}@out.test" for n in range(count)}, (at_kill, len(waiting))
        # At most one mail for each connection that was open.
        assert sum(got.values()) - count <= 20, got.most_common(3)


def test_trap_22_a_stop_leaves_no_claim(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        for n in range(40):
            submit(server, user, f"u{n}@out.test", message())
        server.stop()
        assert all(r["state"] == "waiting" and r["uncertain"] == 0 for each in queue(server) for r in each["recipients"])
        server.start()
        host.has(40)
        eventually("the queue is empty", lambda: queue(server) == [])
        assert len(host.taken) == 40


def test_requiretls_is_offered_within_tls_and_kept(make_server):
    """RFC 8689: a host that knows nothing of it gets no such mail, and the report has none of the body."""
    with Host() as host:
        server = start(make_server, host, "elsewhere.test")
        with server.smtp("submission") as smtp:
            smtp.ehlo()
            assert not smtp.has_extn("requiretls")
            smtp.starttls(context=server.tls())
            smtp.ehlo()
            assert smtp.has_extn("requiretls")
            smtp.login("u0@example.test", PASSWORD)
            sent = message(body="nobody else reads this\r\n")
            options = ["REQUIRETLS", "RET=FULL"]
            smtp.sendmail("u0@example.test", ["u1@example.test", "x@elsewhere.test"], sent, options)
        assert mailbox(server, "u1@example.test")[0].endswith(sent)
        eventually("its host's lack is told", lambda: "REQUIRETLS" in server.cli("queue", "list"), 60)
        assert not host.taken


def test_the_queue_is_measured(make_server):
    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(f"http://{server.address}:{server.ports['http']}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    class Choosy(Host):
        def answer(self, verb: str, line: str) -> str | None:
            said = {"bob": "550 5.1.1 No such user", "eve": "451 4.7.1 Later"}
            return next((reply for name, reply in said.items() if verb == "RCPT" and f"<{name}@" in line), None)

    with Choosy() as host:
        server = start(make_server, host, "out.test")
        before = metrics()
        queued = [f"postroom_queue_{name}" for name in ["waiting", "claimed", "oldest_due_seconds", "held_groups"]]
        assert [before[name] for name in queued] == [0, 0, 0, 0]
        submit(server, server.user(), ["ann@out.test", "bob@out.test", "eve@out.test"], message())
        outcomes = [f'postroom_attempts_total{{stream="mail",outcome="{o}"}}' for o in ["delivered", "bounced", "deferred", "expired"]]
        eventually("all attempts are counted", lambda: [metrics()[name] for name in outcomes] == [1, 1, 1, 0])
        assert [metrics()[name] for name in queued] == [1, 0, 0, 0]
        site = 'postroom_site_recipients_total{source="default",site="other",stream="mail",outcome='
        assert [metrics()[f'{site}"{o}"}}'] for o in ["delivered", "deferred", "bounced", "expired"]] == [1, 1, 1, 0]
        assert not any('site="other",stream="marketing"' in name for name in metrics())
        first = "postroom_first_attempt_seconds"
        assert [metrics()[f'{first}_bucket{{stream="mail",le="{up_to}"}}'] for up_to in ["900", "+Inf"]] == [3, 3]
        assert [metrics()[f'{first}_count{{stream="{s}"}}'] for s in ["mail", "marketing"]] == [3, 0]
        assert 0 <= metrics()[f'{first}_sum{{stream="mail"}}'] < 900
