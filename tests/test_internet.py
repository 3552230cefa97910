"""The whole server in an internet of its own: a DNS with signed zones, and mail hosts that misbehave in every way. For each,
the receipt says what was, and the host has seen as much."""

import json
import time
from typing import NamedTuple

import pytest

from internet import Internet
from mail import message
from postroom import Failed, eventually, make_server
from test_outbound import submit

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]


class Truth(NamedTuple):
    """What has to be in the receipt, and how much of it the host has seen."""

    state: str
    of_class: str
    reply: str
    tls: str
    taken: int
    connections: int


def delivered(tls: str = "") -> Truth:
    return Truth("delivered", "", "250", tls, 1, 1)


def waits(of_class: str, reply: str, connections: int = 1) -> Truth:
    return Truth("waiting", of_class, reply, "", 0, connections)


def bounced(of_class: str, reply: str, connections: int = 0) -> Truth:
    return Truth("bounced", of_class, reply, "", 0, connections)


def dropped(answer: str) -> Truth:
    return waits("connection-lost", f"451 4.4.2 The connection to mx.{{domain}} was lost while it was to answer {answer}")


ANY = "certificate not verified"
GOOD = "certificate verified"
DANE = "451 4.7.5 The DNS names the certificate of the mail host mx.{domain} (DANE"
STS = "451 4.7.5 The MTA-STS policy of {domain} "

TRUTHS = {
    "plain.test": delivered(),
    "slow.test": delivered(),
    "crowded.test": waits("too-many-connections", "421 4.7.0 "),
    "drops-greeting.test": dropped("the greeting"),
    "drops-mail.test": dropped("MAIL FROM"),
    "drops-rcpt.test": dropped("RCPT TO"),
    "drops-data.test": dropped("DATA"),
    # Whoever is cut off within the body knows only that its end was not answered.
    "drops-body.test": dropped("the end of the body"),
    "drops-end.test": dropped("the end of the body"),
    "unknown.test": bounced("no-such-user", "550 5.1.1 ", 1),
    "full.test": waits("mailbox-full", "452 4.2.2 "),
    "refuses.test": bounced("bad-format", "554 5.6.0 ", 1),
    # RFC 7505 §4.2
    "null.test": bounced("no-such-domain", "556 5.1.10 "),
    "loopback.test": bounced("routing", "550 5.4.6 "),
    "nobody.test": bounced("no-such-domain", "550 5.1.2 "),
    # Any TLS is better than none (RFC 7435).
    "tls.test": delivered(GOOD),
    "tls-another.test": delivered(ANY + ": invalid peer certificate: certificate not valid for name"),
    "tls-expired.test": delivered(ANY + ": invalid peer certificate: certificate expired"),
    # RFC 7672: what is proven binds, what cannot be proven does not, and what is refuted is an error.
    "dane.test": delivered(GOOD + " (DANE)"),
    "dane-wrong.test": waits("tls-failed", DANE),
    "dane-clear.test": waits("tls-failed", DANE),
    "dane-unusable.test": delivered(ANY),
    "dane.open": delivered(ANY),
    "dane.bogus": waits("dns-failure", "451 4.4.3 ", 0),
    # RFC 8461
    "sts.test": delivered(GOOD + " (MTA-STS)"),
    "sts-clear.test": waits("tls-failed", STS + "demands TLS"),
    "sts-another.test": waits("tls-failed", STS + "demands TLS"),
    "sts-expired.test": waits("tls-failed", STS + "demands TLS"),
    "sts-unnamed.test": waits("tls-failed", STS + "does not name its mail host", 0),
    "sts-testing.test": delivered(ANY),
    "sts-gone.test": delivered(ANY),
    "sts-untrusted.test": delivered(ANY),
    "both.test": delivered(GOOD + " (DANE)"),
}
# These have tests of their own.
OTHERS = {"grey.test", "counts.test", "tires.test"}


@pytest.fixture(scope="module")
def internet(tmp_path_factory):
    with Internet(tmp_path_factory.mktemp("internet") / "files") as net:
        yield net


@pytest.fixture(scope="module")
def server(internet, tmp_path_factory):
    """A server in it, and mail on its way to everybody."""
    made = make_server(tmp_path_factory.mktemp("postroom"), extra=internet.laboratory())
    made.create()
    made.start()
    user = made.user()
    for domain in internet.domains:
        submit(made, user, [f"ann@{domain}"], message("hello", "Hello.\r\n"))
    yield made
    made.stop()
    made.verify()


def receipt(server, to: str, tries: int = 1) -> dict:
    """That of the last mail to somebody, once it was tried so often."""

    def tried():
        found = json.loads(server.cli("receipt", "find", to, "--json"))["receipts"]
        if not found or found[0]["tries"] < tries or found[0]["state"] == "claimed":
            return None
        return json.loads(server.cli("receipt", "show", found[0]["id"], "--json"))[0]

    return eventually(f"{tries} attempts for {to}", tried, 60)


@pytest.mark.parametrize("domain", TRUTHS)
def test_the_receipt_says_what_was(server, internet, domain):
    truth = TRUTHS[domain]
    shown = receipt(server, f"ann@{domain}")
    # On a slow machine the next attempt may be over as well: it went the same way.
    attempt, tries = shown["attempts"][0], len(shown["attempts"])
    dialogue = attempt.get("dialogue") or {}
    assert (shown["state"], shown["class"]) == (truth.state, truth.of_class), attempt
    assert attempt["reply"].startswith(truth.reply.format(domain=domain))
    said = dialogue.get("tls", "").split(", ", 1)[-1]
    # What is wrong with a certificate is said at length; that it is good, and who vouches for it, is said as it stands here.
    assert said.startswith(truth.tls) if truth.tls.startswith(ANY) else said == truth.tls
    seen = internet.seen(domain)
    assert (seen["taken"], seen["connections"]) == (truth.taken, truth.connections * tries), seen
    if truth.connections:
        assert (dialogue["host"], dialogue["address"].rsplit(":")[-1]) == (f"mx.{domain}", "25")
        assert bool(dialogue["steps"]) == (domain != "drops-greeting.test")
    else:
        assert not dialogue, "nobody was connected to"


def test_every_case_has_its_truth(internet):
    assert set(internet.domains) == set(TRUTHS) | OTHERS


def test_who_greylists_is_visited_again_when_it_said(server, internet):
    first, second = receipt(server, "ann@grey.test", tries=2)["attempts"]
    assert (first["outcome"], first["class"], first["code"]) == ("deferred", "greylisted", 450)
    assert (second["outcome"], second["code"]) == ("delivered", 250)
    assert first["at"] < second["at"]
    assert internet.seen("grey.test")["taken"] == 1


def test_a_mail_beyond_the_quota_waits_and_the_site_is_known_for_it(server, internet):
    assert receipt(server, "ann@counts.test")["state"] == "delivered"
    user = server.user()
    submit(server, user, ["ben@counts.test"], message("one more", "Hello.\r\n"))
    shown = receipt(server, "ben@counts.test")
    (attempt,) = shown["attempts"]
    assert (shown["state"], attempt["outcome"], attempt["code"]) == ("waiting", "deferred", 450)
    assert shown["class"] == "rate-limited"
    assert internet.seen("counts.test")["taken"] == 1


def test_a_pause_that_a_site_asked_for_ends_when_it_is_told_to(server, internet):
    user, site = server.user(), "mx.tires.test"

    def resume(*more: str):
        return server.cli("site", "resume", *more, "--json")

    assert receipt(server, "ann@tires.test")["state"] == "delivered"
    for arguments, words in [
        (["mx.nowhere.test"], "no site mx.nowhere.test has been sent to"),
        ([site], f"{site} is not paused: postroom site show"),
        ([site, "--source", "x"], "there is no source x"),
    ]:
        with pytest.raises(Failed, match=words):
            resume(*arguments)
    # The second is one too many, and what comes then is not tried.
    for name in ["ben", "carl", "dora"]:
        submit(server, user, [f"{name}@tires.test"], message("hello", "Hello.\r\n"))
    command = f"postroom site resume {site} --source default"
    eventually("a pause, and who can end it", lambda: command in server.cli("queue", "why", "dora@tires.test"))
    assert command in server.cli("site", "show", site) and "postroom site resume SITE" in server.cli("site", "list")
    time.sleep(10)
    (ended,) = json.loads(resume("tires.test", "--source", "default"))
    assert (ended["site"], ended["source"], ended["sender"]) == (site, "default", None)
    eventually("one more is taken", lambda: internet.seen("tires.test")["taken"] == 2)


def test_a_server_in_a_laboratory_says_so(server):
    assert server.says("nothing leaves this machine")


def test_the_doctor_asks_the_laboratory(server):
    """Its DNS proves what it says."""
    assert "the DNS resolver passes on what DNSSEC needs" in server.cli("doctor", check=False)
