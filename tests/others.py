"""Other organisations' mail servers, real ones: Postfix, Exim and OpenSMTPD of Debian, each with one domain and one route, to
ours."""

import os
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
from pathlib import Path

from postroom import CACHE, DOMAIN, REPLY_SECONDS, Failed, Server, eventually, free_address

PORT = 20025


class Other:
    """A mail server that delivers for its own domain to files, and sends mail for ours to `server`."""

    domain: str

    def __init__(self, server: Server | None = None):
        # Not below pytest's directory, which is closed to the users that these servers run as.
        self.home = Path(tempfile.mkdtemp(prefix="other-"))
        self.home.chmod(0o755)
        self.address = free_address()
        self.mail = self.home / "mail"
        self.mail.mkdir(mode=0o777)
        self.mail.chmod(0o777)
        self.log = self.home / "log"
        self.next_hop = server

    def __enter__(self):
        self.start()
        eventually(f"{self.domain} answers", self._answers, 30)
        return self

    def __exit__(self, kind, error, trace):
        self.stop()
        if error is not None and self.log.exists():
            error.add_note(f"the log of {self.domain}:\n{self.log.read_text(errors='replace')[-4000:]}")
        shutil.rmtree(self.home)

    def _answers(self) -> bool:
        try:
            smtplib.SMTP(self.address, PORT, timeout=5).quit()
            return True
        except OSError:
            return False

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def send(self, to: str, raw: bytes, sender: str = "") -> None:
        """Hands it a message from one of its own people."""
        with smtplib.SMTP(self.address, PORT, timeout=REPLY_SECONDS) as client:
            client.sendmail(sender or f"ann@{self.domain}", to, raw)

    def received(self, count: int = 1) -> list[bytes]:
        """The mail for its domain, once there is as much as that."""
        return eventually(f"{count} mails at {self.domain}", lambda: found if len(found := self._files()) >= count else None)

    def _files(self) -> list[bytes]:
        files = [file for file in sorted(self.mail.rglob("new/*")) if file.is_file()]
        return [re.sub(rb"\r?\n", b"\r\n", file.read_bytes()) for file in files]


class Postfix(Other):
    domain = "postfix.test"

    def start(self) -> None:
        etc, queue, data = (self.home / name for name in ["etc", "queue", "data"])
        for directory in (etc, queue, data):
            directory.mkdir()
        shutil.chown(data, "postfix")
        route = ""
        if self.next_hop:
            hop = f"[{self.next_hop.address}]:{self.next_hop.ports['smtp']}"
            route = f"transport_maps = inline:{{ {DOMAIN}=smtp:{hop} }}\n"
        (etc / "main.cf").write_text(
            f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\ncommand_directory = /usr/sbin\n"
            "daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\n"
            f"myhostname = mx.{self.domain}\nmydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
            "smtp_host_lookup = native\nalias_maps =\nalias_database =\nlocal_recipient_maps =\nmynetworks = 127.0.0.0/8\n"
            f"virtual_mailbox_domains = {self.domain}\nvirtual_mailbox_base = {self.mail}\n"
            f"virtual_mailbox_maps = inline:{{ ann@{self.domain}=ann/ bob@{self.domain}=bob/ }}\n"
            "virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 100\n"
            f"maillog_file = {self.log}\nmaillog_file_prefixes = {self.home}\nsmtp_tls_security_level = may\n"
            "smtp_tls_loglevel = 1\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n" + route
        )
        services = "pickup:n:60:1 cleanup:n::0 qmgr:n:300:1 tlsmgr::1000?:1 rewrite::: bounce:::0 defer:::0 trace:::0"
        services += (
            " verify:::1 flush:n:1000?:0 proxymap::: smtp::: relay::: showq:n:: error::: retry::: virtual::: anvil:::1"
        )
        programs = {"rewrite": "trivial-rewrite", "defer": "bounce", "trace": "bounce", "relay": "smtp", "retry": "error"}
        lines = [f"{self.address}:{PORT} inet n - n - - smtpd", "postlog unix-dgram n - n - 1 postlogd"]
        for service in services.split():
            name, private, wake, limit = service.split(":")
            program = programs.get(name, name)
            unprivileged = "n" if name == "virtual" else "-"
            lines.append(f"{name} unix {private or '-'} {unprivileged} n {wake or '-'} {limit or '-'} {program}")
        (etc / "master.cf").write_text("\n".join(lines) + "\n")
        if not Path("/etc/postfix/main.cf").exists():  # postfix looks there before it reads what it is given
            Path("/etc/postfix/main.cf").write_text("compatibility_level = 3.6\n")
        self._run("start")

    def _run(self, verb: str) -> None:
        done = subprocess.run(["postfix", "-c", self.home / "etc", verb], capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise Failed(f"postfix {verb}: {done.stderr.decode()}")

    def stop(self) -> None:
        self._run("stop")


class Exim(Other):
    domain = "exim.test"

    def start(self) -> None:
        spool, logs = self.home / "spool", self.home / "logs"
        for directory in (spool, logs):
            directory.mkdir()
            shutil.chown(directory, "Debian-exim")
        self.log = logs / "mainlog"
        # Exim runs itself again as its own user, to whom the cache may be closed.
        binary = shutil.copy(CACHE / "exim/usr/sbin/exim4", self.home / "exim")
        route = ""
        if self.next_hop:
            route = (f"ours:\n  driver = manualroute\n  domains = {DOMAIN}\n  transport = out\n"
                     f"  route_list = * {self.next_hop.address}\n  self = send\n")  # fmt: skip
        port = self.next_hop.ports["smtp"] if self.next_hop else 25
        (self.home / "conf").write_text(
            f"exim_path = {binary}\nqueue_only\nspool_directory = {spool}\nlog_file_path = {logs}/%slog\n"
            f"pid_file_path = {self.home}/pid\nprimary_hostname = mx.{self.domain}\n"
            f"local_interfaces = {self.address}\ndaemon_smtp_ports = {PORT}\ntls_advertise_hosts =\nkeep_environment =\n"
            "host_lookup =\nacl_smtp_rcpt = known\nacl_smtp_data = accept\nprdr_enable = false\n"
            "begin acl\naccept:\n  accept\nknown:\n  require verify = recipient\n  accept\nbegin routers\n"
            f"{route}"
            f"here:\n  driver = accept\n  domains = {self.domain}\n  local_parts = ann : bob\n  transport = file\n"
            "begin transports\n"
            f"out:\n  driver = smtp\n  port = {port}\n  allow_localhost\n  tls_verify_certificates =\n"
            f"file:\n  driver = appendfile\n  directory = {self.mail}/$local_part_data\n  maildir_format\n"
            "  user = Debian-exim\n  envelope_to_add\n  return_path_add\n"
            "begin retry\n* * F,1h,1s\n"
        )
        self.process = subprocess.Popen([binary, "-C", self.home / "conf", "-bdf", "-q1s"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


class OpenSMTPD(Other):
    domain = "opensmtpd.test"
    # Compiled in, so there is one at a time.
    SPOOL, SOCKET, EMPTY = Path("/var/spool/smtpd"), Path("/run/smtpd.sock"), Path("/var/lib/opensmtpd/empty")

    def start(self) -> None:
        if self.SPOOL.exists():
            raise Failed(f"{self.SPOOL} is in use: an OpenSMTPD of the system's, or one that a test left behind")
        self.EMPTY.mkdir(parents=True, exist_ok=True)
        self.SPOOL.mkdir(mode=0o711)
        people = ", ".join(f'"{name}@{self.domain}" = "nobody"' for name in ["ann", "bob"])
        lines = [
            f"listen on {self.address} port {PORT} hostname mx.{self.domain}",
            f"table people {{ {people} }}",
            f'action "file" maildir "{self.mail}/%{{rcpt.user}}" virtual <people>',
            f'match from any for domain "{self.domain}" action "file"',
        ]
        if self.next_hop:
            hop = f"smtp://{self.next_hop.address}:{self.next_hop.ports['smtp']}"
            lines += [f'action "ours" relay host "{hop}" helo mx.{self.domain}']
            lines += [f'match from any for domain "{DOMAIN}" action "ours"']
        conf = self.home / "smtpd.conf"
        conf.write_text("\n".join(lines) + "\n")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([CACHE / "opensmtpd/usr/sbin/smtpd", "-d", "-f", conf], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)  # fmt: skip

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.SPOOL)
        self.SOCKET.unlink(missing_ok=True)
