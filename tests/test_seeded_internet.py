"""The whole server in an internet that a seed made (docs/simulation.md): whatever its sites are like, what they take is
delivered, what they refuse bounces, and nothing is lost or comes twice. POSTROOM_SEED makes another."""

import json
import os
import re
import time
from collections import Counter

import pytest

from internet import Internet, described
from mail import message, pop3_all
from postroom import DOMAIN, PASSWORD, eventually, make_server

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

SEED = int(os.environ.get("POSTROOM_SEED") or 1)
# The first three hundred mails of a day of three thousand, where a minute takes a second.
WORLD = {"sites": 40, "mails": 300, "day": 3000, "hurry": 60, "mishaps": 200}
# By the fate of a mail: the status that says so (RFC 3463, RFC 7505 §4.2).
REFUSED = {"unknown": "5.1.1", "unwanted": "5.6.0", "nowhere": "5.1.10"}
SECONDS = 45


@pytest.fixture(scope="module")
def internet(tmp_path_factory):
    with Internet(tmp_path_factory.mktemp("internet") / "files", seed=SEED, **WORLD) as net:
        yield net


@pytest.fixture(scope="module")
def server(internet, tmp_path_factory):
    made = make_server(tmp_path_factory.mktemp("postroom"), accounts=0, extra=internet.laboratory())
    made.create()
    made.cli("account", "add", f"b@{DOMAIN}", "--password-stdin", stdin=PASSWORD)
    made.start()
    yield made
    made.stop()
    made.verify()


def submit(server, mails: list[dict]) -> None:
    """Each has a sender of its own, by which the sites know it again."""
    with server.smtp("submission") as client:
        client.starttls(context=server.tls())
        client.login(f"b@{DOMAIN}", PASSWORD)
        for mail in mails:
            client.sendmail(mail["from"], [mail["to"]], message(f"mail {mail['number']}"))


def exported(server, what: str) -> dict[str, dict]:
    """By recipient: each has one mail."""
    lines = [json.loads(line) for line in server.cli(what, "export", "--json").splitlines()]
    return {line["to"]: line for line in lines}


def has_had_enough(internet) -> set[int]:
    """Sites that refused something for the number of mails: they have to be waited for."""
    return {site["site"] for site in internet.sites if internet.seen(site["domains"][0])["refused"].get("Rate")}


def test_what_sites_take_is_delivered_and_what_they_refuse_bounces(server, internet):
    submit(server, internet.mails)
    mails = {mail["to"]: mail for mail in internet.mails}

    def may_wait(row: dict, enough: set[int]) -> bool:
        mail = mails[row["to"]]
        return mail["site"] in enough or mail["fate"] == "full" and row["reply"].startswith("452 4.2.2 ")

    def is_over():
        enough = has_had_enough(internet)
        left = [to for to, row in exported(server, "queue").items() if not may_wait(row, enough)]
        # Attempts are minutes apart where nobody asks for them.
        for to in left:
            server.cli("queue", "retry", "--to", to)
        return not left

    eventually("what is neither full nor too much is over", is_over, SECONDS, every=1)
    # Nothing is under way.
    server.stop()
    ended, waits = exported(server, "receipt"), exported(server, "queue")
    server.start()
    sites = [internet.seen(site["domains"][0]) for site in internet.sites]
    assert all(site["taken"] == len(site["numbers"]) for site in sites), "one came twice"
    taken = {number for site in sites for number in site["numbers"]}
    enough = has_had_enough(internet)
    for to, mail in mails.items():
        receipt, row = ended.get(to), waits.get(to)
        assert bool(receipt) != bool(row), f"{mail} is lost, or there twice"
        was_taken, fate = mail["number"] in taken, mail["fate"]
        if row:
            assert may_wait(row, enough) and not was_taken, row
        else:
            state = {"taken": "delivered", "full": "waiting"}.get(fate, "bounced")
            assert (receipt["state"], was_taken) == (state, fate == "taken"), (mail, receipt)
    assert len(ended) + len(waits) == len(mails) == len(internet.mails), "there is more than was sent"


def test_each_bounce_is_reported_once_with_what_was_said(server, internet):
    """Of the mails of the test above."""
    bounced = {to for to, receipt in exported(server, "receipt").items() if receipt["state"] == "bounced"}
    client = server.pop3(f"b@{DOMAIN}")
    reports = [report.decode() for report in pop3_all(client)]
    client.quit()
    failed = [report for report in reports if "\r\nAction: failed\r\n" in report]
    said = {}
    for report in failed:
        (to,) = re.findall(r"^Final-Recipient: rfc822;\s*(\S+)\r$", report, re.M)
        assert to not in said, "it was reported twice"
        (said[to],) = re.findall(r"^Status: (\S+)\r$", report, re.M)
    assert set(said) == bounced
    fates = {mail["to"]: mail["fate"] for mail in internet.mails}
    assert {to: REFUSED[fates[to]] for to in said} == said


def test_the_sites_of_this_seed_misbehave_in_every_way(server, internet):
    """Else the tests above say little. Of the seed that is the default."""
    if SEED != 1:
        pytest.skip("another seed")
    refused = Counter()
    for site in internet.sites:
        refused.update(internet.seen(site["domains"][0])["refused"])
    assert {"Dropped", "Later", "Greylisted", "Rate", "Unknown", "Unwanted"} <= set(refused)
    assert {mail["fate"] for mail in internet.mails} == {"taken", "unknown", "unwanted", "full", "nowhere"}


def test_the_same_seed_is_the_same_internet_and_another_is_another(internet):
    again, another = described(seed=SEED, **WORLD), described(seed=SEED + 1, **WORLD)
    assert again == internet.sites + internet.mails
    assert another[: WORLD["sites"]] != internet.sites and another[WORLD["sites"] :] != internet.mails
