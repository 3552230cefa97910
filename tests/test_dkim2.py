"""DKIM2, read as draft-ietf-dkim-dkim2-spec-06 says: what a mail is stands in Message-Instance, who sent it to whom in
DKIM2-Signature, and openssl finds the signatures good by the records in the DNS."""

import base64
import hashlib
import json
import re

import pytest

from host import Host
from mail import message
from postroom import run
from test_outbound import fields, relaxed, start, submit, verify_signatures

pytestmark = [pytest.mark.ours, pytest.mark.needs("relay")]

ON = "[dkim]\ndkim2 = true\n"
# Section 4.1.
UNSIGNED = """apparently-to arc-authentication-results arc-message-signature arc-seal authentication-results auto-submitted
    delivered-to dkim-signature dl-expansion-history original-recipient received return-path sio-label-history vbr-info
    x400-received x400-trace message-instance dkim2-signature""".split()


def tags(value: bytes) -> dict[str, str]:
    """Sections 7 and 8: white space does not count within any of ours."""
    parts = re.sub(r"\s", "", value.decode()).split(";")
    assert parts.pop() == ""
    found = dict(part.split("=", 1) for part in parts)
    assert len(found) == len(parts)
    return found


def verify(raw: bytes, sender: str, recipients: list[str], records: dict[str, str], tmp_path) -> set[str]:
    """Section 11, for a mail of one hop; gives the algorithms that signed it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    all_fields = fields(head)
    (instance,), (signature,) = ([value for name, value in all_fields if name.lower() == wanted]
                                 for wanted in (b"message-instance", b"dkim2-signature"))  # fmt: skip
    said, sig = tags(instance), tags(signature)
    assert (said["m"], sig["i"], sig["m"]) == ("1", "1", "1") and "nd" not in sig
    # Section 6.
    kept = [(n, v) for n, v in all_fields
            if n.decode().strip().lower() not in UNSIGNED and not n.lower().startswith((b"x-", b"received-"))]  # fmt: skip
    ordered = sorted(reversed(kept), key=lambda field: field[0].strip().lower())
    header_hash = hashlib.sha256(b"".join(relaxed(n.strip(), v) + b"\r\n" for n, v in ordered)).digest()
    body_hash = hashlib.sha256(re.sub(rb"(\r\n)*\Z", b"\r\n", body, count=1)).digest()
    assert said["h"] == ":".join(["sha256", *(base64.b64encode(h).decode() for h in (header_hash, body_hash))])
    # Section 11.4: the envelope, and whose domain vouches for it.
    assert base64.b64decode(sig["mf"]).decode() == f"<{sender}>"
    assert [base64.b64decode(to).decode() for to in sig["rt"].split(",")] == [f"<{to}>" for to in recipients]
    assert sender.endswith("@" + sig["d"])
    # Section 9.6.
    empty = re.sub(rb"(:(?:rsa|ed25519)-sha256:)[^,;]*", rb"\1", re.sub(rb"\s", b"", signature))
    signed = b"message-instance:" + re.sub(rb"\s", b"", instance) + b"\r\ndkim2-signature:" + empty + b"\r\n"
    good = set()
    for one in sig["s"].split(","):
        selector, algorithm, value = one.split(":")
        key = dict(tag.strip().split("=", 1) for tag in records[f"{selector}._domainkey.{sig['d']}"].split(";"))
        public, octets, how = base64.b64decode(key["p"]), signed, ["-digest", "sha256"]
        assert key["k"] == algorithm.removesuffix("-sha256")
        if algorithm == "ed25519-sha256":
            public, octets, how = bytes.fromhex("302a300506032b6570032100") + public, hashlib.sha256(signed).digest(), []
        for file, content in {"key": public, "signed": octets, "signature": base64.b64decode(value)}.items():
            (tmp_path / file).write_bytes(content)
        run("openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", tmp_path / "key", "-in", tmp_path / "signed",
            "-sigfile", tmp_path / "signature", "-rawin", *how)  # fmt: skip
        good.add(algorithm)
    return good


def of(user: str, *parts: str) -> bytes:
    return message(*parts).replace(b"<stranger@elsewhere.test>", f"<{user}>".encode())


def records(server) -> dict[str, str]:
    return {each["name"]: each["value"] for each in json.loads(server.cli("domain", "dns", "example.test", "--json"))}


def test_each_recipient_gets_a_mail_that_names_only_them(make_server, tmp_path):
    with Host() as host:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + ON)
        user, to = server.user(), ["ann@out.test", "bob@out.test", "o'x+y@out.test"]
        more = "Comments: the first\r\nCOMMENTS:\tand   the\r\n  second \r\nX-Mailer: none of theirs\r\nTo: all@out.test\r\n"
        raw = of(user, "signed,  with   spaces", "A  line \t of words \r\n\r\n.dot\r\nend \r\n\r\n\r\n", more)
        submit(server, user, to, raw)
        got = host.has(3)
        keys = records(server)
    assert sorted(one for _, recipients, _ in got for one in recipients) == sorted(to)
    for sender, recipients, mail in got:
        assert verify(mail, sender, recipients, keys, tmp_path) == {"rsa-sha256", "ed25519-sha256"}
        # The first kind vouches for it too, and the mail is what it was.
        assert verify_signatures(mail, keys, tmp_path) == {"rsa-sha256", "ed25519-sha256"}
        assert mail.endswith(raw) and all(len(line) <= 998 for line in mail.split(b"\r\n"))
    sender, recipients, mail = got[0]
    # What is changed, or sent on to another, is found out.
    for changed in (mail.replace(b"signed,", b"signed;"), mail.replace(b".dot", b".dots"), mail.replace(b"; t=1", b"; t=2")):
        assert changed != mail
        with pytest.raises(Exception):
            verify(changed, sender, recipients, keys, tmp_path)
    with pytest.raises(AssertionError):
        verify(mail, sender, ["other@out.test"], keys, tmp_path)


def test_a_return_address_of_its_own_is_what_is_signed(make_server, tmp_path):
    with Host() as host:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + ON)
        user = server.user()
        server.cli("account", "change", user, "--stream", "marketing")
        server.cli("queue", "verp", "marketing")
        submit(server, user, ["ann@out.test", "bob@out.test"], of(user))
        got = host.has(2)
        keys = records(server)
    for sender, recipients, mail in got:
        assert sender != user
        assert verify(mail, sender, recipients, keys, tmp_path) == {"rsa-sha256", "ed25519-sha256"}


@pytest.mark.parametrize("switch, field, own", [
    (False, "", True), (True, "Auto-Submitted: auto-replied\r\n", True), (True, "VBR-Info: md=x\r\n", True), (True, "", False),
])  # fmt: skip
def test_it_is_not_signed_where_nobody_asked_or_readers_disagree(make_server, tmp_path, switch, field, own):
    with Host() as host:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + (ON if switch else ""))
        user, parts = server.user(), ("plain", "hello\r\n", field)
        # In another's name it is not signed either.
        submit(server, user, ["ann@out.test", "bob@out.test"], of(user, *parts) if own else message(*parts))
        got = host.has(1)
        assert verify_signatures(got[0][2], records(server), tmp_path) == {"rsa-sha256", "ed25519-sha256"}
    assert [len(recipients) for _, recipients, _ in got] == [2]
    assert b"DKIM2-Signature" not in got[0][2] and b"Message-Instance" not in got[0][2]


def test_what_is_forwarded_from_here_is_not_signed_in_anothers_name(make_server, tmp_path):
    with Host() as host:
        server = start(make_server, host, "out.test", extra=host.route("out.test") + ON)
        server.cli("alias", "add", "away@example.test", "ann@out.test")
        user = server.user()
        submit(server, user, ["away@example.test", "bob@out.test"], of(user))
        got = {recipients[0]: (sender, mail) for sender, recipients, mail in host.has(2)}
        keys = records(server)
    sender, mail = got["bob@out.test"]
    assert verify(mail, sender, ["bob@out.test"], keys, tmp_path) == {"rsa-sha256", "ed25519-sha256"}
    assert b"Message-Instance" not in got["ann@out.test"][1] and b"DKIM2-Signature" not in got["ann@out.test"][1]
