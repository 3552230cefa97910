use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("postroom.toml"), text.into())
}

#[test]
fn one_address_or_many() {
    let c = parse(
        "hostname = \"mx\"\ndata = \"d\"\n[listen]\nsmtp = [\"0.0.0.0:25\", \"[::]:25\"]\nimap = \"127.0.0.1:143\"\n",
    );
    let c = c.unwrap();
    assert_eq!((c.listen.smtp.iter().count(), c.listen.imap.iter().count(), c.listen.pop3.iter().count()), (2, 1, 0));
    assert!(c.network.trusted.is_empty() && !c.network.cleartext_login_on_loopback);
}

#[test]
fn one_certificate_or_many() {
    let head = "hostname = \"mx\"\ndata = \"d\"\n";
    let pairs = |tls: &str| {
        let config = parse(&format!("{head}{tls}")).unwrap();
        config.tls.0.into_iter().map(|t| format!("{} {}", t.certificate.display(), t.key.display())).collect()
    };
    let (a, b) = ("certificate = \"a.pem\"\nkey = \"a.key\"\n", "certificate = \"b.pem\"\nkey = \"b.key\"\n");
    let none: Vec<String> = pairs("");
    assert!(none.is_empty());
    let one: Vec<String> = pairs(&format!("[tls]\n{a}"));
    assert_eq!(one, ["a.pem a.key"]);
    let two: Vec<String> = pairs(&format!("[[tls]]\n{a}[[tls]]\n{b}"));
    assert_eq!(two, ["a.pem a.key", "b.pem b.key"]);
}

#[test]
fn an_authority_needs_consent_and_port_80() {
    let parse = |listen: &str, acme: &str| {
        parse(&format!("hostname = \"mx.example.org\"\ndata = \"d\"\n[listen]\n{listen}\n{acme}"))
    };
    let port = "acme_http = [\"0.0.0.0:80\", \"[::]:80\"]";
    let acme = parse(port, "[acme]\nagree_to_terms = true\n").unwrap().acme.unwrap();
    assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    for (listen, acme, words) in [
        (port, "[acme]\n", "agree_to_terms = true"),
        (port, "[acme]\nagree_to_terms = false\n", "agree_to_terms = true"),
        ("", "[acme]\nagree_to_terms = true\n", "acme_http"),
        (port, "", "[acme]"),
        (port, "[acme]\nagree_to_terms = true\ncontact = \"me\"\n", "contact"),
        (port, "[acme]\nagree_to_terms = true\nnames = [\"*.example.org\"]\n", "*.example.org"),
        (port, "[acme]\nagree_to_terms = true\nnames = [\"mx\"]\n", "mx"),
    ] {
        let error = parse(listen, acme).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_mistake_of_meaning_names_its_line() {
    // Line 1 is the hostname, line 2 the data directory: what follows begins at 3.
    for (rest, line, words) in [
        ("max_message = 5\n", 3, "max_message"),
        ("[listen]\nsmtp = \"0.0.0.0:25\"\nlmtp = \"0.0.0.0:24\"\n", 5, "lmtp"),
        ("[listen]\nlmtp = [\n  \"127.0.0.1:24\",\n  \"192.0.2.1:24\",\n]\n", 6, "192.0.2.1:24"),
        ("\n[listen]\nhttp = \"[2001:db8::1]:80\"\n", 5, "http"),
        ("[listen]\nlmtp_mode = 0o7777\n", 4, "lmtp_mode"),
        ("listen.smtp = \"0.0.0.0:25\"\nlisten.imap = [\"0.0.0.0:25\"]\n", 4, "that is where smtp listens"),
        ("[listen]\nsmtp = \"0.0.0.0:25\"\n\nacme_http = \"0.0.0.0:80\"\n", 6, "acme_http"),
        ("[sign_in]\n[acme]\nagree_to_terms = true\n", 4, "port 80"),
        ("[listen]\nacme_http = \"0.0.0.0:80\"\n[acme]\ncontact = \"a@b.test\"\n", 5, "agree_to_terms = true"),
        (
            "[listen]\nacme_http = \"0.0.0.0:80\"\n[acme]\nagree_to_terms = true\nnames = [\"a.test\",\n\"*.a.test\"]\n",
            8,
            "*.a.test",
        ),
        ("[store]\n# the engine\nurl = \"mysql://x\"\n", 5, "sqlite"),
        ("[store]\nurl = \"postgresx://x\"\n", 4, "sqlite"),
        ("[store]\nshared = \"/srv\"\n", 4, "PostgreSQL"),
        ("[node]\nrole = \"send\"\n", 4, "[store] shared"),
        (
            "[store]\nurl = \"postgres://x\"\nshared = \"s\"\n[node]\nrole = \"send\"\n[listen]\nimap = \"127.0.0.1:143\"\n",
            9,
            "takes no mail",
        ),
        ("[store]\nurl = \"sqlite\"\npack_octets = 1\n", 5, "65536"),
        ("store = { url = \"sqlite\", compact_seconds = 0 }\n", 3, "compact_seconds"),
        ("[routes]\n\"a.test\" = \"192.0.2.1:25\"\n\"b..test\" = \"192.0.2.1:25\"\n", 5, "b..test"),
        // Two spellings of one domain: the second is named, whichever comes first by name.
        (
            "[routes]\n\"a.test\" = \"192.0.2.1:25\"\n\"A.test\" = \"192.0.2.2:25\"\n",
            5,
            "A.test is the same domain as a.test",
        ),
        (
            "[routes]\n\"A.test\" = \"192.0.2.1:25\"\n\"a.test\" = \"192.0.2.2:25\"\n",
            5,
            "a.test is the same domain as A.test",
        ),
        (
            "[routes]\n\"xn--bcher-kva.test\" = \"192.0.2.1:25\"\n\n\"bücher.test\" = \"192.0.2.1:25\"\n",
            6,
            "bücher.test is the same domain as xn--bcher-kva.test",
        ),
        ("[smarthost]\naddress = \"mx.test:25\"\nuser = \"us\"\n", 5, "password_file"),
        (
            "[smarthost]\naddress = \"mx.test:25\"\nuser = \"us\"\npassword_file = \"/nowhere/secret\"\n",
            6,
            "/nowhere/secret",
        ),
    ] {
        let error = parse(&format!("hostname = \"mx\"\ndata = \"d\"\n{rest}")).unwrap_err();
        let begin = format!("postroom.toml: line {line}: ");
        assert!(error.starts_with(&begin) && error.contains(words), "line {line}, {words}: {error}");
    }
    let error = parse("# us\ndata = \"d\"\nhostname = \"m x\"\n").unwrap_err();
    assert!(error.starts_with("postroom.toml: line 3: hostname = \"m x\""), "{error}");
}

#[test]
fn a_mistake_names_its_line() {
    for (text, words) in [
        ("hostname = \"mx\"\ndata = \"d\"\n[listen]\nsmpt = \"0.0.0.0:25\"\n", &["line 4", "smpt"][..]),
        ("hostname = \"mx\"\ndata = \"d\"\n[laboratory]\ndns = \"127.0.0.1:53\"\n", &["line 3", "anchor"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[network]\ntrusted = [\"10.0.0.0/64\"]\n", &["line 4", "10.0.0.0/64"]),
        ("hostname = \"mx\"\n", &["data"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[listen]\nsmtp = \"25\"\n", &["line 4", "address"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[listen]\nlmtp = \"0.0.0.0:24\"\n", &["lmtp", "loopback"]),
        ("hostname = \"m x\"\ndata = \"d\"\n", &["hostname"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[tls]\nkey = \"a\"\n", &["line 3", "certificate"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[[tls]]\ncertificate = \"a\"\nky = \"a\"\n", &["line 5", "ky"]),
        ("hostname = \"mx\"\ndata = \"d\"\ntls = \"cert.pem\"\n", &["line 3", "[[tls]]"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[store]\npack_octets = 1\n", &["pack_octets", "65536"]),
        ("hostname = \"mx\"\ndata = \"d\"\n[store]\ncompact_seconds = 0\n", &["compact_seconds"]),
    ] {
        let error = parse(text).unwrap_err();
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
}
