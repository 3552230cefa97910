//! What a message is made of: bytes that came, or bytes that are made for each recipient when it is about to leave.

use std::sync::Arc;
use std::time::Duration;

use base::BlobId;

use crate::{Delivery, Message};

/// Octets of a [`Recipe::reference`].
pub const MAX_REFERENCE: usize = 255;
/// Octets of a mail that is made: it is kept in memory until the peer has it.
pub const MAX_MADE: usize = 4 << 20;

/// What a message is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes, with [`Message::prefix`] before them.
    Stored(BlobId),
    /// Nothing yet: [`Bodies`] make it, for each recipient its own.
    Made(Recipe),
}

impl Content {
    /// The stored bytes.
    pub fn blob(&self) -> Option<BlobId> {
        match self {
            Content::Stored(blob) => Some(*blob),
            Content::Made(_) => None,
        }
    }
}

/// What is to be made. It means nothing to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Who knows how.
    pub kind: u16,
    /// What he needs to know, at most [`MAX_REFERENCE`] octets.
    pub reference: Arc<[u8]>,
}

/// Who makes the mails of messages that are [`Content::Made`].
///
/// ```
/// use queue::{Bodies, Delivery, Message, NotMade, Recipe};
///
/// struct Greetings;
///
/// impl Bodies for Greetings {
///     fn make(&self, recipe: &Recipe, _: &Message, delivery: &Delivery) -> Result<Vec<u8>, NotMade> {
///         let name = str::from_utf8(&recipe.reference).map_err(|_| NotMade::Never("no name".into()))?;
///         Ok(format!("From: {name}\r\nTo: {}\r\n\r\nGood morning\r\n", delivery.to).into_bytes())
///     }
/// }
/// ```
pub trait Bodies: Send + Sync {
    /// The mail for one recipient: header, with its signatures, and body, at most [`MAX_MADE`] octets. Stray CR and LF go out
    /// as CRLF, as they do in what `trust` signs.
    ///
    /// Asked when a connection is ready to take it, and again for each attempt: one whose end a crash hides, too. Nothing
    /// may follow from being asked; what becomes of the mail is told by its receipt. It runs on a thread on which it may
    /// compute and wait for the store. Who takes longer than half a minute is asked again later.
    ///
    /// # Errors
    /// [`NotMade`]: there is no mail, now or ever.
    fn make(&self, recipe: &Recipe, message: &Message, delivery: &Delivery) -> Result<Vec<u8>, NotMade>;
}

/// Why there is no mail for a recipient; in words for who asks what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// Not now: to be asked again after this time.
    Later(Duration, String),
    /// It cannot be made: the delivery has failed.
    Never(String),
    /// It is not wanted any more: the delivery is cancelled.
    Unwanted(String),
}
