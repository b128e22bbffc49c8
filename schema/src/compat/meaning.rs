//! A pair that meets while decoding in, what is read as something else than was written out.

use crate::avro::{Enum, Field, Kind, Logical, Node, PlaceId, TimeUnit};
use crate::compat::finding::{Code, Help};
use crate::compat::rules::unknown_symbols;
use crate::compat::trail::Trail;
use crate::compat::walk::{Pair, Walk};

/// Pairs of absent and unread fields compared for one record.
const RENAMES_MAX: usize = 10_000;

/// Symbols named in a message.
const SYMBOLS_SHOWN: usize = 10;

pub(super) fn look(walk: &mut Walk<'_>, pair: Pair) {
    let (reader, writer) = (walk.reader.node(pair.reader.node), walk.writer.node(pair.writer.node));
    let places = (pair.reader.place, pair.writer.place);
    match (&reader.kind, &writer.kind) {
        (Kind::Union(_), _) | (_, Kind::Union(_)) => return,
        (Kind::Enum(a), Kind::Enum(b)) => hidden_symbols(walk, pair, a, b),
        (a, b) if is_lossy(a, b) => lossy(walk, pair, a, b),
        _ => {}
    }
    if !reader.properties.is_empty() || !writer.properties.is_empty() {
        logical(walk, pair.trail, places, reader, writer);
        units(walk, pair.trail, places, &reader.properties, &writer.properties);
    }
}

fn is_lossy(reader: &Kind, writer: &Kind) -> bool {
    matches!((reader, writer), (Kind::Float, Kind::Int | Kind::Long) | (Kind::Double, Kind::Long))
}

fn lossy(walk: &mut Walk<'_>, pair: Pair, reader: &Kind, writer: &Kind) {
    let exact = if matches!(reader, Kind::Float) { "2^24" } else { "2^53" };
    let (reader, writer) = (reader.type_name(), writer.type_name());
    let message = format!("{writer} above {exact} is rounded when it is read as {reader}");
    let keep = format!("keep {writer}, or make sure that no value is above {exact}");
    let help = Help { reader: keep.clone(), writer: keep };
    let places = (pair.reader.place, pair.writer.place);
    walk.report(Code::LossyPromotion, pair.trail, places, message, help);
}

fn hidden_symbols(walk: &mut Walk<'_>, pair: Pair, reader: &Enum, writer: &Enum) {
    let Some(default) = &reader.default else { return };
    let unknown = unknown_symbols(reader, writer);
    if unknown.is_empty() {
        return;
    }
    let more = if unknown.len() > SYMBOLS_SHOWN { ", .." } else { "" };
    let shown: Vec<&str> = unknown.iter().take(SYMBOLS_SHOWN).copied().collect();
    let shown = shown.join(", ");
    let name = reader.name.full();
    let message = format!("{shown}{more} of {name} is read as the default {default}");
    let help = Help {
        reader: format!(
            "add {shown}{more} to \"symbols\" of {name} if readers must tell them apart"
        ),
        writer: format!("expect readers of {name} to take {shown}{more} for {default}"),
    };
    let places = (reader.symbols_place, writer.symbols_place);
    walk.report(Code::EnumDefaultHidesSymbols, pair.trail, places, message, help);
}

fn logical(
    walk: &mut Walk<'_>,
    trail: Trail,
    places: (PlaceId, PlaceId),
    reader: &Node,
    writer: &Node,
) {
    let kept = |what: &str, was: String| {
        let keep = format!("keep {what} {was}; for another one add a new field beside the old one");
        Help { reader: keep.clone(), writer: keep }
    };
    if let (
        Some(Logical::Decimal { precision: p, scale: s }),
        Some(Logical::Decimal { precision, scale }),
    ) = (reader.logical, writer.logical)
    {
        if s != scale {
            let message =
                format!("scale {scale} is read as scale {s}: 12.5 becomes another number");
            let help = kept("\"scale\":", scale.to_string());
            walk.report(Code::DecimalScaleChanged, trail, places, message, help);
        } else if p < precision {
            let message = format!(
                "decimals of {precision} digits are read into {p}: longer ones fail or wrap"
            );
            let help = kept("\"precision\":", precision.to_string());
            walk.report(Code::DecimalPrecisionNarrowed, trail, places, message, help);
        }
        return;
    }
    let (new, old) = (logical_name(reader), logical_name(writer));
    if new != old {
        let plain = |name: Option<String>, node: &Node| {
            name.unwrap_or_else(|| format!("plain {}", node.kind.type_name()))
        };
        let (new, old) = (plain(new, reader), plain(old, writer));
        let message = format!("{old} is read as {new}");
        walk.report(
            Code::LogicalTypeChanged,
            trail,
            places,
            message,
            kept("the logical type", old),
        );
    }
}

/// The logical type by its name, also one that this crate does not know.
fn logical_name(node: &Node) -> Option<String> {
    let unit = |prefix: &str, unit: TimeUnit| format!("{prefix}{}", unit.word());
    Some(match node.logical {
        Some(Logical::Decimal { precision, scale }) => format!("decimal({precision}, {scale})"),
        Some(Logical::Uuid) => "uuid".to_owned(),
        Some(Logical::Date) => "date".to_owned(),
        Some(Logical::Duration) => "duration".to_owned(),
        Some(Logical::Time(one)) => unit("time-", one),
        Some(Logical::Timestamp(one)) => unit("timestamp-", one),
        Some(Logical::LocalTimestamp(one)) => unit("local-timestamp-", one),
        None => property(&node.properties, "logicalType")?.trim_matches('"').to_owned(),
    })
}

fn property<'a>(properties: &'a [(String, String)], key: &str) -> Option<&'a str> {
    properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn units(
    walk: &mut Walk<'_>,
    trail: Trail,
    places: (PlaceId, PlaceId),
    reader: &[(String, String)],
    writer: &[(String, String)],
) {
    let (Some(new), Some(old)) = (property(reader, "unit"), property(writer, "unit")) else {
        return;
    };
    if new != old {
        let message = format!("unit {old} is read as unit {new}");
        let keep = format!("keep \"unit\": {old}; for another unit add a new field");
        let help = Help { reader: keep.clone(), writer: keep };
        walk.report(Code::UnitChanged, trail, places, message, help);
    }
}

pub(super) fn field_unit(
    walk: &mut Walk<'_>,
    pair: Pair,
    index: usize,
    reader: &Field,
    writer: &Field,
) {
    let trail = walk.field_trail(pair, index);
    let places = (reader.place, writer.place);
    units(walk, trail, places, &reader.properties, &writer.properties);
}

/// Reader's fields that take their default while the writer has a field that nobody reads, of the
/// same type and with a name that is near.
pub(super) fn renamed(walk: &mut Walk<'_>, pair: Pair, absent: &[usize]) {
    let (Kind::Record(reader), Kind::Record(writer)) =
        (walk.reader_kind(pair.reader), walk.writer_kind(pair.writer))
    else {
        return;
    };
    let names = reader.fields.iter().flat_map(|field| {
        std::iter::once(field.name.as_str()).chain(field.aliases.iter().map(String::as_str))
    });
    let read: std::collections::HashSet<&str> = names.collect();
    let unread: Vec<(usize, &Field)> = writer
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !read.contains(field.name.as_str()))
        .collect();
    if absent.len().saturating_mul(unread.len()) > RENAMES_MAX {
        return;
    }
    let is_only_one = absent.len() == 1 && unread.len() == 1;
    for index in absent {
        let Some(field) = reader.fields.get(*index) else { continue };
        let old = unread.iter().find(|(at, old)| {
            let is_here = is_only_one && at == index;
            let (a, b) = (walk.reader_kind(field.schema), walk.writer_kind(old.schema));
            a.branch_name() == b.branch_name() && (is_here || is_near(&field.name, &old.name))
        });
        let Some((_, old)) = old else { continue };
        let (new, old_name) = (&field.name, &old.name);
        let message = format!(
            "{new} takes its default although {old_name}, of the same type, is written and not read"
        );
        let help = Help {
            reader: format!(
                "if {old_name} was renamed, add \"aliases\": [\"{old_name}\"] to {new}"
            ),
            writer: format!("keep the name {new}: readers take their default for it"),
        };
        let trail = walk.field_trail(pair, *index);
        walk.report(Code::FieldRenamed, trail, (field.place, old.place), message, help);
    }
}

/// The same letters, or a word of four letters and more in common.
fn is_near(a: &str, b: &str) -> bool {
    let letters = |name: &str| -> String {
        let kept = name.chars().filter(|c| c.is_alphanumeric());
        kept.flat_map(char::to_lowercase).collect()
    };
    if letters(a) == letters(b) {
        return true;
    }
    let words = words(b);
    self::words(a).iter().any(|word| word.chars().count() >= 4 && words.contains(word))
}

/// `customerId` and `customer_id` are `customer`, `id`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        let is_border = c.is_uppercase() || !c.is_alphanumeric();
        if is_border && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_by_their_letters_or_a_long_word() {
        for (a, b) in
            [("customerId", "customer_id"), ("total", "totalAmount"), ("unit_price", "priceCents")]
        {
            assert!(is_near(a, b), "{a} {b}");
        }
        for (a, b) in [("id", "order_id"), ("note", "total"), ("a", "b")] {
            assert!(!is_near(a, b), "{a} {b}");
        }
    }
}
