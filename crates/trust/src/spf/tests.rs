use std::collections::HashMap;

use super::*;

/// Records by kind and name; a name of `fails` does not answer.
#[derive(Default)]
struct Table(HashMap<(char, String), Vec<String>>);

impl Table {
    /// `kind name value`, a line each: `t` TXT, `4` A, `6` AAAA, `m` MX, `p` PTR.
    fn of(lines: &str) -> Self {
        let mut table = Table::default();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (kind, rest) = line.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            table.0.entry((kind.chars().next().unwrap(), name.to_owned())).or_default().push(value.to_owned());
        }
        table
    }

    fn ask(&self, kind: char, name: &str) -> Found<String> {
        if name.ends_with("fails.test") {
            return Err(Unanswered);
        }
        Ok(self.0.get(&(kind, name.to_ascii_lowercase())).cloned().unwrap_or_default())
    }
}

impl Dns for Table {
    async fn texts(&self, name: &str) -> Found<Vec<u8>> {
        Ok(self.ask('t', name)?.into_iter().map(String::into_bytes).collect())
    }

    async fn addresses(&self, name: &str, v6: bool) -> Found<IpAddr> {
        Ok(self.ask(if v6 { '6' } else { '4' }, name)?.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    async fn hosts(&self, name: &str) -> Found<String> {
        self.ask('m', name)
    }

    async fn names(&self, ip: IpAddr) -> Found<String> {
        self.ask('p', &ip.to_string())
    }
}

/// In one word.
async fn said(table: &Table, ip: &str) -> &'static str {
    let asked = Asked { ip: ip.parse().unwrap(), domain: "x.test", local: "joe.b", helo: "mx.x.test" };
    word(&check(table, asked).await.outcome)
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::Neutral => "neutral",
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::SoftFail => "softfail",
        Outcome::TempError => "temperror",
        Outcome::PermError(_) => "permerror",
    }
}

/// What the record of x.test says of 192.0.2.1, with these records beside it.
async fn of(record: &str, beside: &str) -> &'static str {
    said(&Table::of(&format!("t x.test {record}\n{beside}")), "192.0.2.1").await
}

#[tokio::test]
async fn each_mechanism_matches_what_it_names() {
    let beside = "4 x.test 192.0.2.9
        4 a.test 192.0.2.1
        6 a.test 2001:db8::1
        m x.test mx.x.test
        4 mx.x.test 192.0.2.1
        6 mx.x.test 2001:db8::1
        t yes.test v=spf1 ip4:192.0.2.1 -all
        t no.test v=spf1 -all
        t soft.test v=spf1 ~all
        p 192.0.2.1 fx.test
        p 192.0.2.1 mail.x.test
        4 mail.x.test 192.0.2.1
        4 fx.test 192.0.2.1
        4 1.2.0.192.in-addr.b.x.test 127.0.0.2";
    for (record, expected) in [
        ("v=spf1", "neutral"),
        ("v=spf1 all", "pass"),
        ("V=SPF1 -ALL", "fail"),
        ("v=spf1 ~all", "softfail"),
        ("v=spf1 ?all", "neutral"),
        ("v=spf1  ip4:192.0.2.1   -all ", "pass"),
        ("v=spf1 ip4:192.0.2.0/31 -all", "pass"),
        ("v=spf1 ip4:192.0.2.2/31 -all", "fail"),
        ("v=spf1 ip4:0.0.0.0/0 -all", "pass"),
        ("v=spf1 ip6:::/0 -all", "fail"),
        ("v=spf1 a -all", "fail"),
        ("v=spf1 a/28 -all", "pass"),
        ("v=spf1 a//0 -all", "fail"),
        ("v=spf1 a:a.test -all", "pass"),
        ("v=spf1 a:a.test/32//64 -all", "pass"),
        ("v=spf1 mx -all", "pass"),
        ("v=spf1 -mx ip4:192.0.2.1", "fail"),
        ("v=spf1 mx:y.test -all", "fail"),
        ("v=spf1 include:yes.test -all", "pass"),
        ("v=spf1 include:no.test ?all", "neutral"),
        ("v=spf1 include:soft.test -all", "fail"),
        ("v=spf1 include:nothing.test -all", "permerror"),
        ("v=spf1 redirect=soft.test", "softfail"),
        ("v=spf1 redirect=soft.test -all", "fail"),
        ("v=spf1 redirect=nothing.test", "permerror"),
        ("v=spf1 exists:%{ir}.%{v}.b.%{d} -all", "pass"),
        ("v=spf1 exists:%{i}.b.%{d} -all", "fail"),
        ("v=spf1 ptr -all", "pass"),
        ("v=spf1 ptr:mail.x.test -all", "pass"),
        ("v=spf1 ptr:y.test -all", "fail"),
        ("v=spf1 exists:%{p}.q.test a:%{p} -all", "pass"),
        ("v=spf1 a:fails.test -all", "temperror"),
        ("v=spf1 include:fails.test -all", "temperror"),
        ("v=spf1 ip4:192.0.2.1 a:fails.test", "pass"),
        ("v=spf1 exp=why.test moo=%{d} -all", "fail"),
    ] {
        assert_eq!(of(record, beside).await, expected, "{record}");
    }
    let table = Table::of(&format!("t x.test v=spf1 mx a:a.test//126 -all\n{beside}"));
    for (ip, expected) in [("2001:db8::1", "pass"), ("2001:db8::3", "pass"), ("2001:db8::5", "fail")] {
        assert_eq!(said(&table, ip).await, expected, "{ip}");
    }
    assert_eq!(said(&table, "::ffff:192.0.2.1").await, "pass");
}

#[tokio::test]
async fn what_cannot_be_read_counts_as_an_error_wherever_it_stands() {
    for term in [
        "ip4:192.0.2.1/33",
        "ip4:192.0.2",
        "ip4",
        "ip6:192.0.2.1",
        "a/",
        "a/33",
        "a/024",
        "a//129",
        "all:x.test",
        "include",
        "include:",
        "include:localhost",
        "include:a.test/24",
        "exists",
        "a:%{z}.test",
        "a:%{d",
        "a:%{d0}.test",
        "a:%x.test",
        "a:x.1",
        "redirect=",
        "redirect=a.test redirect=a.test",
        "exp=a.test exp=a.test",
        "moo",
        "-=x",
        "a:%{c}.test",
    ] {
        assert_eq!(of(&format!("v=spf1 ip4:192.0.2.1 {term}"), "").await, "permerror", "{term}");
    }
    assert_eq!(of("v=spf1 ip4:192.0.2.1 \u{fc}", "").await, "permerror");
}

/// §7.4
#[test]
fn macros_as_the_standard_has_them() {
    let asked = |ip: &str| Asked {
        ip: ip.parse().unwrap(),
        domain: "email.example.com",
        local: "strong-bad",
        helo: "mx.example.org",
    };
    for (text, ip, expected) in [
        ("%{s}", "192.0.2.3", "strong-bad@email.example.com"),
        ("%{o}", "192.0.2.3", "email.example.com"),
        ("%{d4}", "192.0.2.3", "email.example.com"),
        ("%{d2}", "192.0.2.3", "example.com"),
        ("%{d1}", "192.0.2.3", "com"),
        ("%{dr}", "192.0.2.3", "com.example.email"),
        ("%{d2r}", "192.0.2.3", "example.email"),
        ("%{l}", "192.0.2.3", "strong-bad"),
        ("%{l-}", "192.0.2.3", "strong.bad"),
        ("%{lr}", "192.0.2.3", "strong-bad"),
        ("%{lr-}", "192.0.2.3", "bad.strong"),
        ("%{l1r-}", "192.0.2.3", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "192.0.2.3", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "192.0.2.3", "bad.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "192.0.2.3", "example.com.trusted-domains.example.net"),
        (
            "%{ir}.%{v}._spf.%{d2}",
            "2001:db8::cb01",
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com",
        ),
        ("%{h}.%{p}", "192.0.2.3", "mx.example.org.unknown"),
        ("a%%%_%-%{S}", "192.0.2.3", "a% %20strong-bad%40email.example.com"),
    ] {
        let macros = Macros::parse(text).unwrap();
        assert_eq!(macros.expand(&asked(ip), "email.example.com", None), expected, "{text}");
    }
    let long = Macros::parse(&format!("{}.{}.%{{d}}", "a".repeat(200), "b".repeat(60))).unwrap();
    assert_eq!(long.expand(&asked("192.0.2.3"), "x.test", None), format!("{}.x.test", "b".repeat(60)));
}

#[tokio::test]
async fn trap_13_more_than_ten_terms_that_ask_are_an_error() {
    let beside: String = (0..12).map(|n| format!("4 a{n}.test 192.0.2.99\n")).collect();
    let terms = |n: usize| (0..n).map(|n| format!("a:a{n}.test ")).collect::<String>();
    assert_eq!(of(&format!("v=spf1 {}-all", terms(10)), &beside).await, "fail");
    assert_eq!(of(&format!("v=spf1 {}-all", terms(11)), &beside).await, "permerror");
    assert_eq!(of(&format!("v=spf1 {}ip4:192.0.2.1 {}-all", terms(10), terms(2)), &beside).await, "pass");
    // Of all records together, redirects and loops included.
    let split = format!("{beside}t b.test v=spf1 {}-all\n", terms(9));
    assert_eq!(of("v=spf1 include:b.test -all", &split).await, "fail");
    assert_eq!(of("v=spf1 include:b.test a:a9.test -all", &split).await, "permerror");
    assert_eq!(of("v=spf1 include:x.test -all", "").await, "permerror");
    assert_eq!(of("v=spf1 redirect=x.test", "").await, "permerror");
    // What names addresses asks nothing.
    let many: String = (0..40).map(|n| format!("ip4:198.51.100.{n} ")).collect();
    let asked = Asked { ip: "192.0.2.1".parse().unwrap(), domain: "x.test", local: "postmaster", helo: "mx.x.test" };
    let table = Table::of(&format!("t x.test v=spf1 {many}a:a1.test ~all\n{beside}"));
    assert_eq!(check(&table, asked).await, Checked { outcome: Outcome::SoftFail, lookups: 1 });
    // Ten hosts of an MX are looked at, and an eleventh is an error.
    let hosts = |n: usize| (0..n).map(|n| format!("m x.test a{n}.test\n")).collect::<String>();
    assert_eq!(of("v=spf1 mx -all", &format!("{beside}{}", hosts(10))).await, "fail");
    assert_eq!(of("v=spf1 mx -all", &format!("{beside}{}", hosts(11))).await, "permerror");
}

#[tokio::test]
async fn trap_13_more_than_two_terms_that_find_nothing_are_an_error() {
    assert_eq!(of("v=spf1 a:a.test mx:b.test -all", "").await, "fail");
    assert_eq!(of("v=spf1 a:a.test mx:b.test exists:c.test -all", "").await, "permerror");
    // Those of the other family only are none.
    assert_eq!(of("v=spf1 a:a.test a:a.test a:a.test -all", "6 a.test 2001:db8::1").await, "permerror");
    assert_eq!(of("v=spf1 a:a.test mx:b.test ip4:192.0.2.1 a:c.test", "").await, "pass");
}

#[tokio::test]
async fn trap_13_what_does_not_exist_matches_no_exists() {
    assert_eq!(of("v=spf1 exists:%{i}.list.test -all", "").await, "fail");
    assert_eq!(of("v=spf1 -exists:%{i}.list.test +all", "").await, "pass");
    assert_eq!(of("v=spf1 exists:%{i}.list.test -all", "4 192.0.2.1.list.test 127.0.0.2").await, "pass");
    // Not AAAA, not even of a host that comes by IPv6 (§5.7).
    assert_eq!(of("v=spf1 exists:%{i}.list.test -all", "6 192.0.2.1.list.test ::1").await, "fail");
}

#[tokio::test]
async fn trap_13_other_texts_beside_it_do_not_matter_and_a_second_record_does() {
    let beside = "t x.test some-site-verification=1
        t x.test v=spf10 +all
        t x.test v=spf1+all
        t x.test v=DMARC1; p=none";
    assert_eq!(of("v=spf1 ip4:192.0.2.1 -all", beside).await, "pass");
    assert_eq!(of("v=spf1 ip4:192.0.2.1 -all", "t x.test v=spf1 -all").await, "permerror");
    assert_eq!(said(&Table::of(beside), "192.0.2.1").await, "none");
}
