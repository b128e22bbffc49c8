//! A pair that meets while decoding in, what fails there although the gate lets it pass out.

use crate::avro::{DefaultBytes, Kind, PlaceId, TypeRef};
use crate::compat::finding::{Code, Help};
use crate::compat::resolve::Written;
use crate::compat::rules::described;
use crate::compat::trail::Trail;
use crate::compat::walk::{Pair, Walk};

pub(super) fn look(walk: &mut Walk<'_>, pair: Pair) {
    let kinds = (walk.reader_kind(pair.reader), walk.writer_kind(pair.writer));
    if let (Kind::Enum(_), Kind::Enum(_)) | (Kind::Fixed(_), Kind::Fixed(_)) = kinds
        && walk.resolver.is_stranger(kinds.0, kinds.1)
    {
        stranger(walk, pair);
    }
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

/// An enum or fixed that an alias of another type gives another name.
fn stranger(walk: &mut Walk<'_>, pair: Pair) {
    let (reader, writer) = (walk.reader_kind(pair.reader), walk.writer_kind(pair.writer));
    let name = writer.branch_name();
    let message = format!(
        "Java does not read {name} as {}: by the reader's aliases it is another type",
        reader.branch_name()
    );
    let help = Help {
        reader: format!("keep \"{name}\" out of the \"aliases\" of other types"),
        writer: format!("do not write {name}: readers take it for another type"),
    };
    let places = (pair.reader.place, pair.writer.place);
    walk.report(Code::AliasClash, pair.trail, places, message, help);
}

/// A reader's field that the gate finds by an alias, and Java's resolver does not.
pub(super) fn alias_not_applied(
    walk: &mut Walk<'_>,
    pair: Pair,
    index: usize,
    as_written: &Written<'_>,
) {
    let (Kind::Record(reader), Kind::Record(writer)) =
        (walk.reader_kind(pair.reader), walk.writer_kind(pair.writer))
    else {
        return;
    };
    let Some(field) = reader.fields.get(index) else { return };
    if field.aliases.is_empty() && walk.resolver.renames.is_empty() {
        return;
    }
    let mut names = std::iter::once(&field.name).chain(&field.aliases);
    let Some(written) = names.find_map(|name| as_written.find(name, index)) else { return };
    let (old, new) = (writer.name.full(), reader.name.full());
    let effect = match field.default {
        Some(_) => "takes its default",
        None => "fails",
    };
    let why = match walk.resolver.renames.fields(&writer.name) {
        Some(_) => format!("Java takes {} for another field, by its aliases", written.name),
        None => format!(
            "Java applies the aliases of fields to records of the full name {new}, and this one \
             is {old}"
        ),
    };
    let message = format!("{} {effect} although {} is written: {why}", field.name, written.name);
    let help = Help {
        reader: format!("add \"aliases\": [\"{old}\"] to {new}, or keep the namespace"),
        writer: format!("keep the namespace that readers know for {old}"),
    };
    let trail = walk.field_trail(pair, index);
    walk.report(Code::AliasNotApplied, trail, (field.place, written.place), message, help);
}

/// What ends the reading of all data: Java makes the writer's schema anew with the reader's
/// aliases, which checks all of its defaults, needed or not, and goes through both before the first
/// datum.
pub(super) fn writers_schema(walk: &mut Walk<'_>) {
    let root = walk.reader.node(walk.reader.root().node).place;
    if let Some(clash) = walk.resolver.renames.clash().cloned() {
        let message = format!("by the reader's aliases {}: Java throws", clash.text);
        let help = Help {
            reader: "take names that are still written out of \"aliases\"".to_owned(),
            writer: "write only one of the two".to_owned(),
        };
        walk.report(Code::AliasClash, Trail::ROOT, (root, clash.place), message, help);
    }
    if let Some((record, index)) = walk.resolver.unmade()
        && let Kind::Record(of) = &walk.reader.node(record).kind
        && let Some(field) = of.fields.get(index)
    {
        let message = format!(
            "the default of field {} of {} cannot be made, and Java makes it while it looks for \
             the branch of a union",
            field.name,
            of.name.full()
        );
        let help = Help {
            reader: format!("write a default that fits for field {}", field.name),
            writer: "write a record that has a branch of its full name".to_owned(),
        };
        let writer = walk.writer.node(walk.writer.root().node).place;
        let places = (field.default_place.unwrap_or(field.place), writer);
        walk.report(Code::DefaultInvalid, Trail::ROOT, places, message, help);
    }
    writers_defaults(walk, root);
}

fn writers_defaults(walk: &mut Walk<'_>, root: PlaceId) {
    // Without aliases, and where both schemas are equal, it is not made anew.
    if walk.resolver.renames.is_empty() {
        return;
    }
    for fault in walk.writer.default_faults() {
        let Some(place) = fault.place else { continue };
        let message = format!("{fault}; Java checks it because the reader has aliases");
        let help = Help {
            reader: format!("do without \"aliases\" while {} is written like this", fault.record),
            writer: format!("write a default that fits for field {}", fault.field),
        };
        walk.report(Code::DefaultInvalid, Trail::ROOT, (root, place), message, help);
    }
}

/// No branch of the reader is one that Java takes.
pub(super) fn no_branch(walk: &mut Walk<'_>, pair: Pair) {
    let writer = walk.writer_kind(pair.writer);
    let name = writer.branch_name();
    let message = format!(
        "no branch of the reader's union is named {name}: Java looks for the full name, for \
         records also for one whose fields fit at first sight, and throws"
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
        "Java reads {} with branch {name}, by its name or by its fields at first sight, which does \
         not take every value of it",
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
