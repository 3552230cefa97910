//! Certificates from an authority (ACME, RFC 8555): an account, and orders, each name of which is proved by HTTP-01
//! (§8.3). Keeps no files and plans nothing: the caller keeps [`Account::kept`] and what an order brought, decides when
//! to order, and answers on port 80 what [`Challenges`] says.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Address;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response, Uri};
use instant_acme::{
    AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};

use crate::tls_server::fits;
use crate::{Deadline, Https};

/// How long the authority may take over one request.
const REQUEST: Duration = Duration::from_secs(30);
/// The longest that it may make us wait before we look again whether an order has come on, in seconds.
const LONGEST_PAUSE: u64 = 60;
/// How an order is looked after: the authority asks our port 80 from several places, and then signs.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_secs(1)).backoff(1.5).timeout(Duration::from_secs(180));

/// What port 80 answers while an order is under way: at most one text for each name of it. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<HashMap<String, String>>>);

impl Challenges {
    /// The answer to `GET /.well-known/acme-challenge/TOKEN` (RFC 8555 §8.3); None for a token that is not ours.
    pub fn answer(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Answers `token` so until what this returns is dropped.
    pub fn publish(&self, token: &str, answer: &str) -> Published {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.into(), answer.into());
        Published { challenges: self.clone(), token: token.into() }
    }
}

/// An answer on port 80, taken back when this is dropped: the order has ended, one way or another.
#[must_use]
pub struct Published {
    challenges: Challenges,
    token: String,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.challenges.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

/// Why there is no certificate. The texts are for the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcmeError {
    /// The authority does not know the account (any more): make a new one.
    NoAccount,
    /// We asked too often; leave it alone for hours.
    RateLimited(String),
    /// Anything else; it may be better later.
    Failed(String),
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcmeError::NoAccount => f.write_str("the authority does not know our account"),
            AcmeError::RateLimited(why) | AcmeError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for AcmeError {}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        let Error::Api(problem) = error else { return AcmeError::Failed(error.to_string()) };
        // RFC 8555 §6.7.
        match problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:")) {
            Some("accountDoesNotExist") => AcmeError::NoAccount,
            Some("rateLimited") => AcmeError::RateLimited(problem.to_string()),
            _ => AcmeError::Failed(problem.to_string()),
        }
    }
}

impl AcmeError {
    fn failed(why: impl fmt::Display) -> Self {
        AcmeError::Failed(why.to_string())
    }
}

/// A certificate authority that speaks ACME. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Authority {
    directory: String,
    https: Https,
}

/// An account, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

impl Authority {
    /// The authority whose directory (RFC 8555 §7.1.1) is at this URL.
    ///
    /// # Errors
    /// [`AcmeError::Failed`]: it is not `https://…`.
    pub fn new(directory: &str, https: Https) -> Result<Self, AcmeError> {
        is_https(directory)
            .then(|| Authority { directory: directory.to_owned(), https })
            .ok_or_else(|| AcmeError::failed(format_args!("{directory:?} is no address of an authority (https://…)")))
    }

    /// Makes an account with a key of its own, and agrees to the authority's terms of service (§7.3.3): ask the
    /// administrator before.
    ///
    /// # Errors
    /// [`AcmeError`]; also when the deadline passes.
    pub async fn register(&self, contact: Option<&Address>, deadline: Deadline) -> Result<Account, AcmeError> {
        let contact = contact.map(mailto);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let builder = instant_acme::Account::builder_with_http(self.client());
        let (account, credentials) = in_time(deadline, builder.create(&wanted, self.directory.clone(), None)).await?;
        let kept = Kept { directory: self.directory.clone(), credentials };
        let kept = serde_json::to_string(&kept).map_err(AcmeError::failed)?;
        Ok(Account { account, kept })
    }

    /// The account that was kept as `kept`.
    ///
    /// # Errors
    /// [`AcmeError::NoAccount`] when it is none, or one at another authority; others when the authority cannot be
    /// asked.
    pub async fn account(&self, kept: &str, deadline: Deadline) -> Result<Account, AcmeError> {
        let found: Kept = serde_json::from_str(kept).map_err(|_| AcmeError::NoAccount)?;
        if found.directory != self.directory {
            return Err(AcmeError::NoAccount);
        }
        let builder = instant_acme::Account::builder_with_http(self.client());
        let account = in_time(deadline, builder.from_credentials(found.credentials)).await?;
        Ok(Account { account, kept: kept.to_owned() })
    }

    fn client(&self) -> Box<Client> {
        Box::new(Client(self.https.clone()))
    }
}

/// An account at an authority.
pub struct Account {
    account: instant_acme::Account,
    kept: String,
}

/// A certificate that was ordered.
pub struct Issued {
    /// PEM: the certificate, then its chain.
    pub chain: String,
    /// PEM: its private key, made for it (ECDSA P-256).
    pub key: String,
}

impl Account {
    /// What to keep for [`Authority::account`]: JSON, with the account's private key.
    pub fn kept(&self) -> &str {
        &self.kept
    }

    /// Orders a certificate for `names` (RFC 8555 §7.4). Each must lead to this host, on whose port 80 `challenges` are
    /// answered.
    ///
    /// # Errors
    /// [`AcmeError`]; also when the deadline passes.
    pub async fn order(
        &self,
        names: &[String],
        challenges: &Challenges,
        deadline: Deadline,
    ) -> Result<Issued, AcmeError> {
        let issued = in_time(deadline, self.fulfil(names, challenges)).await?;
        fits(&issued.chain, &issued.key)
            .map_err(|e| AcmeError::failed(format_args!("the authority sent no certificate that can be used: {e}")))?;
        Ok(issued)
    }

    async fn fulfil(&self, names: &[String], challenges: &Challenges) -> Result<Issued, AcmeError> {
        let names: Vec<Identifier> = names.iter().map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = self.account.new_order(&NewOrder::new(&names)).await?;
        let published = prove(&mut order, challenges).await?;
        let ready = order.poll_ready(&PATIENCE).await;
        drop(published);
        if !matches!(ready, Ok(OrderStatus::Ready)) {
            return Err(reason(&mut order, ready.err()).await);
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        Ok(Issued { chain, key })
    }
}

/// Publishes the answer for each name that is not proved yet, and has the authority look (§7.5.1).
async fn prove(order: &mut Order, challenges: &Challenges) -> Result<Vec<Published>, AcmeError> {
    let mut published = Vec::new();
    let mut names = order.authorizations();
    while let Some(name) = names.next().await {
        let mut name = name?;
        if name.status != AuthorizationStatus::Pending {
            continue;
        }
        let Some(mut challenge) = name.challenge(ChallengeType::Http01) else {
            return Err(AcmeError::failed("the authority does not offer HTTP-01"));
        };
        published.push(challenges.publish(&challenge.token, challenge.key_authorization().as_str()));
        challenge.set_ready().await?;
    }
    Ok(published)
}

/// Why an order came to nothing: what the authority found at each name says more than the order does.
async fn reason(order: &mut Order, error: Option<Error>) -> AcmeError {
    let mut found = Vec::new();
    let mut names = order.authorizations();
    while let Some(Ok(mut name)) = names.next().await {
        if name.refresh().await.is_err() {
            break;
        }
        let of = name.identifier().to_string();
        found.extend(name.challenges.iter().filter_map(|c| c.error.as_ref()).map(|error| format!("{of}: {error}")));
    }
    match error {
        _ if !found.is_empty() => AcmeError::Failed(found.join("; ")),
        Some(error) => error.into(),
        None => AcmeError::failed("the authority refused the order, and did not say why"),
    }
}

async fn in_time<T, E: Into<AcmeError>>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, AcmeError> {
    match tokio::time::timeout_at(deadline.instant(), work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(AcmeError::failed("the authority did not come to an end in time")),
    }
}

/// RFC 6068 §2: what is not plain is written as %XX.
fn mailto(address: &Address) -> String {
    let mut uri = String::from("mailto:");
    for octet in format!("{}@{}", address.local(), address.domain()).bytes() {
        match octet {
            b'@' | b'.' | b'-' | b'_' | b'+' => uri.push(char::from(octet)),
            octet if octet.is_ascii_alphanumeric() => uri.push(char::from(octet)),
            octet => uri.push_str(&format!("%{octet:02X}")),
        }
    }
    uri
}

fn is_https(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some())
}

/// HTTPS for `instant_acme`: ours, so that it resolves, dials, trusts and gives up as all we do.
struct Client(Https);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let https = self.0.clone();
        Box::pin(async move {
            let is_directory = request.method() == Method::GET;
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_else(|never| match never {});
            let request = Request::from_parts(head, Full::new(body));
            let answer = https.ask(request, Deadline::after(REQUEST)).await.map_err(other)?;
            Ok(tame(answer, is_directory)?.map(Full::new).into())
        })
    }
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Other(error.into())
}

/// Refuses answers that `instant_acme` would misunderstand, or panic over.
fn tame(mut answer: Response<Bytes>, is_directory: bool) -> Result<Response<Bytes>, Error> {
    let (status, headers) = (answer.status(), answer.headers());
    let problem =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    if !status.is_success() && !problem {
        return Err(other(format!("the authority answered {status}")));
    }
    // It takes the URL of newNonce for one without looking.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Directory {
        new_nonce: String,
    }
    if is_directory && !serde_json::from_slice::<Directory>(answer.body()).is_ok_and(|it| is_https(&it.new_nonce)) {
        return Err(other("this is no directory of an ACME authority"));
    }
    // It adds any number of seconds to the time.
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    if seconds.is_some_and(|seconds| seconds > LONGEST_PAUSE) {
        answer.headers_mut().insert(RETRY_AFTER, LONGEST_PAUSE.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, body: &str) -> Response<Bytes> {
        let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
        answer.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    /// Each would end in a panic, or in words that say nothing.
    #[test]
    fn a_hostile_authority_is_tamed() {
        let directory = |nonce: &str| answer(200, "application/json", &format!("{{\"newNonce\": {nonce}}}"));
        assert!(tame(directory("\"https://ca.example.test/nonce\""), true).is_ok());
        for nonce in ["\"https://ca example/\"", "\"http://ca.example.test/\"", "\"\"", "\"/nonce\"", "7"] {
            assert!(tame(directory(nonce), true).is_err(), "{nonce}");
        }
        assert!(tame(answer(200, "text/html", "<h1>It works!</h1>"), true).is_err());
        let error = tame(answer(502, "text/html", "<h1>Bad gateway</h1>"), false).unwrap_err();
        assert!(error.to_string().contains("502"), "{error}");
        assert!(tame(answer(429, "application/problem+json; charset=utf-8", "{}"), false).is_ok());

        for (asked, granted) in [("3", "3"), ("18446744073709551615", "60"), ("3600", "60"), ("soon", "soon")] {
            let mut answer = answer(200, "application/json", "{}");
            answer.headers_mut().insert(RETRY_AFTER, asked.parse().unwrap());
            assert_eq!(tame(answer, false).unwrap().headers()[RETRY_AFTER], granted);
        }
    }

    #[test]
    fn an_error_says_what_can_be_done() {
        let error = |kind: &str| {
            let problem = format!("{{\"type\": \"urn:ietf:params:acme:error:{kind}\", \"detail\": \"the reason\"}}");
            AcmeError::from(Error::Api(serde_json::from_str(&problem).unwrap()))
        };
        assert_eq!(error("accountDoesNotExist"), AcmeError::NoAccount);
        assert!(matches!(error("rateLimited"), AcmeError::RateLimited(why) if why.contains("the reason")));
        assert!(matches!(error("malformed"), AcmeError::Failed(why) if why.contains("the reason")));
    }

    #[test]
    fn a_contact_is_a_mailto_uri() {
        let uri = |address: &str| mailto(&Address::parse(address).unwrap());
        assert_eq!(uri("postmaster+acme@example.org"), "mailto:postmaster+acme@example.org");
        // RFC 6068 §6.1: gorby%kremvax is written with %25, a question mark with %3F.
        assert_eq!(uri("gorby%kremvax@example.com"), "mailto:gorby%25kremvax@example.com");
        assert_eq!(uri("unlikely?address@example.com"), "mailto:unlikely%3Faddress@example.com");
    }

    #[test]
    fn an_answer_is_taken_back_when_its_order_ends() {
        let challenges = Challenges::default();
        let one = challenges.publish("a", "a.thumbprint");
        let two = challenges.clone().publish("b", "b.thumbprint");
        assert_eq!(challenges.answer("b").as_deref(), Some("b.thumbprint"));
        drop(two);
        assert_eq!((challenges.answer("a").as_deref(), challenges.answer("b")), (Some("a.thumbprint"), None));
        drop(one);
        assert_eq!(challenges.answer("a"), None);
    }
}
