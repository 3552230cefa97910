//! Whether the tables agree with each other: this crate's part of `postroom verify`.

use base::BlobId;
use store::{Result, Tx, params};

use crate::entry::address;
use crate::receipt::merge;
use crate::{QueueId, schema};

/// Lists what is wrong, in words for the administrator; nothing is changed. `blob_length` gives a blob's octets.
///
/// # Errors
/// The store's: then nothing is known.
pub fn verify(tx: &mut Tx<'_>, blob_length: &dyn Fn(BlobId) -> Result<u64>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    tx.rows(&schema::VERIFY_MESSAGES, params![], |r| {
        let mut say =
            |what: String| wrong.push(format!("queue: message {}: {what}", QueueId::stored(r.int(0).unwrap_or(0))));
        let (prefix, octets, total, open) = (r.int(2)?, r.int(3)?, r.int(4)?, r.int(5)?);
        let (rows, unfinished) = (r.int(6)?, r.int(7)?);
        match (r.opt_int(1)?, r.opt_int(8)?) {
            (None, Some(_)) if octets == 0 => {}
            (Some(blob), None) => match blob_length(BlobId(blob)) {
                Ok(n) if n as i64 + prefix == octets => {}
                Ok(n) => say(format!("{octets} octets, but {prefix} + {n} are there")),
                Err(e) => say(e.to_string()),
            },
            _ => say("neither stored nor to be made".into()),
        }
        if rows != total {
            say(format!("{rows} deliveries, counted as {total}"));
        }
        if unfinished != open || open == 0 {
            say(format!("{unfinished} deliveries are open, counted as {open}"));
        }
        Ok(())
    })?;
    for sql in [&schema::VERIFY_SENDERS, &schema::VERIFY_RECIPIENTS] {
        tx.rows(sql, params![], |r| {
            if let Err(e) = address(r.bytes(1)?) {
                wrong.push(format!("queue: message {}: {e}", QueueId::stored(r.int(0)?)));
            }
            Ok(())
        })?;
    }
    tx.rows(&schema::VERIFY_STRAYS, params![], |r| {
        wrong.push(format!("queue: deliveries without their message {}", QueueId::stored(r.int(0)?)));
        Ok(())
    })?;
    tx.rows(&schema::VERIFY_DELIVERIES, params![], |r| {
        wrong.push(format!(
            "queue: message {}, delivery {}: state, claim or time",
            QueueId::stored(r.int(0)?),
            r.int(1)?
        ));
        Ok(())
    })?;
    merge::verify(tx, &mut wrong)?;
    Ok(wrong)
}
