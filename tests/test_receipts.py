"""What the administrator reads of mail that left: attempts with the dialogue, how it ended, lists and exports."""

import csv
import io
import json
import re
import smtplib

import pytest

from host import Host
from mail import message
from postroom import DOMAIN, eventually
from test_outbound import mailbox, start, submit

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]


def receipts(server, *arguments: str):
    return json.loads(server.cli("receipt", *arguments, "--json"))


def find(server, *arguments: str, count: int = 1):
    def found():
        all = receipts(server, "find", *arguments)["receipts"]
        ended = all and all[0]["state"] not in ("waiting", "claimed")
        return all if ended and len(all) >= count else None

    return eventually(f"receipts of {arguments}", found)


def test_a_receipt_tells_the_whole_story(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        submit(server, user, ["ann@out.test"], message("told", "The body.\r\n"))
        host.has()
        (one,) = find(server, "ann@out.test")
        (shown,) = receipts(server, "show", one["id"])
        text = server.cli("receipt", "show", one["id"])
    assert (one["state"], one["from"], one["stream"], one["tries"]) == ("delivered", user, "mail", 1)
    (attempt,) = shown["attempts"]
    assert attempt["outcome"] == "delivered" and attempt["code"] == 250
    dialogue = attempt["dialogue"]
    assert dialogue["address"] == f"{host.address}:{dialogue['address'].rsplit(':')[-1]}"
    steps = dialogue["steps"]
    # Of the world outside it is known what a client says, and in which order (RFC 5321 §4.1.4).
    commands = [step["command"] for step in steps]
    assert commands[:2] == ["(connected)", "EHLO"] and commands[-4:] == ["MAIL FROM", "RCPT TO", "DATA", "(end of the mail)"]
    times = [step["ms"] for step in steps]
    assert times == sorted(times) and all(step["reply"] for step in steps)
    assert f"to <ann@out.test>, from <{user}>" in text and "RCPT TO" in text


def test_a_refusal_has_its_class_and_is_found_by_message_id(make_server):
    with Host(RCPT="550 5.2.2 The mailbox is full") as host:
        server = start(make_server, host, "out.test")
        user, sent = server.user(), message("refused")
        submit(server, user, "bob@out.test", sent)
        (one,) = find(server, "bob@out.test")
        identity = next(line for line in sent.decode().split("\r\n") if line.lower().startswith("message-id:"))
        (again,) = find(server, identity.split(":", 1)[1].strip(), "--message-id")
        listed = receipts(server, "list", "--state", "bounced", "--class", "mailbox-full", "--since", "1h")
        none = receipts(server, "list", "--state", "delivered")
        table = list(csv.DictReader(io.StringIO(server.cli("receipt", "export", "--csv"))))
        lines = [json.loads(line) for line in server.cli("receipt", "export").splitlines()]
    assert (one["state"], one["class"]) == ("bounced", "mailbox-full") and again == one
    assert listed["receipts"] == [one] and none["receipts"] == []
    assert [(row["to"], row["state"], row["class"]) for row in table] == [("bob@out.test", "bounced", "mailbox-full")]
    assert lines == [one]
    assert (one["source"], one["organisation"], one["tries"], one["uncertain"]) == ("default", "main", 1, 0)
    assert [(row["source"], row["host"], row["organisation"], row["tries"], row["uncertain"]) for row in table] == [
        ("default", one["host"], "main", "1", "0")
    ] and one["host"]


def test_receipts_are_narrowed_by_sender_source_site_and_state(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, other = server.user(), server.user()
        submit(server, user, "ann@out.test", message("from one"))
        submit(server, other, "ann@out.test", message("from another"))
        find(server, "ann@out.test", count=2)
        host.answers["RCPT"] = "451 4.7.1 Greylisted"
        submit(server, user, "ann@out.test", message("put off"))
        # Before it was tried it waits, too.
        put_off = ["find", "ann@out.test", "--state", "waiting", "--class", "greylisted"]
        waiting = eventually("it waits", lambda: receipts(server, *put_off)["receipts"])
        where = waiting[0]["host"]

        def found(*which: str):
            return [(one["from"], one["state"]) for one in receipts(server, "find", "ann@out.test", *which)["receipts"]]

        def exported(*which: str):
            return [json.loads(line)["from"] for line in server.cli("receipt", "export", *which).splitlines()]

        first, second, third = (user, "delivered"), (other, "delivered"), (user, "waiting")
        assert found() == [third, second, first] and found("--state", "delivered") == [second, first]
        assert found("--from", user.upper()) == [third, first] and found("--from", "@elsewhere.test") == []
        assert found("--class", "greylisted") == [third]
        assert found("--site", where, "--source", "default") == [third, second, first]
        assert found("--source", "news-1") == [] and found("--site", "elsewhere.test") == []
        assert exported("--from", other) == [other] and exported("--site", where) == [other, user]
        assert exported("--source", "news-1") == [] and exported("--organisation", "main", "--stream", "mail") == [other, user]
        listed = receipts(server, "list", "--from", f"@{DOMAIN}", "--limit", "1")
        assert [one["from"] for one in listed["receipts"]] == [other] and listed["next"]
        for which, words in [(("--state", "lost"), "waiting, claimed, held, cancelling"), (("--organisation", "x"), "organisation")]:
            with pytest.raises(Exception, match=words):
                server.cli("receipt", "find", "ann@out.test", *which)


def test_a_mail_to_many_is_shown_whole_though_it_is_read_in_pages(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        submit(server, server.user(), [f"u{n}@out.test" for n in range(730)], message("to many"))
        listed = eventually(
            "receipts of all",
            lambda: (all := receipts(server, "list", "--limit", "1000")["receipts"])[729:] and all,
        )
        shown = receipts(server, "show", listed[0]["id"])
        text = server.cli("receipt", "show", listed[0]["id"])
        identity = (shown[0]["message_id"], "--message-id", "--limit", "20")
        some, told = receipts(server, "find", *identity)["receipts"], server.cli("receipt", "find", *identity)
        (one,) = find(server, "u700@out.test")
    assert len(some) == 20 and all(found in listed for found in some) and "There are more" in told
    assert one == listed[29]
    assert [(one["number"], one["to"]) for one in shown] == [(n, f"u{n}@out.test") for n in range(730)]
    assert all(one["state"] == "delivered" and len(one["attempts"]) == 1 for one in shown)
    heads = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
    assert heads == [f"{listed[0]['id']}/{n}" for n in range(730)]


def test_questions_that_make_no_sense_are_answered_so(make_server):
    server = make_server()
    server.start()
    for arguments, words in [
        (["show", "nonsense"], "has a number like 3-1f"),
        (["show", "1-ffff"], "there is no receipt of 1-ffff"),
        (["list", "--state", "gone"], "delivered, bounced, expired or cancelled"),
        (["list", "--since", "yesterday"], "a time is 2026-11-22"),
        (["list", "--after", "7"], "a delivery has a number like 3-1f/0"),
        (["list", "--account", "nobody@mx.test"], "there is no account"),
    ]:
        with pytest.raises(Exception, match=re.escape(words)):
            server.cli("receipt", *arguments)
    assert "No mail that left here" in server.cli("receipt", "find", "nobody@out.test")


def suppressions(server, *arguments: str):
    return json.loads(server.cli("suppression", *arguments, "--json"))["suppressions"]


def test_trap_35_nothing_gets_round_a_suppression(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, forwarded = server.user(), f"away@{DOMAIN}"
        server.cli("alias", "add", forwarded, "Ann@out.test", "--forward")
        server.cli("suppression", "add", "ann@out.test", "--note", "asked by telephone")
        # Submitted by a person, and forwarded for one.
        submit(server, user, ["ann@out.test", "bob@out.test"], message("to both"))
        server.deliver(forwarded, message("forwarded"))
        refused = find(server, "ann@out.test", count=2)
        (taken,) = find(server, "bob@out.test")
        (returned,) = mailbox(server, user)
        assert host.has()
        (listed,) = suppressions(server, "list")
        # It ends as the administrator says.
        server.cli("suppression", "remove", "ann@out.test")
        submit(server, user, "ann@out.test", message("at last"))
        find(server, "ann@out.test", count=3)
    assert {one["state"] for one in refused} == {"bounced"} and {one["class"] for one in refused} == {"suppressed"}
    assert taken["state"] == "delivered"
    assert b"suppression list" in returned and b"5.7.1" in returned
    assert (listed["address"], listed["stream"], listed["note"]) == ("ann@out.test", "all", "asked by telephone")
    assert suppressions(server, "list") == []


def test_hard_bounces_of_marketing_suppress(make_server):
    with Host(RCPT="550 5.1.1 No such user") as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        submit(server, user, "bob@out.test", message("from a person"))
        find(server, "bob@out.test")
        assert suppressions(server, "list") == []
        server.cli("account", "change", user, "--stream", "marketing")
        submit(server, user, "bob@out.test", message("from a marketer"))
        listed = eventually("it is suppressed", lambda: suppressions(server, "list"))
        submit(server, user, "bob@out.test", message("again"))
        third = find(server, "bob@out.test", count=3)[0]
        table = list(csv.DictReader(io.StringIO(server.cli("suppression", "export", "--csv"))))
        server.cli("suppression", "add", "zoe@elsewhere.test")
        some = [suppressions(server, "list", *which) for which in [
            ("--reason", "manual"), ("--address-part", "@out.test", "--stream", "marketing"), ("--address-part", "ZOE"),
            ("bob@out.test", "--reason", "manual")]]  # fmt: skip
        lines = [json.loads(line) for line in server.cli("suppression", "export", "--reason", "manual").splitlines()]
    # Both kinds of bulk mail, with the receipt that shows why.
    assert [one["stream"] for one in listed] == ["transactional", "marketing"]
    assert all(one["reason"] == "no-such-user" and "5.1.1" in one["note"] for one in listed)
    assert third["class"] == "suppressed" and listed[0]["receipt"] != f"{third['id']}/0"
    assert [row["address"] for row in table] == ["bob@out.test"] * 2
    assert [[one["address"] for one in found] for found in some] == [
        ["zoe@elsewhere.test"], ["bob@out.test"], ["zoe@elsewhere.test"], []]  # fmt: skip
    assert lines == some[0]


def bounce(about: bytes, to: str, recipient: str) -> bytes:
    """A report as Postfix writes them (RFC 3464), about a mail that was taken and then could not be delivered."""
    header = about.split(b"\r\n\r\n")[0].decode()
    lines = [
        "From: MAILER-DAEMON@out.test", f"To: {to}", "Subject: Undelivered Mail Returned to Sender", "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0", 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"', "",
        "--b", "", "I'm sorry to have to inform you that your message could not be delivered.", "",
        "--b", "Content-Type: message/delivery-status", "", "Reporting-MTA: dns; mx.out.test", "",
        f"Final-Recipient: rfc822; {recipient}", "Action: failed", "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 User unknown in virtual mailbox table", "",
        "--b", "Content-Type: text/rfc822-headers", "", header, "", "--b--", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def test_a_report_that_comes_back_finds_its_receipt(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, other = server.user(), server.user()
        server.cli("account", "change", user, "--stream", "marketing")
        sent = message("news")
        submit(server, user, "ann@out.test", sent)
        (before,) = find(server, "ann@out.test")
        # To somebody else, of somebody else: whoever has not got the mail cannot speak of it.
        server.deliver(other, bounce(sent, other, "ann@out.test"), sender="")
        server.deliver(user, bounce(sent, user, "bob@out.test"), sender="")
        (same,) = find(server, "ann@out.test")
        assert same == before and suppressions(server, "list") == []
        server.deliver(user, bounce(sent, user, "Ann@out.test"), sender="")
        (after,) = find(server, "ann@out.test")
        (shown,) = receipts(server, "show", before["id"])
        suppressed = suppressions(server, "list", "ann@out.test")
        # The mail that said so is in the mailbox.
        assert len(mailbox(server, user, 2)) == 2
    assert (before["state"], after["state"], after["class"]) == ("delivered", "bounced", "no-such-user")
    (event,) = shown["events"]
    assert event["kind"] == "bounced" and "User unknown" in event["detail"]
    assert [one["stream"] for one in suppressed] == ["transactional", "marketing"]


def test_a_report_to_the_return_address_of_a_delivery_finds_its_receipt(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user = server.user()
        server.cli("account", "change", user, "--stream", "marketing")
        server.cli("queue", "verp", "marketing")
        submit(server, user, ["ann@out.test", "bob@out.test"], message("news"))
        addresses = {to[0]: sender for sender, to, _ in host.has(2)}
        for recipient in addresses:
            find(server, recipient)
        # It names no mail that we sent, nor whom we sent it to: the address says all.
        server.deliver(addresses["ann@out.test"], bounce(b"X: y", user, "ann@behind.test"), sender="")
        server.deliver(addresses["bob@out.test"].upper(), message("What is this?"), sender="bob@behind.test")
        (ann,), (bob,) = find(server, "ann@out.test"), find(server, "bob@out.test")
        told = [receipts(server, "show", f"{one['id']}")[one["number"]]["events"] for one in (ann, bob)]
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            local, _, domain = addresses["ann@out.test"].partition("@")
            server.deliver(f"{local[:-1]}{'a' if local[-1] != 'a' else 'i'}@{domain}", message("forged"), sender="")
        assert server.cli("queue", "list").strip() == "The queue is empty"
        client = server.pop3(user)
        assert client.stat()[0] == 0
        client.quit()
    assert all(address.startswith("bounce+") and address.endswith(f"@{DOMAIN}") for address in addresses.values())
    assert (ann["state"], ann["class"], bob["state"]) == ("bounced", "no-such-user", "delivered")
    assert [[event["kind"] for event in events] for events in told] == [["bounced"], ["replied"]]
    assert [code for code, _ in refused.value.recipients.values()] == [550]


def complaint(about: bytes, recipient: str) -> bytes:
    """As a provider writes it (RFC 5965), about a mail as its reader got it."""
    lines = [
        "From: Feedback <fbl@provider.test>", f"To: fbl@{DOMAIN}", "Subject: A complaint of a user", "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type=feedback-report; boundary="cut"', "",
        "--cut", "Content-Type: text/plain", "", "One of our users does not want this mail.", "",
        "--cut", "Content-Type: message/feedback-report", "", "Feedback-Type: abuse", "User-Agent: provider/1", "Version: 1",
        f"Original-Rcpt-To: <{recipient}>", "Arrival-Date: Mon, 23 Nov 2026 08:00:00 +0000", "",
        "--cut", "Content-Type: message/rfc822", "", f"Received: from {DOMAIN} by provider.test; Mon, 23 Nov 2026 08:00:00 +0000",
        about.decode(), "--cut--", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def answer(about: bytes, author: str, *fields: str) -> bytes:
    identity = next(line for line in about.decode().split("\r\n") if line.lower().startswith("message-id:")).split(":", 1)[1]
    lines = [f"From: <{author}>", "Subject: Re: news", f"In-Reply-To:{identity}", *fields, "", "Thank you.", ""]
    return "\r\n".join(lines).encode()


def test_complaints_and_answers_find_their_receipts(make_server):
    with Host() as host:
        server = start(make_server, host, "out.test")
        user, other = server.user(), server.user()
        server.cli("alias", "add", f"fbl@{DOMAIN}", other)
        server.cli("account", "change", user, "--stream", "marketing")
        sent, people = message("news"), ["ann@out.test", "bob@out.test", "cid@out.test"]
        submit(server, user, people, sent)
        before = [find(server, person)[0] for person in people]
        # Of somebody who did not get it.
        server.deliver(f"fbl@{DOMAIN}", complaint(sent, "dan@out.test"), sender="fbl@provider.test")
        server.deliver(user, answer(sent, "dan@out.test"), sender="dan@out.test")
        server.deliver(f"fbl@{DOMAIN}", complaint(sent, "Ann@out.test"), sender="fbl@provider.test")
        server.deliver(user, answer(sent, "bob@out.test"), sender="bob@out.test")
        server.deliver(user, answer(sent, "cid@out.test", "Auto-Submitted: auto-replied"), sender="cid@out.test")
        shown = receipts(server, "show", before[0]["id"])
        heard = [[event["kind"] for event in one["events"]] for one in shown]
        suppressed = suppressions(server, "list")
        told = [json.loads(line)["type"] for line in server.cli("events").splitlines()]
        # All of that is in the mailboxes.
        assert len(mailbox(server, user, 3)) == 3 and len(mailbox(server, other, 2)) == 2
    assert [one["to"] for one in shown] == people and heard == [["complained"], ["replied"], ["auto-replied"]]
    assert [(one["address"], one["stream"], one["reason"]) for one in suppressed] == [("ann@out.test", "marketing", "complaint")]
    assert told[-3:] == ["complaint.received", "reply.received", "reply.automatic"]
