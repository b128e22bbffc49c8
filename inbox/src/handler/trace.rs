//! The header `traceparent` in, that of the handler's span out (W3C Trace Context, level 1).
//!
//! The id of the handler's span is made here, so that the events it emits name it as their parent
//! whether or not a tracing system listens.

use std::fmt;

use uuid::Uuid;

/// The headers that carry a trace.
pub(crate) const HEADER: &str = "traceparent";
pub(crate) const STATE_HEADER: &str = "tracestate";

/// One span as others refer to it: `00-<trace id>-<span id>-<flags>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header; `None` when it is not in its one form.
    ///
    /// ```
    /// use walpost_inbox::TraceParent;
    /// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let parent = TraceParent::parse(text).unwrap();
    /// assert_eq!(parent.to_string(), text);
    /// assert_eq!(TraceParent::parse("00-0-0-0"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |len: usize| {
            let part = parts.next()?;
            let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (part.len() == len && part.bytes().all(is_lower_hex)).then_some(part)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Later versions may append parts; what we know of them is the same.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        Some(Self { trace, span, flags: u8::from_str_radix(flags, 16).ok()? })
    }

    /// A new span in the same trace.
    ///
    /// ```
    /// # use walpost_inbox::TraceParent;
    /// # let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// # let parent = TraceParent::parse(text).unwrap();
    /// let child = parent.child();
    /// assert_eq!(child.to_string()[..36], parent.to_string()[..36]);
    /// assert_ne!(child, parent);
    /// ```
    #[must_use]
    pub fn child(self) -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self { span: (high ^ low).max(1), ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_read() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(TraceParent::parse(good).is_some());
        assert!(TraceParent::parse(&good.replacen("00", "01", 1)).is_some());
        for bad in [
            good.to_uppercase(),
            good.replacen("00", "ff", 1),
            format!("{good}-x"),
            good.replace("b7ad6b7169203331", "0000000000000000"),
            good.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            good.replacen('0', "é", 1),
            String::new(),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad}");
        }
    }
}
