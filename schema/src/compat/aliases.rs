//! A reader's aliases in, what its names are for a writer's types and fields out: before it
//! decodes, Java renames the writer's schema with them (`Schema.applyAliases`).
//!
//! It goes by full names alone. A type of the writer takes the name of the reader's type that has
//! its full name as alias, whatever the two are; a field is looked for by its aliases only in a
//! record that then has the full name of the reader's. It is done twice over, once by the datum's
//! reader and once by the resolver, unless the schemas are equal before. Two branches or fields
//! that come to the same name end the reading of all data.

use std::collections::{HashMap, HashSet};

use crate::avro::{AsWritten, Naming, is_same};
use crate::avro::{Field, Kind, Name, NodeId, PlaceId, Record, Schema};
use crate::compat::rules::Named;

#[derive(Debug, Default)]
pub(super) struct Renames<'a> {
    types: HashMap<&'a str, &'a Name>,
    /// By the full name of a record: its fields by their aliases.
    fields: HashMap<&'a str, HashMap<&'a str, &'a str>>,
    clash: Option<Clash>,
    /// Whether names are looked up a second time.
    is_repeated: bool,
}

/// What the reader calls the fields of one record of the writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldNames<'r> {
    once: Option<&'r HashMap<&'r str, &'r str>>,
    twice: Option<&'r HashMap<&'r str, &'r str>>,
}

impl<'r> FieldNames<'r> {
    pub(super) fn name<'n>(&self, field: &'n Field) -> &'n str
    where
        'r: 'n,
    {
        let renamed = |names: Option<&'r HashMap<&'r str, &'r str>>, name: &'n str| {
            names.and_then(|names| names.get(name).copied()).unwrap_or(name)
        };
        renamed(self.twice, renamed(self.once, &field.name))
    }
}

/// While nothing is repeated.
impl Naming for Renames<'_> {
    fn name<'n>(&'n self, written: &'n Name) -> &'n Name {
        self.name_once(written)
    }

    fn field<'n>(&'n self, record: &'n Record, field: &'n Field) -> &'n str {
        self.fields(&record.name).map_or(&*field.name, |names| names.name(field))
    }
}

/// Two names of the writer that become one.
#[derive(Clone, Debug)]
pub(super) struct Clash {
    /// Where they are written.
    pub(super) place: PlaceId,
    /// What it is.
    pub(super) text: String,
}

impl<'a> Renames<'a> {
    pub(super) fn of(reader: &'a Schema, writer: &Schema) -> Self {
        let mut renames = Renames::default();
        if !reader.nodes().any(|(_, node)| has_aliases(&node.kind)) {
            return renames;
        }
        renames.collect(reader);
        if renames.is_empty() || is_same(reader, writer, &AsWritten) {
            return Renames::default();
        }
        // What is equal by now is not renamed again.
        renames.is_repeated = !is_same(reader, writer, &renames);
        renames.clash = renames.clash_in(writer);
        renames
    }

    /// Nothing is renamed.
    pub(super) fn is_empty(&self) -> bool {
        self.types.is_empty() && self.fields.is_empty()
    }

    pub(super) fn clash(&self) -> Option<&Clash> {
        self.clash.as_ref()
    }

    /// What the reader calls a type of the writer.
    pub(super) fn name<'n>(&self, written: &'n Name) -> &'n Name
    where
        'a: 'n,
    {
        let once = self.name_once(written);
        if self.is_repeated { self.name_once(once) } else { once }
    }

    fn name_once<'n>(&self, written: &'n Name) -> &'n Name
    where
        'a: 'n,
    {
        self.types.get(written.full()).copied().unwrap_or(written)
    }

    /// What the reader calls the fields of a record of the writer; None if as the writer does.
    pub(super) fn fields<'r>(&'r self, record: &'r Name) -> Option<FieldNames<'r>> {
        if self.fields.is_empty() {
            return None;
        }
        let name = self.name_once(record);
        let once = self.fields.get(name.full());
        let twice = self.fields.get(self.name_once(name).full()).filter(|_| self.is_repeated);
        (once.is_some() || twice.is_some()).then_some(FieldNames { once, twice })
    }

    /// In the order in which Java comes to them: of equal aliases the last one counts.
    fn collect(&mut self, reader: &'a Schema) {
        let mut records: Vec<&'a Record> = Vec::new();
        for (_, kind) in reachable(reader) {
            if let Some(named) = Named::of(kind) {
                let aliases = named.aliases.iter().map(|alias| (alias.full(), named.name));
                self.types.extend(aliases);
            }
            if let Kind::Record(record) = kind {
                records.push(record);
            }
        }
        for record in &records {
            let named = record.fields.iter().flat_map(|field| {
                field.aliases.iter().map(|alias| (alias.as_str(), field.name.as_str()))
            });
            let aliases: HashMap<&str, &str> = named.collect();
            if !aliases.is_empty() {
                self.fields.insert(record.name.full(), aliases);
            }
        }
        for record in &records {
            if let Some(fields) = self.fields.get(record.name.full()).cloned() {
                let aliases = record.aliases.iter();
                self.fields.extend(aliases.map(|alias| (alias.full(), fields.clone())));
            }
        }
    }

    fn clash_in(&self, writer: &Schema) -> Option<Clash> {
        reachable(writer).into_iter().find_map(|(id, kind)| {
            let place = writer.node(id).place;
            let mut seen: HashSet<&str> = HashSet::new();
            match kind {
                Kind::Union(branches) => branches.iter().find_map(|branch| {
                    let kind = &writer.node(branch.node).kind;
                    let name =
                        kind.name().map_or(kind.branch_name(), |name| self.name(name).full());
                    let is_new = seen.insert(name);
                    let text = || format!("two branches of the writer's union become {name}");
                    (!is_new).then(|| Clash { place: branch.place, text: text() })
                }),
                Kind::Record(record) => {
                    let fields = self.fields(&record.name)?;
                    let mut names = record.fields.iter().map(|field| fields.name(field));
                    let twice = names.find(|name| !seen.insert(*name));
                    let text = |name| format!("two fields of the writer's record become {name}");
                    twice.map(|name| Clash { place, text: text(name) })
                }
                _ => None,
            }
        })
    }
}

fn has_aliases(kind: &Kind) -> bool {
    let has_own = Named::of(kind).is_some_and(|named| !named.aliases.is_empty());
    has_own
        || match kind {
            Kind::Record(record) => record.fields.iter().any(|field| !field.aliases.is_empty()),
            _ => false,
        }
}

/// The types that a schema is made of, each once, outer before inner.
fn reachable(schema: &Schema) -> Vec<(NodeId, &Kind)> {
    let mut seen = HashSet::new();
    let mut todo = vec![schema.root().node];
    let mut found = Vec::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let kind = &schema.node(id).kind;
        found.push((id, kind));
        let from = todo.len();
        match kind {
            Kind::Array(inner) | Kind::Map(inner) => todo.push(inner.node),
            Kind::Union(branches) => todo.extend(branches.iter().map(|branch| branch.node)),
            Kind::Record(record) => todo.extend(record.fields.iter().map(|one| one.schema.node)),
            _ => {}
        }
        if let Some(added) = todo.get_mut(from..) {
            added.reverse();
        }
    }
    found
}
