//! WAL positions: one type per meaning, so that a received position cannot be confirmed by mistake.
//!
//! All are byte offsets into the write-ahead log, printed as PostgreSQL prints them (`0/16B3748`,
//! <https://www.postgresql.org/docs/current/datatype-pg-lsn.html>). The position that the slot may
//! be advanced to is [`crate::confirm::ConfirmedLsn`]; it is made in `confirm.rs` only (I1).

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log without further meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position that PostgreSQL calls invalid: nothing has been reached.
    pub const ZERO: Lsn = Lsn(0);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a WAL position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a WAL position such as 0/16B3748")]
pub struct LsnFormatError {
    text: String,
}

impl FromStr for Lsn {
    type Err = LsnFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |part: &str| -> Option<u64> {
            let digits = !part.is_empty() && part.len() <= 8;
            (digits && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .then(|| u64::from_str_radix(part, 16).ok())
                .flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| LsnFormatError { text: text.chars().take(40).collect() })
    }
}

macro_rules! lsn_of_one_meaning {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub Lsn);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

lsn_of_one_meaning! {
    /// The position of a transaction's commit record: it orders transactions and names them in
    /// the `lsn` header (`final_lsn` of Begin, `commit_lsn` of Commit).
    CommitLsn
}
lsn_of_one_meaning! {
    /// The first byte after a transaction's commit record (`end_lsn` of Commit): the position that
    /// says "this transaction is done" when it is confirmed.
    CommitEnd
}
lsn_of_one_meaning! {
    /// How far the server has read its WAL for us, from a keepalive. Everything that was committed
    /// before it and concerns the publication has been sent.
    WalEnd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_across_the_four_gibibyte_border() {
        for (number, text) in [
            (0, "0/0"),
            (0x16B_3748, "0/16B3748"),
            (0xA_0000_000F, "A/F"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(Lsn(number).to_string(), text);
            assert_eq!(text.parse(), Ok(Lsn(number)));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "/", "0/", "/0", "0/0/0", "0/+1", "0/1FFFFFFFF", "x/1", "0 /1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn order_is_numeric_and_not_textual() {
        assert!("A/0".parse::<Lsn>().expect("lsn") > "9/FFFFFFFF".parse().expect("lsn"));
    }
}
