//! What a handler says: an outcome, or an error with its causes.

use std::fmt;
use std::time::Duration;

use crate::store::fault::is_aborted;
use crate::store::{Blame, StoreError};

/// What becomes of an event, and of what its handler wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled: what was written is committed.
    Done,
    /// On purpose nothing was to be done; it will not come again. What was written is committed.
    Ignore,
    /// Not now: everything is rolled back, and the event tried again after this long, at the
    /// earliest. Counts as an attempt.
    Retry(Duration),
    /// Never by itself: everything is rolled back, and the event and the later ones of its key are
    /// put aside until a person decides.
    Park(String),
    /// Never at all: everything is rolled back, and the event leaves through the outbox. The later
    /// ones of its key go on.
    DeadLetter(String),
}

/// Why a handler could not do its work. Any error becomes one with `?`; an error of the database
/// among its causes is judged by its SQLSTATE: contention and a lost connection are no attempt.
///
/// ```
/// use walpost_inbox::{Error, Outcome};
/// fn amount(text: &str) -> Result<i64, Error> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(amount("many").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Error {
    source: Box<dyn std::error::Error + Send + Sync>,
    blame: Blame,
}

impl Error {
    /// Of a text.
    ///
    /// ```
    /// use walpost_inbox::Error;
    /// assert_eq!(Error::new("no such account").to_string(), "no such account");
    /// ```
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let source = text.into().into();
        Self { source, blame: Blame::Event }
    }

    /// What it says about the event.
    ///
    /// ```
    /// use walpost_inbox::{Error, store::Blame};
    /// assert_eq!(Error::new("no such account").blame(), Blame::Event);
    /// ```
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.blame
    }
}

impl Error {
    /// Whether an earlier statement of the transaction had failed.
    pub(crate) fn is_aborted(&self) -> bool {
        is_aborted(&*self.source)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        let blame =
            any.downcast_ref::<StoreError>().map_or_else(|| Blame::of_any(any), StoreError::blame);
        Self { source: Box::new(error), blame }
    }
}

/// The error and its causes on one line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.source))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.blame)
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
