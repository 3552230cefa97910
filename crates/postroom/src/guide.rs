//! The first words to a new administrator: how to connect a program, how to send and read a first message.

use std::fmt::Write;

use net::ListenAddr;

use crate::config::{Config, Many, Parsed};

/// The text that `postroom init` ends with.
pub fn first_steps(config: &Config, admin: &str, password: Option<&str>) -> String {
    let l = &config.listen;
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(text, "\nAdministrator   {admin}");
    if let Some(password) = password {
        let _ =
            writeln!(text, "Password        {password}   (shown once; `postroom account password {admin}` changes it)");
    }
    let _ = writeln!(text, "\nConnect a mail program (user name: the whole address):");
    for (what, addrs, security) in
        [("read, IMAP", &l.imaps, "TLS"), ("read, POP3", &l.pop3s, "TLS"), ("send, SMTP", &l.submissions, "TLS")]
    {
        if let Some(port) = port(addrs) {
            let _ = writeln!(text, "  {what}   {}  port {port}  {security}", config.hostname);
        }
    }
    if config.tls.0.is_empty() && config.acme.is_none() {
        let _ = writeln!(
            text,
            "The certificate is self-signed: the program will ask once; [tls] or [acme] in the configuration bring a real one."
        );
    }
    if let (Some(smtp), Some(pop3)) = (port(&l.smtp), port(&l.pop3s)) {
        let _ = writeln!(text, "\nOr from the shell, once the server runs:");
        let _ = writeln!(text, "  printf 'Subject: hello\\n\\nIt works.\\n' |");
        let _ = writeln!(
            text,
            "    curl smtp://localhost:{smtp} --crlf --mail-from me@elsewhere.test --mail-rcpt {admin} -T -"
        );
        let _ = writeln!(
            text,
            "  curl -k pop3s://localhost:{pop3}/1 -u {admin}        # asks for the password, shows the message"
        );
    }
    let _ = writeln!(text, "\nMore: postroom account add you@DOMAIN, postroom domain add DOMAIN, postroom --help");
    text
}

/// The first TCP port of a list.
fn port(addrs: &Many<Parsed<ListenAddr>>) -> Option<u16> {
    addrs.iter().find_map(|a| match a {
        ListenAddr::Tcp(addr) => Some(addr.port()),
        ListenAddr::Unix(_) => None,
    })
}

/// A password for a person to write down once: 20 characters without look-alikes, 100 bits.
///
/// # Errors
/// There is no randomness to be had.
pub fn new_password() -> Result<String, String> {
    // 32 of them: every octet picks one without favour.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    directory::system_random(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_name_the_ports_that_are_open() {
        let config: Config = toml::from_str(
            "hostname = \"mx\"\ndata = \"d\"\n[listen]\nsmtp = \"0.0.0.0:20025\"\nimaps = \"0.0.0.0:20993\"\npop3s = [\"[::]:20995\"]\n",
        )
        .unwrap();
        let text = first_steps(&config, "admin@example.test", Some("secret"));
        for words in ["port 20993", "port 20995", "localhost:20025", "admin@example.test", "secret", "self-signed"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("send, SMTP"));
    }

    #[test]
    fn passwords_differ() {
        let (a, b) = (new_password().unwrap(), new_password().unwrap());
        assert!(a.len() == 20 && a != b);
    }
}
