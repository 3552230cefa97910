"""Delta Chat through us: a chat program on IMAP (IDLE) and SMTP submission, whose every message is a mail."""

import pytest
from deltachat_rpc_client import DeltaChat, Rpc

from postroom import CACHE, PASSWORD

pytestmark = [pytest.mark.needs("imap", "tls"), pytest.mark.timeout(240)]


@pytest.fixture
def deltachat(tmp_path):
    with Rpc(accounts_dir=str(tmp_path / "accounts"), rpc_server_path=str(CACHE / "python/bin/deltachat-rpc-server")) as rpc:
        yield DeltaChat(rpc)


def online(deltachat: DeltaChat, server, user: str, port: str, security: str):
    """An account of the program that is signed in to ours and waits for mail."""
    account = deltachat.add_account()
    # The program knows no certificates of one's own, so it is told to take any.
    account.add_or_update_transport({
        "addr": user, "password": PASSWORD, "certificateChecks": "acceptInvalidCertificates",
        "imapServer": server.address, "imapPort": server.ports["imaps"], "imapSecurity": "ssl", "imapUser": user,
        "smtpServer": server.address, "smtpPort": server.ports[port], "smtpSecurity": security, "smtpUser": user,
    })  # fmt: skip
    account.bring_online()
    return account


def test_two_accounts_talk(server, deltachat, tmp_path):
    alice = online(deltachat, server, server.user(), "submissions", "ssl")
    bob = online(deltachat, server, server.user(), "submission", "starttls")

    # Bob scans Alice's code: the handshake is six mails, and it makes the chat an encrypted one.
    bob.secure_join(alice.get_qr_code())
    alice.wait_for_securejoin_inviter_success()
    bob.wait_for_securejoin_joiner_success()

    picture = tmp_path / "picture.bin"
    picture.write_bytes(bytes(range(256)) * 200)
    to_bob = alice.create_chat(bob)
    for text, file in [("Hello, Bob!", None), ("Grüße — 你好", None), ("a file", str(picture))]:
        to_bob.send_message(text=text, file=file)
        got = bob.wait_for_incoming_msg().get_snapshot()
        assert got.text.startswith(text)  # the program adds what a file is called
    with open(got.file, "rb") as file:
        assert file.read() == picture.read_bytes()

    chat = got.chat
    chat.accept()
    chat.send_text("Hello, Alice!")
    assert alice.wait_for_incoming_msg().get_snapshot().text == "Hello, Alice!"
