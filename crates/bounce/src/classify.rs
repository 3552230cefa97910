//! The procedure: the rules in the order that the head of the data file gives them; the first that answers wins.

use std::fmt;

use base::{Enhanced, Reply};

use crate::Action;
use crate::class::{Class, Permanence, Retry};
use crate::data::{ClassIndex, Classifier, Condition, On, Words};
use crate::quoted::Said;

/// Where in a delivery something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// In our session: instead of a greeting.
    Connect,
    /// In our session: to EHLO, HELO or LHLO, STARTTLS and AUTH.
    Helo,
    /// In our session: to MAIL.
    MailFrom,
    /// In our session: to RCPT.
    Rcpt,
    /// In our session: to DATA or BDAT, before the end of the message.
    Data,
    /// In our session: to the end of the message.
    Dot,
    /// In a report that came back, well-formed or not; what it says was done.
    Dsn(Action),
    /// In another mail that came back.
    Mail,
}

/// What is to be classified.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Where it was said.
    pub stage: Stage,
    /// The SMTP reply code. For a report: None, unless it stands in a field; what the text quotes is found.
    pub code: Option<u16>,
    /// The enhanced code (RFC 3463); for a report its `Status`.
    pub enhanced: Option<Enhanced>,
    /// The reply without its codes, lines parted by anything white; of a report the recipient's Diagnostic-Code without its
    /// type, or the human part; of another mail the subject. Decoded.
    pub text: &'a str,
    /// The site that said it, by its id in the policies, where known.
    pub site: Option<&'a str>,
    /// A session of ours in which we signed in.
    pub signed_in: bool,
}

impl<'a> Input<'a> {
    /// Nothing but the stage: for `..Input::at(stage)`.
    pub fn at(stage: Stage) -> Self {
        Input { stage, code: None, enhanced: None, text: "", site: None, signed_in: false }
    }

    /// A reply to us.
    pub fn reply(stage: Stage, reply: &'a Reply) -> Self {
        Input { code: Some(reply.code), enhanced: reply.enhanced, text: &reply.text, ..Input::at(stage) }
    }
}

/// What we know ourselves, without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// The domain does not exist.
    DnsNxDomain,
    /// It has neither MX nor address.
    DnsNoAddress,
    /// It has a null MX (RFC 7505).
    DnsNullMx,
    /// The name servers failed.
    DnsServFail,
    /// They did not answer.
    DnsTimeout,
    /// DNSSEC did not validate.
    DnsBogus,
    /// All MX hosts are ourselves, or no usable address.
    MxSelf,
    /// Too many Received fields.
    Hops,
    /// The connection was refused.
    ConnectRefused,
    /// No connection in time.
    ConnectTimeout,
    /// No route.
    ConnectUnreachable,
    /// The session broke off.
    SessionLost,
    /// No answer in time.
    SessionTimeout,
    /// The answer was no SMTP.
    SessionGarbage,
    /// The TLS handshake failed.
    TlsHandshake,
    /// TLS is needed and not offered.
    TlsNotOffered,
    /// The certificate does not do.
    TlsCertificate,
    /// DANE failed.
    TlsDane,
    /// MTA-STS failed.
    TlsMtaSts,
    /// REQUIRETLS is needed and not offered.
    RequireTlsNotOffered,
    /// SMTPUTF8 is needed and not offered.
    SmtpUtf8NotOffered,
    /// 8BITMIME is needed and not offered.
    EightBitMimeNotOffered,
    /// The host announced a smaller SIZE.
    SizeAnnounced,
    /// The address is malformed.
    AddressSyntax,
    /// The time is over.
    Expired,
    /// On a suppression list of ours.
    Suppressed,
}

impl Known {
    /// All of them, with their names in the data file.
    pub(crate) const ALL: [(Known, &'static str); 26] = [
        (Known::DnsNxDomain, "dns.nxdomain"),
        (Known::DnsNoAddress, "dns.no-address"),
        (Known::DnsNullMx, "dns.null-mx"),
        (Known::DnsServFail, "dns.servfail"),
        (Known::DnsTimeout, "dns.timeout"),
        (Known::DnsBogus, "dns.bogus"),
        (Known::MxSelf, "mx.self"),
        (Known::Hops, "hops"),
        (Known::ConnectRefused, "connect.refused"),
        (Known::ConnectTimeout, "connect.timeout"),
        (Known::ConnectUnreachable, "connect.unreachable"),
        (Known::SessionLost, "session.lost"),
        (Known::SessionTimeout, "session.timeout"),
        (Known::SessionGarbage, "session.garbage"),
        (Known::TlsHandshake, "tls.handshake"),
        (Known::TlsNotOffered, "tls.not-offered"),
        (Known::TlsCertificate, "tls.certificate"),
        (Known::TlsDane, "tls.dane"),
        (Known::TlsMtaSts, "tls.mta-sts"),
        (Known::RequireTlsNotOffered, "requiretls.not-offered"),
        (Known::SmtpUtf8NotOffered, "smtputf8.not-offered"),
        (Known::EightBitMimeNotOffered, "8bitmime.not-offered"),
        (Known::SizeAnnounced, "size.announced"),
        (Known::AddressSyntax, "address.syntax"),
        (Known::Expired, "expired"),
        (Known::Suppressed, "suppressed"),
    ];

    /// Its name in the data file.
    pub fn name(self) -> &'static str {
        Known::ALL[self as usize].1
    }
}

/// Which rule answered: for the person who asks why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// We know it ourselves.
    Known(Known),
    /// The report's Action says so.
    Action(Action),
    /// A provider's own code in the text.
    Token {
        /// Whose code it is.
        site: &'a str,
        /// What was found, as the data file has it.
        pattern: &'a str,
    },
    /// Enhanced codes that the site uses in its own way.
    Vendor {
        /// The list it stands in, without the first digit.
        codes: &'a str,
    },
    /// What the text says.
    Text {
        /// Plainly, or only in words that are used for much.
        strong: bool,
        /// What was found, as the data file has it.
        pattern: &'a str,
    },
    /// The enhanced code.
    Enhanced {
        /// The list it stands in, without the first digit.
        codes: &'a str,
        /// How exact the code is: 2, 1 or 0.
        weight: u8,
    },
    /// The reply code.
    Reply {
        /// The list it stands in.
        codes: &'a str,
    },
    /// None: the class is `unknown`.
    Nothing,
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Known(known) => write!(f, "known here: {}", known.name()),
            Rule::Action(action) => write!(f, "the report says {action}"),
            Rule::Token { site, pattern } => write!(f, "a code of {site}: {pattern}"),
            Rule::Vendor { codes } => write!(f, "enhanced codes x.{codes} as this site uses them"),
            Rule::Text { pattern, .. } => write!(f, "the text: {pattern}"),
            Rule::Enhanced { codes, .. } => write!(f, "enhanced codes x.{codes}"),
            Rule::Reply { codes } => write!(f, "reply codes {codes}"),
            Rule::Nothing => f.write_str("nothing that is known"),
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Why.
    pub class: &'a Class,
    /// By which rule.
    pub rule: Rule<'a>,
    /// Whether the message's way to this recipient ends here: 5xx, but not before MAIL, and not 552 to RCPT. A report of a
    /// failure with a 4xx is not final either: what it says may pass, for the next message.
    pub is_final: bool,
}

impl Verdict<'_> {
    /// Final, and of a hard class: what suppression counts as hard.
    pub fn is_hard(&self) -> bool {
        self.is_final && self.class.permanence == Permanence::Hard
    }
}

impl Classifier {
    /// What is known without a reply.
    pub fn known(&self, known: Known) -> Verdict<'_> {
        let class = &self.classes[self.known[known as usize]];
        Verdict { class, rule: Rule::Known(known), is_final: class.retry == Retry::Never }
    }

    /// What a reply or a report means.
    pub fn classify(&self, input: &Input<'_>) -> Verdict<'_> {
        if let Stage::Dsn(action) = input.stage
            && let Some(class) = self.by_action(action)
        {
            return Verdict { class: &self.classes[class], rule: Rule::Action(action), is_final: false };
        }
        let case = Case::of(input);
        let (class, rule) = self.find(&case);
        let class = &self.classes[self.at_stage(class, &case)];
        Verdict { class, rule, is_final: case.is_final() }
    }

    fn by_action(&self, action: Action) -> Option<ClassIndex> {
        match action {
            Action::Failed => None,
            Action::Delayed => Some(self.special.delayed),
            Action::Delivered | Action::Relayed | Action::Expanded => Some(self.special.delivered),
        }
    }

    /// Steps 3 to 10.
    fn find(&self, case: &Case<'_>) -> (ClassIndex, Rule<'_>) {
        self.token(case)
            .or_else(|| self.vendor(case))
            .or_else(|| words(&self.strong, true, case))
            .or_else(|| self.enhanced(2, case))
            .or_else(|| words(&self.weak, false, case))
            .or_else(|| self.enhanced(1, case))
            .or_else(|| self.enhanced(0, case).filter(|(class, _)| *class != self.special.unknown))
            .or_else(|| self.reply(case))
            .unwrap_or((self.special.unknown, Rule::Nothing))
    }

    fn token(&self, case: &Case<'_>) -> Option<(ClassIndex, Rule<'_>)> {
        let found = self.token_patterns.matches(&case.said.text);
        let token = found
            .iter()
            .map(|number| &self.tokens[number])
            .find(|token| (!token.only_there || case.site == Some(&token.site)) && case.fits(&token.condition))?;
        Some((token.class, Rule::Token { site: &token.site, pattern: &token.pattern }))
    }

    fn vendor(&self, case: &Case<'_>) -> Option<(ClassIndex, Rule<'_>)> {
        let (site, enhanced) = (case.site?, case.said.enhanced?);
        let vendor = self.vendor.iter().find(|vendor| {
            vendor.codes.contain(enhanced) && vendor.sites.iter().any(|s| **s == *site) && case.fits(&vendor.condition)
        })?;
        Some((vendor.class, Rule::Vendor { codes: &vendor.written }))
    }

    fn enhanced(&self, weight: u8, case: &Case<'_>) -> Option<(ClassIndex, Rule<'_>)> {
        let enhanced = case.said.enhanced?;
        if case.digit == b'2' {
            return Some((self.special.delivered, Rule::Enhanced { codes: "2", weight }));
        }
        let row = self.enhanced.iter().find(|row| row.weight == weight && row.codes.contain(enhanced))?;
        let class = if case.digit == b'4' { row.four } else { row.five };
        Some((class, Rule::Enhanced { codes: &row.written, weight }))
    }

    fn reply(&self, case: &Case<'_>) -> Option<(ClassIndex, Rule<'_>)> {
        let code = case.said.code?;
        let row = self.replies.iter().find(|row| row.codes.contain(code))?;
        let named = row.stages.iter().find(|(stage, _)| *stage == case.moment).map(|(_, class)| *class);
        Some((named.unwrap_or(row.any), Rule::Reply { codes: &row.written }))
    }

    /// What a class becomes where it cannot be meant so.
    fn at_stage(&self, class: ClassIndex, case: &Case<'_>) -> ClassIndex {
        let special = &self.special;
        match (case.moment, &*self.classes[class].name) {
            // At MAIL nothing is said of the recipient.
            (Stage::MailFrom, "no-such-user" | "no-such-domain" | "bad-address" | "user-disabled") => {
                special.bad_sender
            }
            (Stage::Connect | Stage::Helo, "policy" | "spam-content") => special.blocked_ip,
            (Stage::Helo, "no-such-domain" | "bad-sender" | "bad-address") => special.no_rdns,
            (_, "login-failed") if !case.signed_in => special.policy,
            _ => class,
        }
    }
}

/// The first of the rules whose words are in the text.
fn words<'a>(rules: &'a [Words], strong: bool, case: &Case<'_>) -> Option<(ClassIndex, Rule<'a>)> {
    rules.iter().filter(|words| case.fits(&words.condition)).find_map(|words| {
        let (_, pattern) = words.patterns.iter().find(|(compiled, _)| compiled.is_match(&case.said.text))?;
        Some((words.class, Rule::Text { strong, pattern }))
    })
}

/// An input, prepared.
struct Case<'a> {
    said: Said,
    site: Option<&'a str>,
    signed_in: bool,
    on: On,
    /// The stage that counts: for a report that of the session it tells of.
    moment: Stage,
    /// The first of the codes. RFC 3463 and the reply may contradict each other: the reply code counts.
    digit: u8,
    in_session: bool,
}

impl<'a> Case<'a> {
    fn of(input: &Input<'a>) -> Self {
        let (on, said) = match input.stage {
            Stage::Dsn(_) => (On::Dsn, Said::in_report(input.text, input.code, input.enhanced)),
            Stage::Mail => (On::Mail, Said::plainly(input.text, input.code, input.enhanced)),
            _ => (On::Smtp, Said::plainly(input.text, input.code, input.enhanced)),
        };
        let moment = match input.stage {
            // A report that names no stage counts as an answer to RCPT.
            Stage::Dsn(_) | Stage::Mail => said.moment.unwrap_or(Stage::Rcpt),
            stage => stage,
        };
        let class = said.code.map(|code| code / 100).or(said.enhanced.map(|e| u16::from(e.0)));
        // A report of a failure that gives no code reports an end.
        let digit = class.map_or(b'5', |digit| b'0' + (digit % 10) as u8);
        Case { said, site: input.site, signed_in: input.signed_in, on, moment, digit, in_session: on == On::Smtp }
    }

    fn fits(&self, condition: &Condition) -> bool {
        let code = match (self.said.code, condition.code.as_bytes()) {
            (_, []) => true,
            (None, [digit]) => self.said.enhanced.is_some() && *digit == self.digit,
            (Some(code), _) => code.to_string().starts_with(&*condition.code),
            (None, _) => false,
        };
        code && condition.on.is_none_or(|on| on == self.on)
    }

    fn is_final(&self) -> bool {
        // RFC 5321 §4.5.3.1.10: 552 to RCPT is like 452 (trap 30).
        let later = self.moment == Stage::Rcpt && self.said.code == Some(552)
            || matches!(self.moment, Stage::Connect | Stage::Helo);
        self.digit == b'5' && !(self.in_session && later)
    }
}
