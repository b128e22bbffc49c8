//! Texts of scalar values in, numbers and bytes out, and back: what encoding and decoding share.

pub(crate) mod binary;
pub(crate) mod clock;
pub(crate) mod number;
