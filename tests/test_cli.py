"""The command line: what it says, what it exits with, beside a running server and without one."""

import json
import subprocess

import pytest

from mail import message
from postroom import BINARY, DOMAIN, PASSWORD, Failed, user

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


@pytest.mark.parametrize("mistake, named", [
    ("hostnam = 'x'", "hostnam"), ("[listen]\nsmtp = 25", "smtp"), ("[listen]\nlmtp = '192.0.2.1:24'", "lmtp"),
    ("[listen\n", "listen"), ("[network]\ntrusted = ['many']", "trusted"), ("[tls]\ncertificate = 'nowhere.pem'", "tls"),
])  # fmt: skip
def test_check_names_the_line_of_a_mistake(tmp_path, mistake, named):
    config = tmp_path / "postroom.toml"
    config.write_text(f"hostname = 'mx.example.test'\ndata = 'data'\n\n{mistake}\n")
    done = call("serve", "--check", "--config", config)
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert named in said.lower() and ("line" in said or f"{config.name}:" in said), said


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
