//! Bytes of a writer in, the datum that a reader sees out: Avro's schema resolution as Java does
//! it, for one datum at a time.
//!
//! The judge of last resort: what [`check`](super::check) says of all data, this shows for one. It
//! is what `--replay` runs rows through.

use crate::avro::{
    DefaultBytes, DefaultEncoder, DefaultFault, Enum, Kind, NodeId, Record, Schema, TypeRef,
    UnionDefault,
};
use crate::compat::resolve::Resolver;
use crate::compat::rules;
use crate::varint;

/// Values inside each other.
const DEPTH_MAX: usize = 128;

/// Items of one array or map that take no bytes: they could be any number.
const EMPTY_ITEMS_MAX: usize = 1_000_000;

/// What a reader sees.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Datum {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    String(String),
    Fixed(Vec<u8>),
    Enum(String),
    Array(Vec<Datum>),
    Map(Vec<(String, Datum)>),
    Record(Vec<(String, Datum)>),
    /// A branch by its name, and what is in it.
    Union(String, Box<Datum>),
}

/// Why a reader cannot read a datum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct ReadError {
    /// The place by the reader's field names.
    pub path: String,
    /// What is wrong. Holds no values.
    pub reason: String,
}

/// Reads data of one writer with one reader.
pub struct Reader<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    resolver: Resolver<'a>,
    /// A default of the writer that keeps Java from renaming the writer's schema.
    unrenamed: Option<DefaultFault>,
    defaults: DefaultEncoder<'a>,
    path: Vec<String>,
    depth: usize,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

type Read<T> = Result<T, ReadError>;

/// What is left of the bytes.
struct Input<'b>(&'b [u8]);

impl<'a> Reader<'a> {
    /// A pair that need not be compatible.
    #[must_use]
    pub fn new(reader: &'a Schema, writer: &'a Schema) -> Self {
        let resolver = Resolver::new(reader, writer);
        let faults = match resolver.renames.is_empty() {
            true => Vec::new(),
            false => writer.default_faults(),
        };
        Reader {
            reader,
            writer,
            resolver,
            unrenamed: faults.into_iter().next(),
            defaults: DefaultEncoder::new(reader, UnionDefault::AsJava),
            path: Vec::new(),
            depth: 0,
        }
    }

    /// Reads one datum, which takes all the bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Datum, ReadError> {
        self.path.clear();
        self.depth = 0;
        if let Some(clash) = self.resolver.renames.clash() {
            return self.fail(format!("by the reader's aliases {}", clash.text));
        }
        if let Some(fault) = &self.unrenamed {
            return self.fail(format!("the reader has aliases, and {fault}"));
        }
        let mut input = Input(bytes);
        let datum = self.value(self.reader.root(), self.writer.root(), &mut input)?;
        if !input.0.is_empty() {
            return self.fail(format!("{} bytes are left over", input.0.len()));
        }
        Ok(datum)
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Read<T> {
        Err(ReadError { path: self.path.concat(), reason: reason.into() })
    }

    fn value(&mut self, reader: TypeRef, writer: TypeRef, input: &mut Input<'_>) -> Read<Datum> {
        if self.depth >= DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        let datum = self.value_within(reader, writer, input);
        self.depth -= 1;
        datum
    }

    fn value_within(
        &mut self,
        reader: TypeRef,
        writer: TypeRef,
        input: &mut Input<'_>,
    ) -> Read<Datum> {
        let (of_reader, of_writer) = (self.reader, self.writer);
        let kinds = (&of_reader.node(reader.node).kind, &of_writer.node(writer.node).kind);
        match kinds {
            (_, Kind::Union(branches)) => self.written_union(reader, writer, branches, input),
            (Kind::Union(_), _) => match self.resolver.choose(reader, writer) {
                _ if self.resolver.unmade().is_some() => {
                    self.fail("a default that is needed to find the branch cannot be made")
                }
                Some(branch) => self.branch(branch, writer, input),
                None => {
                    let name = kinds.1.branch_name();
                    self.fail(format!("the reader's union has no branch for {name}"))
                }
            },
            (Kind::Record(read), Kind::Record(written)) => {
                self.record(reader.node, read, written, input)
            }
            (Kind::Array(read), Kind::Array(written)) => {
                let items = self.blocks(input, |reader, _, input| {
                    reader.within("[]", |reader| reader.value(*read, *written, input))
                })?;
                Ok(Datum::Array(items))
            }
            (Kind::Map(read), Kind::Map(written)) => {
                let members = self.blocks(input, |reader, _, input| {
                    let key = reader.text(input)?;
                    let value =
                        reader.within("{}", |reader| reader.value(*read, *written, input))?;
                    Ok((key, value))
                })?;
                Ok(Datum::Map(members))
            }
            (Kind::Enum(_), Kind::Enum(_)) | (Kind::Fixed(_), Kind::Fixed(_))
                if self.resolver.is_stranger(kinds.0, kinds.1) =>
            {
                let (writer, reader) = (kinds.1.branch_name(), kinds.0.branch_name());
                self.fail(format!("{writer} is read as {reader}, which the aliases forbid"))
            }
            (Kind::Enum(read), Kind::Enum(written)) => self.symbol(read, written, input),
            (Kind::Fixed(read), Kind::Fixed(written)) => {
                if read.size != written.size {
                    let sizes = format!("{} bytes are read as {}", written.size, read.size);
                    return self.fail(sizes);
                }
                Ok(Datum::Fixed(self.take(input, read.size)?.to_vec()))
            }
            (read, written) if rules::reads(read, written) => self.primitive(read, written, input),
            (read, written) => {
                self.fail(format!("{} is read as {}", written.branch_name(), read.branch_name()))
            }
        }
    }

    fn written_union(
        &mut self,
        reader: TypeRef,
        writer: TypeRef,
        branches: &[TypeRef],
        input: &mut Input<'_>,
    ) -> Read<Datum> {
        let index = self.index(input, branches.len(), "branch of a union")?;
        let Some(written) = branches.get(index) else {
            return self.fail("a union has no such branch");
        };
        let same = self.resolver.same_branches(reader, writer).and_then(|same| same.get(index));
        match same {
            Some(branch) => self.branch(*branch, *written, input),
            None => self.value(reader, *written, input),
        }
    }

    fn symbol(&self, reader: &Enum, writer: &Enum, input: &mut Input<'_>) -> Read<Datum> {
        let index = self.index(input, writer.symbols.len(), "symbol")?;
        let symbol = writer.symbols.get(index).cloned().unwrap_or_default();
        if reader.symbols.contains(&symbol) {
            return Ok(Datum::Enum(symbol));
        }
        match &reader.default {
            Some(default) => Ok(Datum::Enum(default.clone())),
            None => self.fail(format!("the reader knows no symbol {symbol}")),
        }
    }

    fn within<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.path.push(step.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    fn branch(&mut self, branch: TypeRef, writer: TypeRef, input: &mut Input<'_>) -> Read<Datum> {
        let datum = self.value(branch, writer, input)?;
        if datum == Datum::Null {
            return Ok(datum);
        }
        let name = self.reader.node(branch.node).kind.branch_name().to_owned();
        Ok(Datum::Union(name, Box::new(datum)))
    }

    fn record(
        &mut self,
        id: NodeId,
        reader: &'a Record,
        writer: &'a Record,
        input: &mut Input<'_>,
    ) -> Read<Datum> {
        let mut found: Vec<Option<Datum>> = reader.fields.iter().map(|_| None).collect();
        for written in &writer.fields {
            let names = self.resolver.renames.fields(&writer.name);
            let name = names.map_or(&*written.name, |names| names.name(written));
            let at = reader.fields.iter().position(|field| field.name == name);
            match at.and_then(|at| Some((at, reader.fields.get(at)?))) {
                Some((at, field)) => {
                    let step = self.step(&field.name);
                    let datum =
                        self.within(&step, |this| this.value(field.schema, written.schema, input))?;
                    if let Some(slot) = found.get_mut(at) {
                        *slot = Some(datum);
                    }
                }
                None => self.skip(written.schema, input)?,
            }
        }
        let mut members = Vec::with_capacity(found.len());
        for (at, (field, datum)) in reader.fields.iter().zip(found).enumerate() {
            let datum = match datum {
                Some(datum) => datum,
                None => {
                    let step = self.step(&field.name);
                    self.within(&step, |this| this.default_of(id, at))?
                }
            };
            members.push((field.name.clone(), datum));
        }
        Ok(Datum::Record(members))
    }

    fn step(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!(".{name}") }
    }

    fn default_of(&mut self, record: NodeId, at: usize) -> Read<Datum> {
        let Kind::Record(of) = &self.reader.node(record).kind else {
            return self.fail("no record");
        };
        let Some(field) = of.fields.get(at) else {
            return self.fail("no such field");
        };
        match self.defaults.default_of(record, at) {
            Some(DefaultBytes::Good(bytes)) => {
                // A default is written with the reader's own schema.
                let mut own = Reader::new(self.reader, self.reader);
                own.depth = self.depth;
                let mut input = Input(&bytes);
                own.value(field.schema, field.schema, &mut input)
            }
            Some(DefaultBytes::Bad(reason)) => {
                self.fail(format!("its default is unusable: {reason}"))
            }
            None => self.fail("it is not written and has no default"),
        }
    }

    fn primitive(&self, reader: &Kind, writer: &Kind, input: &mut Input<'_>) -> Read<Datum> {
        let datum = match writer {
            Kind::Null => Datum::Null,
            Kind::Boolean => match self.take(input, 1)? {
                [0] => Datum::Boolean(false),
                [1] => Datum::Boolean(true),
                _ => return self.fail("a boolean is neither 0 nor 1"),
            },
            Kind::Int => {
                let value = self.long(input)?;
                match i32::try_from(value) {
                    Ok(value) => Datum::Int(value),
                    Err(_) => return self.fail("an int has more than 32 bits"),
                }
            }
            Kind::Long => Datum::Long(self.long(input)?),
            Kind::Float => {
                let bytes = self.take(input, 4)?.try_into().unwrap_or_default();
                Datum::Float(f32::from_le_bytes(bytes))
            }
            Kind::Double => {
                let bytes = self.take(input, 8)?.try_into().unwrap_or_default();
                Datum::Double(f64::from_le_bytes(bytes))
            }
            _ => Datum::Bytes(self.bytes(input)?.to_vec()),
        };
        self.promoted(reader, writer, datum)
    }

    fn promoted(&self, reader: &Kind, writer: &Kind, datum: Datum) -> Read<Datum> {
        Ok(match (reader, datum) {
            (Kind::Long, Datum::Int(value)) => Datum::Long(value.into()),
            (Kind::Float, Datum::Int(value)) => Datum::Float(value as f32),
            (Kind::Float, Datum::Long(value)) => Datum::Float(value as f32),
            (Kind::Double, Datum::Int(value)) => Datum::Double(value.into()),
            (Kind::Double, Datum::Long(value)) => Datum::Double(value as f64),
            (Kind::Double, Datum::Float(value)) => Datum::Double(value.into()),
            (Kind::String, Datum::Bytes(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => Datum::String(text),
                Err(_) => {
                    return self.fail(format!("{} are no UTF-8 text", writer.type_name()));
                }
            },
            (_, datum) => datum,
        })
    }

    /// Passes over what the reader does not want.
    fn skip(&mut self, writer: TypeRef, input: &mut Input<'_>) -> Read<()> {
        if self.depth >= DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        let of_writer = self.writer;
        let result = match &of_writer.node(writer.node).kind {
            Kind::Null => Ok(()),
            Kind::Boolean => self.take(input, 1).map(drop),
            Kind::Int | Kind::Long => self.long(input).map(drop),
            Kind::Float => self.take(input, 4).map(drop),
            Kind::Double => self.take(input, 8).map(drop),
            Kind::Bytes | Kind::String => self.bytes(input).map(drop),
            Kind::Fixed(fixed) => self.take(input, fixed.size).map(drop),
            Kind::Enum(one) => self.index(input, one.symbols.len(), "symbol").map(drop),
            Kind::Record(record) => {
                record.fields.iter().try_for_each(|field| self.skip(field.schema, input))
            }
            Kind::Union(branches) => {
                let index = self.index(input, branches.len(), "branch of a union")?;
                branches.get(index).map_or(Ok(()), |branch| self.skip(*branch, input))
            }
            Kind::Array(items) => {
                self.blocks(input, |this, _, input| this.skip(*items, input)).map(drop)
            }
            Kind::Map(values) => self
                .blocks(input, |this, _, input| {
                    this.bytes(input)?;
                    this.skip(*values, input)
                })
                .map(drop),
        };
        self.depth -= 1;
        result
    }

    /// Items of an array or members of a map, in blocks.
    fn blocks<T>(
        &mut self,
        input: &mut Input<'_>,
        mut one: impl FnMut(&mut Self, usize, &mut Input<'_>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let mut items = Vec::new();
        loop {
            let count = self.long(input)?;
            if count < 0 {
                // The block's size in bytes, for those who skip it.
                self.long(input)?;
            }
            if count == 0 {
                return Ok(items);
            }
            for _ in 0..count.unsigned_abs() {
                let before = input.0.len();
                items.push(one(self, items.len(), input)?);
                if before == input.0.len() && items.len() > EMPTY_ITEMS_MAX {
                    return self.fail(format!("more than {EMPTY_ITEMS_MAX} items without bytes"));
                }
            }
        }
    }

    fn index(&self, input: &mut Input<'_>, limit: usize, what: &str) -> Read<usize> {
        let index = self.long(input)?;
        match usize::try_from(index).ok().filter(|index| *index < limit) {
            Some(index) => Ok(index),
            None => self.fail(format!("{index} is no {what}")),
        }
    }

    fn text(&self, input: &mut Input<'_>) -> Read<String> {
        match String::from_utf8(self.bytes(input)?.to_vec()) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("a key is no UTF-8 text"),
        }
    }

    fn bytes<'b>(&self, input: &mut Input<'b>) -> Read<&'b [u8]> {
        let length = self.long(input)?;
        match usize::try_from(length) {
            Ok(length) => self.take(input, length),
            Err(_) => self.fail("a length is negative"),
        }
    }

    fn long(&self, input: &mut Input<'_>) -> Read<i64> {
        match varint::read(input.0) {
            Some((value, length)) => {
                input.0 = input.0.get(length..).unwrap_or_default();
                Ok(value)
            }
            None => self.fail("the bytes end within a number"),
        }
    }

    fn take<'b>(&self, input: &mut Input<'b>, count: usize) -> Read<&'b [u8]> {
        match input.0.split_at_checked(count) {
            Some((taken, rest)) => {
                input.0 = rest;
                Ok(taken)
            }
            None => self.fail("the bytes end early"),
        }
    }
}
