//! A JSON object in, the fields of a record out, in schema order whatever order they came in.

use crate::encode::error::EncodeErrorKind;
use crate::encode::path::Path;
use crate::encode::plan::{Absent, RecordPlan};
use crate::encode::run::{Encoder, Read};
use crate::json::{Fault, Quoted};

/// A field that has not been read.
const ABSENT: (usize, usize) = (usize::MAX, 0);

/// Which field will probably come next: the schema's next, or the next as `jsonb` orders keys. The
/// likelier of the two is what was right the last time.
#[derive(Clone, Copy)]
struct Expected {
    likelier: usize,
    other: usize,
    is_jsonb: bool,
}

impl Expected {
    fn first(record: &RecordPlan) -> Self {
        Self { likelier: record.jsonb_first, other: 0, is_jsonb: true }
    }

    /// The field at `at` came.
    fn behind(self, record: &RecordPlan, at: usize) -> Self {
        let in_jsonb = record.jsonb_next.get(at).copied().unwrap_or(usize::MAX);
        // Where both were the same, neither is the likelier one.
        let was_other = at == self.other && at != self.likelier;
        let is_jsonb = self.is_jsonb != was_other;
        let (likelier, other) = if is_jsonb { (in_jsonb, at + 1) } else { (at + 1, in_jsonb) };
        Self { likelier, other, is_jsonb }
    }
}

/// A key and the field it names.
struct Key {
    text: Quoted,
    field: Option<usize>,
}

impl<'p> Encoder<'p, '_> {
    pub(super) fn record(&mut self, record: &'p RecordPlan, path: &Path<'_>) -> Read {
        self.cursor.pos += 1;
        let start = self.out.len();
        let base = self.scratch.slots.len();
        self.scratch.slots.resize(base + record.fields.len(), ABSENT);
        let mut expected = Expected::first(record);
        let mut in_order = 0;
        let mut is_first = true;
        while let Some(key) = self.next_key(record, expected, is_first)? {
            is_first = false;
            let Some(at) = key.field else {
                self.unknown_field(record, key.text, path)?;
                continue;
            };
            if self.scratch.slots.get(base + at).is_some_and(|slot| *slot != ABSENT) {
                self.duplicate_key(key.text, path)?;
                continue;
            }
            in_order = if at == in_order { in_order + 1 } else { usize::MAX };
            expected = expected.behind(record, at);
            self.field(record, at, base, path)?;
        }
        if in_order != record.fields.len() {
            self.put_in_order(record, start, base, path);
        }
        self.scratch.slots.truncate(base);
        Ok(())
    }

    fn field(&mut self, record: &'p RecordPlan, at: usize, base: usize, path: &Path<'_>) -> Read {
        let Some(field) = record.fields.get(at) else {
            return Ok(());
        };
        let start = self.out.len();
        self.value(field.node, &path.field(record, at))?;
        let end = self.out.len();
        if let Some(slot) = self.scratch.slots.get_mut(base + at) {
            *slot = (start, end);
        }
        Ok(())
    }

    /// The next key with what stands around it; none at the end of the object.
    #[inline]
    fn next_key(
        &mut self,
        record: &RecordPlan,
        expected: Expected,
        is_first: bool,
    ) -> Result<Option<Key>, Fault> {
        if !is_first && let Some(field) = record.fields.get(expected.likelier) {
            let end = self.cursor.pos + field.joined.len();
            if *self.cursor.bytes(self.cursor.pos, end) == *field.joined {
                let text = Quoted { start: self.cursor.pos + 3, end: end - 3, escaped: false };
                self.cursor.pos = end;
                return Ok(Some(Key { text, field: Some(expected.likelier) }));
            }
        }
        if self.cursor.eat(b'}') {
            return Ok(None);
        }
        if !is_first {
            self.cursor.expect(b',', "expected , or }")?;
        }
        self.field_key(record, expected).map(Some)
    }

    /// Reads a key and its colon. The two likeliest fields are compared with the text as it stands;
    /// only a key that is neither is read as a string and looked up.
    fn field_key(&mut self, record: &RecordPlan, expected: Expected) -> Result<Key, Fault> {
        if self.cursor.next_byte() != Some(b'"') {
            return self.cursor.fault("expected a key");
        }
        for at in [expected.likelier, expected.other] {
            let Some(field) = record.fields.get(at) else {
                continue;
            };
            let quoted = field.quoted();
            let end = self.cursor.pos + quoted.len();
            if self.cursor.bytes(self.cursor.pos, end) == quoted {
                let text = Quoted { start: self.cursor.pos + 1, end: end - 1, escaped: false };
                self.cursor.pos = end;
                self.cursor.expect(b':', "expected :")?;
                return Ok(Key { text, field: Some(at) });
            }
        }
        let text = self.cursor.key()?;
        let field = if text.escaped {
            record.find(self.cursor.string_value(text).as_bytes())
        } else {
            record.find(self.cursor.bytes(text.start, text.end))
        };
        Ok(Key { text, field })
    }

    /// Writes the fields again in schema order, defaults in the gaps.
    fn put_in_order(&mut self, record: &RecordPlan, start: usize, base: usize, path: &Path<'_>) {
        let from = self.scratch.bytes.len();
        for (at, field) in record.fields.iter().enumerate() {
            let slot = self.scratch.slots.get(base + at).copied().unwrap_or(ABSENT);
            if slot != ABSENT {
                let written = self.out.get(slot.0..slot.1).unwrap_or_default();
                self.scratch.bytes.extend_from_slice(written);
                continue;
            }
            match &field.absent {
                Absent::Bytes(bytes) => self.scratch.bytes.extend_from_slice(bytes),
                Absent::Missing | Absent::BadDefault => self.missing_field(record, at, path),
            }
        }
        self.out.truncate(start);
        self.out.extend_from_slice(self.scratch.bytes.get(from..).unwrap_or_default());
        self.scratch.bytes.truncate(from);
    }

    fn missing_field(&mut self, record: &RecordPlan, at: usize, path: &Path<'_>) {
        let Some(field) = record.fields.get(at) else {
            return;
        };
        let hint = match field.absent {
            Absent::BadDefault => {
                Some("the schema's default for it does not fit its type".to_owned())
            }
            _ => None,
        };
        let path = path.field(record, at);
        let expected = self.expected(self.plan.node(field.node), &path);
        let kind = EncodeErrorKind::MissingField;
        self.report_as(kind, &path, expected, "nothing", self.cursor.pos, hint);
    }

    fn unknown_field(&mut self, record: &RecordPlan, key: Quoted, path: &Path<'_>) -> Read {
        let kind = self.cursor.kind()?;
        let start = self.cursor.pos;
        self.cursor.skip_value()?;
        if self.ignores_unknown() {
            return Ok(());
        }
        let name = if self.trials > 0 { String::new() } else { self.cursor.string_value(key) };
        let hint = if self.trials > 0 { None } else { hint(record, &name) };
        let expected = format!("a field of record {}", record.name);
        let path = path.key(key);
        self.report_as(EncodeErrorKind::UnknownField, &path, expected, kind.name(), start, hint);
        Ok(())
    }
}

fn hint(record: &RecordPlan, name: &str) -> Option<String> {
    for field in &record.fields {
        if field.aliases.iter().any(|alias| alias == name) {
            let field = &field.name;
            return Some(format!("write {field}: its aliases are for readers"));
        }
    }
    let near = record.fields.iter().map(|field| (distance(&field.name, name), &field.name));
    let (distance, field) = near.min_by_key(|(distance, _)| *distance)?;
    // A short name is near to everything.
    let close = distance == 0 || distance <= 2 && distance * 3 <= name.chars().count();
    close.then(|| format!("did you mean {field}?"))
}

/// Edits between two names, letter case and underscores aside; stops counting above 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| *c != '_' && *c != '-');
        letters.flat_map(char::to_lowercase).take(64).collect()
    };
    let (a, b) = (fold(a), fold(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *slot;
            left = replaced.min(*slot + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distance_counts_edits_and_not_letter_case() {
        for (a, b, edits) in [
            ("qty", "qty", 0),
            ("orderId", "order_id", 0),
            ("ORDERID", "order-id", 0),
            ("quantity", "quantitiy", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
