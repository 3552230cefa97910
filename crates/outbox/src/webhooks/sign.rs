//! Signatures as Standard Webhooks has them (specification 1.0.0, "Signature scheme"): HMAC-SHA256 of id, time and body.

use aws_lc_rs::hmac;
use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use queue::webhook::Setup;

/// Octets of a new key; the specification has 24 to 64.
pub const KEY: usize = 32;

/// A key as it is shown.
pub fn shown(secret: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(secret))
}

/// What goes into `webhook-signature`: one by the key, and one by the key before while that is good.
pub(super) fn header(setup: &Setup, id: &str, now: Timestamp, body: &str) -> String {
    let former = setup.former.iter().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
    let keys = std::iter::once(&setup.secret).chain(former);
    keys.map(|secret| signature(secret, id, now.secs(), body)).collect::<Vec<_>>().join(" ")
}

fn signature(secret: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use queue::log::Filter;
    use queue::webhook::State;

    use super::*;

    /// The vector that the libraries of github.com/standard-webhooks/standard-webhooks are tested with.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &str = "{\"test\": 2432232314}";
    const EXPECTED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_published_vector_comes_out() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(signature(&secret, ID, 1_614_265_330, BODY), EXPECTED);
        assert_eq!(shown(&secret), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn the_key_before_signs_as_long_as_it_is_good() {
        let now = Timestamp::from_secs(1_614_265_330);
        let setup = Setup {
            url: String::new(),
            filter: Filter::default(),
            secret: b"new".to_vec(),
            former: Some((STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(), Timestamp(now.0 + 1))),
            state: State::On,
            made: now,
            generation: 0,
        };
        let both = header(&setup, ID, now, BODY);
        let both: Vec<&str> = both.split(' ').collect();
        assert_eq!((both.len(), both[1]), (2, EXPECTED));
        assert_eq!(header(&setup, ID, Timestamp(now.0 + 1), BODY).split(' ').count(), 1);
    }
}
