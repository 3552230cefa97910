"""Certificates: several by the name the client asks for, new ones while the server runs, and from an authority."""

import json
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from authority import CHALLENGE_PORT, Authority
from postroom import BINARY, DOMAIN, HOSTNAME, REPLY_SECONDS, Dialogue, eventually, free_address, run

pytestmark = [pytest.mark.ours, pytest.mark.needs("tls", "imap")]

ONE, TWO = "mail.one.test", "mail.two.test"
BOTH = "".join(f'[[tls]]\ncertificate = "{name}.pem"\nkey = "{name}.key"\n' for name in (ONE, TWO))


def make_certificate(directory: Path, name: str) -> Path:
    """A new self-signed certificate for `name`, moved into place as an administrator's tool would."""
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{key}.new", "-out", f"{chain}.new")  # fmt: skip
    Path(f"{key}.new").rename(key)
    Path(f"{chain}.new").rename(chain)
    return chain


def der(chain: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(chain.read_text())


def handshake(plain: socket.socket, name: str | None, trusted: Path | None = None) -> ssl.SSLSocket:
    """TLS over a connection. With `trusted` the certificate must name `name` and lead there."""
    if trusted:
        context = ssl.create_default_context(cafile=str(trusted))
    else:
        context = ssl._create_unverified_context()
    return context.wrap_socket(plain, server_hostname=name)


def shown(server, name: str | None, trusted: Path | None = None) -> bytes:
    """The certificate that is shown on 993 to a client that asks for `name`."""
    with socket.create_connection((server.address, server.ports["imaps"]), REPLY_SECONDS) as plain:
        with handshake(plain, name, trusted) as tls:
            return tls.getpeercert(binary_form=True)


def session(server, trusted: Path, name: str) -> Dialogue:
    """An IMAP session under TLS."""
    imap = server.connect("imaps")
    imap.socket = handshake(imap.socket, name, trusted)
    assert imap.line().startswith("* OK")
    return imap


@pytest.fixture
def server(make_server):
    """A server with two certificates."""
    made = make_server(accounts=1, own_certificate=False, extra=BOTH)
    for name in (ONE, TWO):
        make_certificate(made.directory, name)
    made.start()
    return made


def hangup(server):
    server.process.send_signal(signal.SIGHUP)


def test_the_name_chooses_under_tls(server):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    assert shown(server, ONE, trusted=one) == der(one)
    assert shown(server, TWO, trusted=two) == der(two)
    # Who asks for another name, or none, sees the first.
    assert shown(server, "mail.three.test") == shown(server, None) == der(one)


@pytest.mark.parametrize("port, commands", [
    ("imap", [("a STARTTLS", "a OK")]), ("pop3", [("STLS", "+OK")]),
    ("smtp", [("EHLO client.test", "250"), ("STARTTLS", "220")]),
    ("submission", [("EHLO client.test", "250"), ("STARTTLS", "220")]),
])  # fmt: skip
def test_the_name_chooses_after_starttls(server, port, commands):
    for name in (ONE, TWO):
        with server.connect(port) as dialogue:
            dialogue.reply()
            for command, answer in commands:
                dialogue.ask(command, answer)
            chain = server.directory / f"{name}.pem"
            dialogue.socket = handshake(dialogue.socket, name, trusted=chain)
            assert dialogue.socket.getpeercert(binary_form=True) == der(chain)


def test_a_renewed_certificate_is_served_at_once_and_old_sessions_live(server):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    before = der(one)
    with session(server, one, ONE) as imap:
        make_certificate(server.directory, ONE)
        assert shown(server, ONE) == before
        hangup(server)
        eventually("the new certificate is shown", lambda: shown(server, ONE) == der(one), 5)
        assert der(one) != before and shown(server, ONE, trusted=one) == der(one)
        assert shown(server, TWO, trusted=two) == der(two)
        imap.tagged("a", "NOOP")
    assert server.says("a new certificate is in use") and server.says(f"{ONE}.pem")


def broken_key(directory: Path):
    (directory / f"{ONE}.key").write_bytes((directory / f"{TWO}.key").read_bytes())


def broken_chain(directory: Path):
    (directory / f"{ONE}.pem").write_text("no certificate\n")


def no_chain(directory: Path):
    (directory / f"{ONE}.pem").unlink()


@pytest.mark.parametrize("damage, words", [
    (broken_key, f"{ONE}.key: this is not the key of the certificate in "),
    (broken_chain, f"{ONE}.pem: there is no certificate in this file"), (no_chain, f"{ONE}.pem: No such file"),
])  # fmt: skip
def test_a_broken_certificate_changes_nothing_and_is_told(server, damage, words):
    one, two = (server.directory / f"{name}.pem" for name in (ONE, TWO))
    before = der(one)
    damage(server.directory)
    make_certificate(server.directory, TWO)
    hangup(server)
    eventually("the mistake is in the log", lambda: words in server.tail(), 5)
    assert shown(server, ONE) == before
    assert shown(server, TWO, trusted=two) == der(two)  # the other one was renewed all the same
    # --check says it too, and a server does not start with it.
    done = subprocess.run([BINARY, "serve", "--check", "--config", server.config], capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and "[tls]" in done.stderr, done
    server.stop()
    done = subprocess.run([BINARY, "serve", "--config", server.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr, done
    # Other commands do not need it.
    assert "u0@example.test" in server.cli("account", "list")


def test_doctor_tells_for_whom_and_for_how_long(server):
    found = server.cli("doctor", "--offline", check=False)
    for name in (ONE, TWO):
        assert re.search(rf"^look .*{name}\.pem for {name}: 1 days left, renew it$", found, re.M), found
        assert re.search(rf"^ok .*{name}\.key is private$", found, re.M), found
    assert f"WRONG  no certificate is for our name {HOSTNAME}" in found
    (server.directory / f"{ONE}.key").chmod(0o644)
    (server.directory / f"{TWO}.pem").write_text("")
    found = server.cli("doctor", "--offline", check=False)
    assert re.search(rf"^WRONG .*{ONE}\.key can be read by everybody", found, re.M), found
    assert re.search(rf"^WRONG .*{TWO}\.pem: there is no certificate in this file$", found, re.M), found


# -- policies of our domains -------------------------------------------------------------------------------------------


def policy_of(server, host: str) -> bytes:
    """What others get who ask for a policy (RFC 8461 §3.3): status, type and body of curl's."""
    url = f"https://{host}:20443/.well-known/mta-sts.txt"
    return run("curl", "--silent", "--insecure", "--resolve", f"{host}:20443:{server.address}",
               "--write-out", "\n%{http_code} %{content_type}", url)  # fmt: skip


def test_others_fetch_the_policies_of_our_domains(make_server):
    server = make_server(accounts=1)
    text = server.config.read_text()
    server.config.write_text(text.replace("[listen]\n", f'[listen]\nhttps = "{server.address}:20443"\n'))
    server.start()
    server.cli("domain", "add", "second.test")

    def records(domain: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in json.loads(server.cli("domain", "dns", domain, "--json"))}

    ids = set()
    for mode, days in [("testing", 1), ("enforce", 7), ("none", 1)]:
        if mode != "testing":
            server.cli("domain", "change", DOMAIN, "--mta-sts", mode)
        told = f"version: STSv1\r\nmode: {mode}\r\nmx: {HOSTNAME}\r\nmax_age: {days * 86400}\r\n"
        assert policy_of(server, f"mta-sts.{DOMAIN}").decode() == told + "\n200 text/plain"
        assert b"mode: testing" in policy_of(server, "mta-sts.second.test"), "the other domain's is its own"
        ids.add(re.fullmatch("v=STSv1; id=([0-9a-zA-Z]{1,32});", records(DOMAIN)[f"_mta-sts.{DOMAIN}"])[1])
    assert len(ids) == 3
    assert records(DOMAIN)[f"mta-sts.{DOMAIN}"] == HOSTNAME
    assert records(DOMAIN)[f"_smtp._tls.{DOMAIN}"] == f"v=TLSRPTv1; rua=mailto:postmaster@{DOMAIN}"
    assert f"mta-sts.{DOMAIN}. IN CNAME {HOSTNAME}." in server.cli("domain", "dns", DOMAIN)
    for host in (DOMAIN, "mta-sts.other.test"):
        assert policy_of(server, host).startswith(b"there is nothing here\n\n404")


def test_without_a_web_server_no_policy_is_announced(make_server):
    server = make_server(accounts=1)
    server.start()
    names = {each["name"] for each in json.loads(server.cli("domain", "dns", DOMAIN, "--json"))}
    assert f"_smtp._tls.{DOMAIN}" in names and f"_mta-sts.{DOMAIN}" not in names


# -- from an authority --------------------------------------------------------------------------------------------------


NAMES = [HOSTNAME, "mail.example.test"]


@pytest.fixture
def make_authority(tmp_path):
    made = []

    def make(server, **options) -> Authority:
        made.append(Authority(tmp_path / f"authority{len(made)}", server.address, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def plain(make_server):
    """A server that knows no certificate; its configuration is completed with `use`."""
    return make_server(accounts=1, own_certificate=False)


def use(server, authority: Authority) -> None:
    """Has the server get its certificate there."""
    text = server.config.read_text().partition("[acme]")[0]
    if "acme_http" not in text:
        text = text.replace("[listen]\n", f'[listen]\nacme_http = "{server.address}:{CHALLENGE_PORT}"\n')
    server.config.write_text(text + f'[acme]\nagree_to_terms = true\ncontact = "postmaster+acme@{DOMAIN}"\n'
        f'names = {NAMES}\ndirectory = "{authority.url}"\nca_file = "{authority.own}"\n')  # fmt: skip


def trusted(server, authority: Authority, name: str = HOSTNAME) -> bytes | None:
    """The certificate that is shown, if it is this authority's and for `name`."""
    try:
        return shown(server, name, authority.root)
    except ssl.SSLCertVerificationError:
        return None


def failures(server) -> list[dict]:
    """What the log says of orders that came to nothing."""
    fields = [json.loads(line)["fields"] for line in server.log.read_text().splitlines()]
    return [each for each in fields if each["message"].startswith("no certificate from the authority")]


def test_the_first_start_gets_a_certificate_and_a_restart_asks_for_nothing(plain, make_authority):
    authority = make_authority(plain).start()
    use(plain, authority)
    plain.start()
    first = eventually("a certificate of the authority's", lambda: trusted(plain, authority), 30)
    assert trusted(plain, authority, "mail.example.test") == first
    assert authority.orders() == 1
    kept = sorted((plain.directory / "data/tls").iterdir())
    assert {"acme.pem", "acme-account.json"} <= {file.name for file in kept}
    assert all(file.stat().st_mode & 0o077 == 0 for file in kept if file.name.startswith("acme")), kept
    found = plain.cli("doctor", "--offline", check=False)
    assert re.search(r"^ok .*acme\.pem for m[a-z.]+test, m[a-z.]+test: (89|90) days left$", found, re.M), found
    # Nothing is asked any more, so nobody need be there.
    said = len(plain.tail(lines=10**6))
    authority.stop()
    plain.restart()
    assert trusted(plain, authority) == first
    hangup(plain)
    time.sleep(2)
    assert "ordering" not in plain.tail(said)
    assert trusted(plain, authority) == first


def test_a_certificate_is_renewed_before_its_end_and_sessions_live(plain, make_authority):
    authority = make_authority(plain, validity=24).start()
    use(plain, authority)
    plain.start()
    seen = {eventually("a certificate of the authority's", lambda: trusted(plain, authority), 30)}

    def renewed(times: int) -> bool:
        seen.add(trusted(plain, authority))
        return len(seen) > times

    with session(plain, authority.root, HOSTNAME) as imap:
        eventually("a renewed certificate, with a third of its life left", lambda: renewed(1), 24)
        eventually("and another", lambda: renewed(2), 24)
        imap.tagged("a", "NOOP")
    assert None not in seen, "a certificate ended before it was renewed"
    assert not failures(plain)


def test_files_and_an_authority_go_together(make_server, make_authority):
    server = make_server(accounts=1, own_certificate=False, extra=BOTH)
    one, two = (make_certificate(server.directory, name) for name in (ONE, TWO))
    authority = make_authority(server).start()
    use(server, authority)
    server.start()
    assert shown(server, HOSTNAME) == der(one), "until it is issued, the first"
    eventually("a certificate of the authority's", lambda: trusted(server, authority), 30)
    assert shown(server, ONE, one) == der(one) and shown(server, TWO, two) == der(two)
    assert shown(server, None) == der(one)
    server.restart()
    assert trusted(server, authority) and shown(server, None) == der(one) and authority.orders() == 1


def test_while_the_authority_is_away_the_self_signed_certificate_serves(plain, make_authority):
    authority = make_authority(plain)
    use(plain, authority)
    plain.start()
    (told,) = eventually("it is in the log", lambda: failures(plain))
    assert f"{authority.address}:14000: Connection refused" in told["error"]
    own = plain.directory / "data/tls/self-signed.pem"
    assert shown(plain, HOSTNAME, own) == der(own)
    with session(plain, own, HOSTNAME) as imap:
        authority.start()
        hangup(plain)  # the next try would come by itself in two minutes
        eventually("a certificate of the authority's", lambda: trusted(plain, authority), 30)
        imap.tagged("a", "NOOP")


def test_what_the_authority_finds_wrong_is_told(plain, make_authority):
    authority = make_authority(plain).start(names_lead_to=free_address())
    use(plain, authority)
    plain.start()
    (told,) = eventually("it is in the log", lambda: failures(plain), 30)
    assert HOSTNAME in told["error"] and "refused" in told["error"], told
    assert 60 <= told["again_in_seconds"] <= 180
    assert "[acme] has no certificate yet" in plain.cli("doctor", "--offline", check=False)


def test_a_certificate_that_does_not_do_is_not_ordered_again_at_once(plain, make_authority):
    authority = make_authority(plain, validity=1).start()
    use(plain, authority)
    plain.start()
    (told,) = eventually("it is in the log", lambda: failures(plain), 30)
    assert "will not do for long" in told["error"], told
    time.sleep(12)
    assert authority.orders() == 1


def test_an_authority_that_forgot_us_and_another_one(plain, make_authority):
    authority = make_authority(plain).start()
    use(plain, authority)
    plain.start()
    first = eventually("a certificate of the authority's", lambda: trusted(plain, authority), 30)
    # pebble forgets accounts and root; without the file a new certificate is due.
    authority.stop()
    authority.start()
    (plain.directory / "data/tls/acme.pem").unlink()
    assert shown(plain, HOSTNAME) == first
    hangup(plain)
    eventually("a certificate of the new root", lambda: trusted(plain, authority), 30)
    other = make_authority(plain).start()
    use(plain, other)
    plain.restart()
    eventually("a certificate of the other authority's", lambda: trusted(plain, other), 30)
    assert other.orders() == 1


def test_port_80_answers_challenges_only(plain, make_authority):
    use(plain, make_authority(plain))
    plain.start()
    for path in ["/", "/metrics", "/healthz", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/token"]:
        answer = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{plain.address}:{CHALLENGE_PORT}{path}")
        assert answer == b"404", path


@pytest.mark.parametrize("mistake, words", [
    (("agree_to_terms = true\n", ""), "agree_to_terms = true"), (("own.pem", "nowhere.pem"), "nowhere.pem: No such file"),
    (("https://", "http://"), "https://"), (("mail.example.test", "*.example.test"), "*.example.test"),
])  # fmt: skip
def test_check_names_what_is_wrong_with_an_authority(plain, make_authority, mistake, words):
    use(plain, make_authority(plain))
    assert b"no mistakes found" in run(BINARY, "serve", "--check", "--config", plain.config)
    good = plain.config.read_text()
    plain.config.write_text(good.replace(*mistake))
    done = subprocess.run([BINARY, "serve", "--check", "--config", plain.config], capture_output=True, text=True)
    plain.config.write_text(good)
    assert done.returncode == 2 and "[acme]" in done.stderr and words in done.stderr, done
