//! A pair that meets while decoding in, what fails there although the gate lets it pass out.

use crate::avro::{DefaultBytes, Kind, TypeRef};
use crate::compat::finding::{Code, Help};
use crate::compat::rules::described;
use crate::compat::trail::Trail;
use crate::compat::walk::{Pair, Walk};

pub(super) fn look(walk: &mut Walk<'_>, pair: Pair) {
    let kinds = (walk.reader_kind(pair.reader), walk.writer_kind(pair.writer));
    if matches!(kinds, (Kind::String, Kind::Bytes)) {
        let message = "bytes that are not UTF-8 fail at strict readers, and Java reads them as \
                       U+FFFD"
            .to_owned();
        let keep = "keep bytes, or add a string field beside it; bytes read as a string must be \
                    UTF-8";
        let help = Help { reader: keep.to_owned(), writer: keep.to_owned() };
        let places = (pair.reader.place, pair.writer.place);
        walk.report(Code::BytesNotUtf8, pair.trail, places, message, help);
    }
}

/// A reader's field that is not written: its default must fit.
pub(super) fn default_used(walk: &mut Walk<'_>, pair: Pair, index: usize) {
    let Kind::Record(record) = walk.reader_kind(pair.reader) else { return };
    let Some(field) = record.fields.get(index) else { return };
    let default = walk.defaults.default_of(pair.reader.node, index);
    let Some(DefaultBytes::Bad(reason)) = default else { return };
    let kind = described(walk.reader, walk.reader_kind(field.schema));
    let written = field.default.as_deref().unwrap_or_default();
    let shown = shortened(written);
    let message =
        format!("default {shown} of field {} does not fit its type {kind}: {reason}", field.name);
    let help = Help {
        reader: format!("write a default of type {kind} for field {}", field.name),
        writer: format!("keep writing field {}: its readers' default does not work", field.name),
    };
    let trail = walk.field_trail(pair, index);
    let writer = walk.writer.node(pair.writer.node).place;
    let places = (field.default_place.unwrap_or(field.place), writer);
    walk.report(Code::DefaultInvalid, trail, places, message, help);
}

/// Where the reader has aliases, Java makes the writer's schema anew with them, and that checks all
/// of its defaults, needed or not.
pub(super) fn writers_defaults(walk: &mut Walk<'_>) {
    let has_aliases = walk.reader.nodes().any(|(_, node)| match &node.kind {
        Kind::Record(record) => {
            !record.aliases.is_empty() || record.fields.iter().any(|one| !one.aliases.is_empty())
        }
        Kind::Enum(one) => !one.aliases.is_empty(),
        Kind::Fixed(fixed) => !fixed.aliases.is_empty(),
        _ => false,
    });
    // A schema that reads itself is not asked for aliases: both are the same object to Java.
    if !has_aliases || walk.reader.text() == walk.writer.text() {
        return;
    }
    for fault in walk.writer.default_faults() {
        let Some(place) = fault.place else { continue };
        let message = format!("{fault}; Java checks it because the reader has aliases");
        let help = Help {
            reader: format!("do without \"aliases\" while {} is written like this", fault.record),
            writer: format!("write a default that fits for field {}", fault.field),
        };
        let root = walk.reader.node(walk.reader.root().node).place;
        walk.report(Code::DefaultInvalid, Trail::ROOT, (root, place), message, help);
    }
}

/// No branch of the reader has the full name of a written enum or fixed.
pub(super) fn no_branch(walk: &mut Walk<'_>, pair: Pair) {
    let writer = walk.writer_kind(pair.writer);
    let name = writer.branch_name();
    let message = format!(
        "no branch of the reader's union is named {name}: Java looks for the full name and throws, \
         although a branch of the same short name is there"
    );
    let help = Help {
        reader: format!("keep the namespace, or add \"aliases\": [\"{name}\"] to the branch"),
        writer: format!("keep the namespace that readers know for {name}"),
    };
    let places = (pair.reader.place, pair.writer.place);
    walk.report(Code::UnionBranchUnresolved, pair.trail, places, message, help);
}

/// The branch that has the full name does not take the value; that another one would, helps not.
pub(super) fn wrong_branch(walk: &mut Walk<'_>, pair: Pair, branch: TypeRef) {
    let name = walk.reader_kind(branch).branch_name();
    let message = format!(
        "Java reads {} with branch {name} by its name, which does not take every value of it",
        walk.writer_kind(pair.writer).branch_name()
    );
    let help = Help {
        reader: format!("make branch {name} take what was written, or take it out of the union"),
        writer: format!("write only what branch {name} of the readers takes"),
    };
    walk.report(
        Code::UnionBranchUnresolved,
        pair.trail,
        (branch.place, pair.writer.place),
        message,
        help,
    );
}

/// JSON text of a bounded length.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
