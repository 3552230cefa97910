"""The command line: what it says, what it exits with, beside a running server and without one."""

import json
import os
import pty
import pwd
import re
import shutil
import subprocess
import tempfile
import termios
from pathlib import Path

import pytest

from mail import message
from postroom import BINARY, DOMAIN, PASSWORD, Failed, Server, eventually, user

pytestmark = [pytest.mark.needs("cli"), pytest.mark.ours]


def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
    words = [str(BINARY), *map(str, arguments)]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60)


def test_help_teaches():
    top = call("--help")
    assert top.returncode == 0
    for verb in ["serve", "init", "domain", "account", "alias", "group", "verify"]:
        assert verb in top.stdout
        assert call(verb, "--help").returncode == 0


@pytest.mark.needs("credential", "queue", "mailbox list", "doctor")
def test_help_teaches_the_rest():
    top = call("--help")
    for verb in ["credential", "queue", "mailbox", "doctor"]:
        assert verb in top.stdout
        assert call(verb, "--help").returncode == 0


def test_exit_codes(server):
    assert call("frobnicate").returncode == 2
    assert call("account", "add").returncode == 2
    assert call("verify", "--config", "/nowhere/postroom.toml").returncode == 2
    assert call("account", "remove", "nobody@example.test", "--config", str(server.config)).returncode == 1


@pytest.mark.parametrize("mistake, line, named", [
    ("hostnam = 'x'", 4, "hostnam"), ("[listen]\nsmtp = 25", 5, "smtp"), ("[listen\n", 4, "listen"),
    ("[network]\ntrusted = ['many']", 5, "trusted"), ("[listen]\nlmtp = '192.0.2.1:24'", 5, "lmtp"),
    ("[listen]\nsmtp = '127.0.0.1:25'\nimap = '127.0.0.1:25'", 6, "imap"), ("user = 'nobody-here'", 4, "nobody-here"),
    ("[tls]\ncertificate = 'nowhere.pem'", 4, "key"),
    ("[tls]\nkey = 'k'\ncertificate = 'nowhere.pem'", 6, "nowhere.pem"),
    ("[[tls]]\ncertificate = 'pair.pem'\nkey = 'pair.pem'\n[[tls]]\ncertificate = 'pair.pem'\nkey = 'lost.key'", 9,
     "lost.key"),
    ("[store]\n\nurl = 'mysql://x'", 6, "url"), ("[routes]\n'a..b' = 'mx.test:25'", 5, "a..b"),
    ("[smarthost]\naddress = 'mx.test:25'\nuser = 'us'\npassword_file = 'lost.secret'", 7, "lost.secret"),
])  # fmt: skip
def test_check_names_the_line_of_a_mistake(tmp_path, mistake, line, named):
    config = tmp_path / "postroom.toml"
    config.write_text(f"hostname = 'mx.example.test'\ndata = 'data'\n\n{mistake}\n")
    certificate = ["-keyout", tmp_path / "pair.pem", "-out", tmp_path / "cert.pem", "-subj", "/CN=mx.example.test"]
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *certificate]
    subprocess.run(openssl, check=True, capture_output=True)
    with (tmp_path / "pair.pem").open("a") as pair:
        pair.write((tmp_path / "cert.pem").read_text())
    done = call("serve", "--check", "--config", config)
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert named in said.lower() and re.search(rf"\bline {line}\b", said), said


def accounts(server) -> set[str]:
    listed = json.loads(server.cli("account", "list", "--json"))
    return {each["address"] if isinstance(each, dict) else each for each in listed}


def test_everything_works_while_the_server_runs_and_while_it_does_not(make_server):
    server = make_server(accounts=2)
    for n, life in enumerate([server.start, server.stop, server.start]):
        assert {user(0), user(1)} <= accounts(server)
        name = f"new{n}@{DOMAIN}"
        server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD)
        assert name in accounts(server)
        server.cli("verify")
        life()
    server.deliver([f"new{n}@{DOMAIN}" for n in range(3)], message())
    for n in range(3):
        assert server.pop3(f"new{n}@{DOMAIN}").stat()[0] == 1


def test_a_change_is_heard_at_once(server):
    name, sent = f"fresh@{DOMAIN}", message()
    server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD)
    server.deliver(name, sent)
    assert server.pop3(name).stat()[0] == 1
    server.cli("alias", "add", f"also@{DOMAIN}", name)
    server.cli("group", "add", f"all@{DOMAIN}", name, user(0))
    server.deliver([f"also@{DOMAIN}", f"all@{DOMAIN}"], message())
    assert server.pop3(name).stat()[0] in (2, 3) and server.pop3(user(0)).stat()[0] == 1
    with pytest.raises(Failed, match=f"all@{DOMAIN}"):  # somebody else's address would go nowhere
        server.cli("account", "remove", name)
    name = f"brief@{DOMAIN}"
    server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD)
    server.cli("account", "remove", name)
    with pytest.raises(Exception, match="5.1.1"):
        server.deliver(name, sent)


@pytest.mark.needs("account password")
def test_a_new_password(server):
    name = f"forgetful@{DOMAIN}"
    server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD)
    assert server.pop3(name).stat()[0] == 0
    server.cli("account", "password", name, "--password-stdin", stdin="another")
    with pytest.raises(Exception, match="AUTH"):
        server.pop3(name)
    assert server.pop3(name, "another").stat()[0] == 0


@pytest.mark.needs("credential")
def test_an_app_password_signs_in(server):
    secret = json.loads(server.cli("credential", "add", user(1), "phone", "--json"))
    password = secret["password"] if isinstance(secret, dict) else secret
    assert server.pop3(user(1), password).stat()[0] == 0
    assert server.pop3(user(1)).stat()[0] == 0


def test_bad_input_is_refused_in_plain_words(server):
    for arguments in [("account", "add", "no-at-sign"), ("account", "add", user(0)), ("account", "add", "a@nowhere.test"),
                      ("domain", "add", "bad..domain"), ("alias", "add", user(0), user(1))]:  # fmt: skip
        with pytest.raises(Failed) as error:
            extra = ("--password-stdin",) if arguments[0] == "account" else ()
            server.cli(*arguments, *extra, stdin=PASSWORD)
        assert "panicked" not in str(error.value)


def test_verify_takes_a_torn_record_that_nothing_refers_to_for_dead_space(make_server):
    """A power cut leaves such: the header of a record reached the disk, its bytes did not (crates/store/src/pack.rs)."""
    server = make_server(accounts=1)
    torn = b"postroom pack 1\n" + b"rec1" + bytes(4) + (100).to_bytes(8, "little") + b"\x55" * 32 + bytes(100)
    (server.directory / "data/packs/00000099.lasting").write_bytes(torn)
    server.verify()


def test_verify_names_what_is_wrong(make_server):
    server = make_server(accounts=1)
    server.start()
    server.deliver(user(0), message())
    server.stop()
    (pack,) = (server.directory / "data").rglob("*.lasting")
    whole = pack.read_bytes()
    at = len(whole.rstrip(b"\0")) - 10
    pack.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(Failed, match="exit 1"):
        server.verify()
    pack.write_bytes(whole)


def refused(server, to: str, status: str) -> None:
    with pytest.raises(Exception, match=status.replace(".", r"\.")):
        server.deliver(to, message())


def test_what_becomes_of_mail_to_unknown_addresses(server):
    owner = user(5)
    refused(server, f"whoever@{DOMAIN}", "5.1.1")
    server.cli("domain", "change", DOMAIN, "--catch-all", owner)
    assert json.loads(server.cli("domain", "list", "--json")) == [
        {"name": DOMAIN, "organisation": "main", "catch_all": owner, "separator": "+", "mta_sts": "testing"}
    ]
    server.deliver(f"whoever@{DOMAIN}", message())
    server.cli("domain", "change", DOMAIN, "--catch-all", "")
    refused(server, f"whoever@{DOMAIN}", "5.1.1")
    local, _, domain = owner.partition("@")
    server.deliver(f"{local}+news@{domain}", message())
    server.cli("domain", "change", DOMAIN, "--separator", "-")
    refused(server, f"{local}+news@{domain}", "5.1.1")
    server.deliver(f"{local}-news@{domain}", message())
    server.cli("domain", "change", DOMAIN, "--separator", "+")
    assert server.pop3(owner).stat()[0] == 3


def test_an_account_is_changed(server):
    name = f"changing@{DOMAIN}"
    server.cli("account", "add", name, "--password-stdin", stdin=PASSWORD)
    server.pop3(name).quit()
    server.cli("account", "change", name, "--disabled", "true", "--name", "New Name")
    with pytest.raises(Exception, match="AUTH"):
        server.pop3(name)
    server.deliver(name, message())
    server.cli("account", "change", name, "--disabled", "false", "--quota", "100")
    assert server.pop3(name).stat()[0] == 1
    refused(server, name, "4.2.2")
    server.cli("account", "change", name, "--quota", "0")
    server.deliver(name, message())
    (listed,) = [each for each in json.loads(server.cli("account", "list", "--json")) if each["address"] == name]
    assert (listed["name"], listed["quota"], listed["disabled"]) == ("New Name", 0, False)
    for last in [("--administrator", "false"), ("--disabled", "true")]:
        with pytest.raises(Failed, match="only administrator"):
            server.cli("account", "change", f"admin@{DOMAIN}", *last)
    assert call("account", "change", name, "--config", str(server.config)).returncode == 2


def test_who_may_send_as_an_address(server):
    me, you = user(6), user(7)
    server.cli("alias", "add", f"desk@{DOMAIN}", me)
    server.cli("group", "add", f"team@{DOMAIN}", me, you)

    def may(sender: str) -> bool:
        with server.smtp("submission") as smtp:
            smtp.starttls(context=server.tls())
            smtp.login(me, PASSWORD)
            return smtp.mail(sender)[0] == 250

    assert may(f"desk@{DOMAIN}") and not may(f"team@{DOMAIN}")
    server.cli("alias", "change", f"desk@{DOMAIN}", "desk@elsewhere.test", "--forward")
    server.cli("group", "change", f"team@{DOMAIN}", me, "--members-send")
    assert not may(f"desk@{DOMAIN}") and may(f"team@{DOMAIN}")
    server.deliver(f"team@{DOMAIN}", message())
    assert server.pop3(me).stat()[0] == 1 and server.pop3(you).stat()[0] == 0


def test_a_password_is_not_shown_while_it_is_typed(server):
    name, secret = f"typed@{DOMAIN}", "correct horse"
    command = [str(BINARY), "account", "add", name, "--config", str(server.config)]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    seen = b""
    for prompt in [b"Password: ", b"The same again: "]:
        while prompt not in seen:
            seen += os.read(terminal, 1000)
        eventually("nothing is shown", lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
        os.write(terminal, secret.encode() + b"\n")
    try:
        while more := os.read(terminal, 1000):
            seen += more
    except OSError:  # the other end has closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, seen
    assert secret.encode() not in seen
    server.pop3(name, secret).quit()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_root_becomes_the_configured_user():
    home = Path(tempfile.mkdtemp(prefix="postroom-user-"))
    home.chmod(0o711)
    server = Server(home, accounts=1)
    for file in home.glob("*.pem"):
        shutil.chown(file, "nobody")
    text = server.config.read_text()
    # A port that only root can open.
    text = text.replace(f"{server.address}:{server.ports['smtp']}", f"{server.address}:25")
    server.config.write_text('user = "nobody"\n' + text)
    server.ports["smtp"] = 25
    try:
        server.create()
        server.start()
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        who = pwd.getpwnam("nobody")
        assert re.search(r"^Uid:\s+(.*)", status, re.M)[1].split() == [str(who.pw_uid)] * 4
        assert re.search(r"^Gid:\s+(.*)", status, re.M)[1].split() == [str(who.pw_gid)] * 4
        assert "0" not in re.search(r"^Groups:(.*)", status, re.M)[1].split()
        server.deliver(user(0), message())
        assert server.pop3(user(0)).stat()[0] == 1
        server.cli("alias", "add", f"live@{DOMAIN}", user(0))
        server.stop()
        # Without a server, root's command does not leave files of root's behind.
        server.cli("alias", "add", f"still@{DOMAIN}", user(0))
        server.verify()
        assert {path.owner() for path in (home / "data").rglob("*")} == {"nobody"}
        server.start()
    finally:
        if server.running:
            server.stop()
        shutil.rmtree(home)


def test_init_takes_the_first_of_organisations_that_were_added_before(tmp_path):
    server = Server(tmp_path, accounts=0)
    for name in ["Shop", "Office"]:
        server.cli("organisation", "add", name)
    server.create()
    organisations = json.loads(server.cli("organisation", "list", "--json"))
    assert {one["name"]: one["domains"] for one in organisations} == {"Shop": 1, "Office": 0}


def test_organisations_have_what_is_theirs(make_server):
    server = make_server()
    server.start()

    def fails(*arguments: str) -> str:
        with pytest.raises(Failed) as failure:
            server.cli(*arguments, stdin=PASSWORD)
        return str(failure.value)

    def listed(*arguments: str) -> list[dict]:
        return json.loads(server.cli(*arguments, "--json"))

    # The one there is needs no name.
    server.cli("suppression", "add", "x@out.test")
    assert "of main" not in server.cli("domain", "list") + server.cli("account", "list")
    assert listed("organisation", "list") == [{"number": 1, "name": "main", "domains": 1}]
    assert "Added Shop & Co" in server.cli("organisation", "add", "  Shop & Co ")
    for wrong in ("", "  ", "Shop\n& Co"):
        assert "name" in fails("organisation", "add", wrong).lower()
    assert "exists already" in fails("organisation", "add", "Shop & Co")
    server.cli("organisation", "change", "main", "--name", "office")
    # Of several one is to be named, where an address does not tell.
    said = fails("domain", "add", "shop.test")
    assert "there are several organisations" in said and "one of office, Shop & Co" in said
    assert "there is no organisation shop; there are: office, Shop & Co" in fails(
        "domain", "add", "shop.test", "--organisation", "shop")  # fmt: skip
    server.cli("domain", "add", "shop.test", "--organisation", "Shop & Co")
    server.cli("account", "add", "ann@shop.test", "--password-stdin", stdin=PASSWORD)
    assert {each["name"]: each["organisation"] for each in listed("domain", "list")} == {
        DOMAIN: "office", "shop.test": "Shop & Co"}  # fmt: skip
    owners = {each["address"]: each["organisation"] for each in listed("account", "list")}
    assert owners["ann@shop.test"] == "Shop & Co" and owners[user(0)] == "office"
    assert "the domain nowhere.test is not ours" in fails("account", "add", "joe@nowhere.test", "--password-stdin")
    for arguments in [("suppression", "list"), ("suppression", "add", "y@out.test"),
                      ("queue", "quiet", "marketing", "--from", "21:00", "--to", "08:00")]:  # fmt: skip
        assert "there are several organisations" in fails(*arguments)
    server.cli("suppression", "add", "y@out.test", "--organisation", "Shop & Co")
    exported = {name: server.cli("suppression", "export", "--organisation", name) for name in ["office", "Shop & Co"]}
    assert "x@out.test" in exported["office"] and "y@out.test" not in exported["office"]
    assert "y@out.test" in exported["Shop & Co"] and "x@out.test" not in exported["Shop & Co"]
    server.cli("queue", "quiet", "marketing", "--from", "21:00", "--to", "08:00", "--organisation", "Shop & Co")
    assert [each["organisation"] for each in listed("queue", "quiet")] == ["Shop & Co"]
    # What somebody of it hands in is its own.
    server.cli("queue", "hold", "--stream", "mail")
    with server.smtp("submission") as client:
        client.starttls(context=server.tls())
        client.login("ann@shop.test", PASSWORD)
        client.sendmail("ann@shop.test", ["x@out.test"], message())
    (waiting,) = listed("queue", "list")
    assert "still has domains or accounts" in fails("organisation", "remove", "Shop & Co")
    server.cli("account", "remove", "ann@shop.test")
    server.cli("domain", "remove", "shop.test")
    assert "has mail in the queue" in fails("organisation", "remove", "Shop & Co")
    server.cli("queue", "cancel", waiting["id"])
    server.cli("organisation", "remove", "Shop & Co")
    assert listed("queue", "quiet") == [] and listed("organisation", "list") == [
        {"number": 1, "name": "office", "domains": 1}]  # fmt: skip
    # And the one there is needs no name again.
    assert "x@out.test" in server.cli("suppression", "list")
