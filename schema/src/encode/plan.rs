//! A schema in, a plan out: per type all that encoding and decoding would else look up each time.

use std::collections::HashMap;

use crate::avro::{
    DefaultBytes, DefaultEncoder, Kind, Logical, NodeId, Schema, TimeUnit, UnionDefault,
};
use crate::encode::options::{DEPTH_MAX, EncodeOptions};
use crate::varint;

/// How to turn JSON of one schema into Avro and back. Compile once, use for every event.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) nodes: Vec<PlanNode>,
    pub(crate) root: u32,
    pub(crate) options: EncodeOptions,
}

/// Why a schema has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A number in the plan would not fit.
    #[error("schema has more than {limit} types")]
    TooManyTypes {
        /// The limit.
        limit: usize,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct PlanNode {
    pub(crate) shape: Shape,
    /// As errors name the type.
    pub(crate) label: Box<str>,
}

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(EnumPlan),
    Array(u32),
    Map(u32),
    Record(RecordPlan),
    Union(UnionPlan),
    /// Of bytes, or of a fixed with this size.
    Decimal {
        precision: u32,
        scale: u32,
        size: Option<usize>,
    },
    UuidText,
    UuidBytes,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
    LocalTimestamp(TimeUnit),
    Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct EnumPlan {
    pub(crate) symbols: Vec<Box<str>>,
    pub(crate) default: Option<usize>,
    lookup: Lookup,
}

impl EnumPlan {
    pub(crate) fn find(&self, symbol: &[u8]) -> Option<usize> {
        match &self.lookup {
            Lookup::Few => self.symbols.iter().position(|known| known.as_bytes() == symbol),
            Lookup::Many(table) => table.get(symbol).copied(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RecordPlan {
    pub(crate) name: Box<str>,
    pub(crate) fields: Vec<FieldPlan>,
    /// Where `jsonb` has this field's successor: it orders keys by length, then bytes.
    pub(crate) jsonb_next: Vec<usize>,
    pub(crate) jsonb_first: usize,
    lookup: Lookup,
}

impl RecordPlan {
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        match &self.lookup {
            Lookup::Few => self.fields.iter().position(|field| field.name.as_bytes() == key),
            Lookup::Many(table) => table.get(key).copied(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct FieldPlan {
    pub(crate) name: Box<str>,
    /// The name as `jsonb` writes it behind another field: `, "name": `.
    pub(crate) joined: Box<[u8]>,
    pub(crate) node: u32,
    /// What stands for the field when it is absent.
    pub(crate) absent: Absent,
    pub(crate) aliases: Vec<String>,
}

impl FieldPlan {
    /// The name in quotes.
    pub(crate) fn quoted(&self) -> &[u8] {
        self.joined.get(2..self.joined.len() - 2).unwrap_or_default()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Absent {
    Bytes(Box<[u8]>),
    Missing,
    /// It has a default, which does not fit its type.
    BadDefault,
}

#[derive(Debug, Clone)]
pub(crate) struct UnionPlan {
    pub(crate) branches: Vec<u32>,
    /// Names of the branches, as tags.
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) null: Option<usize>,
    pub(crate) boolean: Option<usize>,
    pub(crate) array: Option<usize>,
    /// Branches that read a number, in the order they are tried for digits alone.
    pub(crate) numbers: Vec<usize>,
    /// The same for a number with point or exponent.
    pub(crate) pointed: Vec<usize>,
    /// Branches that read a string, with their rank; those of a lower rank go first.
    pub(crate) strings: Vec<(u8, usize)>,
    /// Branches that read an object.
    pub(crate) objects: Vec<usize>,
}

/// Names to indices; a handful is compared faster than hashed.
#[derive(Debug, Clone)]
enum Lookup {
    Few,
    Many(HashMap<Box<[u8]>, usize>),
}

impl Lookup {
    fn new<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Lookup {
        if names.len() <= 8 {
            return Lookup::Few;
        }
        Lookup::Many(names.enumerate().map(|(at, name)| (name.as_bytes().into(), at)).collect())
    }
}

impl Plan {
    /// Compiles a schema. Costs about as much as parsing it.
    pub fn compile(schema: &Schema, options: &EncodeOptions) -> Result<Plan, PlanError> {
        let limit = u32::MAX as usize;
        if schema.node_count() > limit {
            return Err(PlanError::TooManyTypes { limit });
        }
        let mut options = options.clone();
        options.depth_max = options.depth_max.min(DEPTH_MAX);
        let mut defaults = DefaultEncoder::new(schema, UnionDefault::AnyBranch);
        let mut nodes = Vec::with_capacity(schema.node_count());
        for (id, _) in schema.nodes() {
            let shape = shape(schema, id, &options, &mut defaults);
            nodes.push(PlanNode { shape, label: label(schema, id).into() });
        }
        Ok(Plan { nodes, root: index(schema.root().node), options })
    }

    #[inline]
    pub(crate) fn node(&self, id: u32) -> &PlanNode {
        static NULL: std::sync::LazyLock<PlanNode> =
            std::sync::LazyLock::new(|| PlanNode { shape: Shape::Null, label: "null".into() });
        match self.nodes.get(id as usize) {
            Some(node) => node,
            None => &NULL,
        }
    }
}

fn index(id: NodeId) -> u32 {
    // Checked against the limit in `compile`.
    id.index() as u32
}

fn shape(
    schema: &Schema,
    id: NodeId,
    options: &EncodeOptions,
    defaults: &mut DefaultEncoder<'_>,
) -> Shape {
    let node = schema.node(id);
    if let Some(logical) = node.logical {
        return logical_shape(logical, &node.kind);
    }
    match &node.kind {
        Kind::Null => Shape::Null,
        Kind::Boolean => Shape::Boolean,
        Kind::Int => Shape::Int,
        Kind::Long => Shape::Long,
        Kind::Float => Shape::Float,
        Kind::Double => Shape::Double,
        Kind::Bytes => Shape::Bytes,
        Kind::String => Shape::String,
        Kind::Fixed(fixed) => Shape::Fixed(fixed.size),
        Kind::Array(items) => Shape::Array(index(items.node)),
        Kind::Map(values) => Shape::Map(index(values.node)),
        Kind::Enum(one) => Shape::Enum(EnumPlan {
            symbols: one.symbols.iter().map(|symbol| symbol.as_str().into()).collect(),
            default: one.symbols.iter().position(|symbol| Some(symbol) == one.default.as_ref()),
            lookup: Lookup::new(one.symbols.iter().map(String::as_str)),
        }),
        Kind::Record(_) => Shape::Record(record(schema, id, options, defaults)),
        Kind::Union(_) => Shape::Union(union(schema, id, options)),
    }
}

fn logical_shape(logical: Logical, kind: &Kind) -> Shape {
    let size = match kind {
        Kind::Fixed(fixed) => Some(fixed.size),
        _ => None,
    };
    match logical {
        Logical::Decimal { precision, scale } => Shape::Decimal { precision, scale, size },
        Logical::Uuid if size.is_some() => Shape::UuidBytes,
        Logical::Uuid => Shape::UuidText,
        Logical::Date => Shape::Date,
        Logical::Time(unit) => Shape::Time(unit),
        Logical::Timestamp(unit) => Shape::Timestamp(unit),
        Logical::LocalTimestamp(unit) => Shape::LocalTimestamp(unit),
        Logical::Duration => Shape::Duration,
    }
}

fn record(
    schema: &Schema,
    id: NodeId,
    options: &EncodeOptions,
    defaults: &mut DefaultEncoder<'_>,
) -> RecordPlan {
    let Kind::Record(record) = &schema.node(id).kind else {
        return RecordPlan {
            name: "".into(),
            fields: Vec::new(),
            jsonb_next: Vec::new(),
            jsonb_first: 0,
            lookup: Lookup::Few,
        };
    };
    let mut fields = Vec::with_capacity(record.fields.len());
    for (at, field) in record.fields.iter().enumerate() {
        let absent = match defaults.default_of(id, at) {
            Some(DefaultBytes::Good(bytes)) => Absent::Bytes(bytes.into()),
            Some(DefaultBytes::Bad(_)) => Absent::BadDefault,
            None if options.absent_as_null => null_bytes(schema, field.schema.node),
            None => Absent::Missing,
        };
        fields.push(FieldPlan {
            name: field.name.as_str().into(),
            joined: format!(", \"{}\": ", field.name).into_bytes().into(),
            node: index(field.schema.node),
            absent,
            aliases: field.aliases.clone(),
        });
    }
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|at| fields.get(*at).map(|field| (field.name.len(), &field.name)));
    let mut jsonb_next = vec![usize::MAX; fields.len()];
    for pair in order.windows(2) {
        if let [this, next] = pair
            && let Some(slot) = jsonb_next.get_mut(*this)
        {
            *slot = *next;
        }
    }
    RecordPlan {
        name: record.name.full().into(),
        lookup: Lookup::new(record.fields.iter().map(|field| field.name.as_str())),
        fields,
        jsonb_first: order.first().copied().unwrap_or(usize::MAX),
        jsonb_next,
    }
}

fn null_bytes(schema: &Schema, id: NodeId) -> Absent {
    match &schema.node(id).kind {
        Kind::Null => Absent::Bytes(Box::default()),
        Kind::Union(branches) => {
            let is_null = |id| matches!(schema.node(id).kind, Kind::Null);
            let Some(at) = branches.iter().position(|branch| is_null(branch.node)) else {
                return Absent::Missing;
            };
            let mut bytes = Vec::new();
            varint::write_len(at, &mut bytes);
            Absent::Bytes(bytes.into())
        }
        _ => Absent::Missing,
    }
}

fn union(schema: &Schema, id: NodeId, options: &EncodeOptions) -> UnionPlan {
    let Kind::Union(branches) = &schema.node(id).kind else {
        return UnionPlan::empty();
    };
    let mut plan = UnionPlan::empty();
    let (mut numbers, mut pointed) = (Vec::new(), Vec::new());
    for (at, branch) in branches.iter().enumerate() {
        let node = schema.node(branch.node);
        plan.branches.push(index(branch.node));
        plan.tags.push(node.kind.branch_name().into());
        let decimal = matches!(node.logical, Some(Logical::Decimal { .. }));
        match (&node.kind, node.logical) {
            (Kind::Null, _) => plan.null = Some(at),
            (Kind::Boolean, _) => plan.boolean = Some(at),
            (Kind::Array(_), _) => plan.array = Some(at),
            (Kind::Record(_) | Kind::Map(_), _) | (Kind::Fixed(_), Some(Logical::Duration)) => {
                plan.objects.push(at);
            }
            _ => {}
        }
        // Digits alone: the narrowest integer that holds them. With a point: a float first.
        let ranks = match &node.kind {
            Kind::Int => Some((0, 3)),
            Kind::Long => Some((1, 4)),
            Kind::Double => Some((2, 0)),
            Kind::Float => Some((3, 1)),
            Kind::Bytes | Kind::Fixed(_) if decimal => Some((4, 2)),
            _ => None,
        };
        if let Some((plain, point)) = ranks {
            numbers.push((plain, at));
            pointed.push((point, at));
        }
        if let Some(rank) = string_rank(&node.kind, node.logical, options) {
            plan.strings.push((rank, at));
        }
    }
    numbers.sort_unstable();
    pointed.sort_unstable();
    plan.strings.sort_unstable();
    plan.numbers = numbers.into_iter().map(|(_, at)| at).collect();
    plan.pointed = pointed.into_iter().map(|(_, at)| at).collect();
    plan
}

/// In which turn a branch may take a string: what has the narrower form goes first.
fn string_rank(kind: &Kind, logical: Option<Logical>, options: &EncodeOptions) -> Option<u8> {
    match (kind, logical) {
        (Kind::Enum(_), _) => Some(0),
        (_, Some(Logical::Decimal { .. })) => Some(3),
        (_, Some(_)) => Some(1),
        (Kind::String, None) => Some(2),
        (Kind::Bytes, None) => Some(4),
        (Kind::Fixed(_), None) => Some(5),
        (Kind::Int | Kind::Long, None) if options.numeric_strings => Some(6),
        (Kind::Float | Kind::Double, None) if options.numeric_strings || options.special_floats => {
            Some(7)
        }
        _ => None,
    }
}

impl UnionPlan {
    fn empty() -> Self {
        UnionPlan {
            branches: Vec::new(),
            tags: Vec::new(),
            null: None,
            boolean: None,
            array: None,
            numbers: Vec::new(),
            pointed: Vec::new(),
            strings: Vec::new(),
            objects: Vec::new(),
        }
    }

    pub(crate) fn branch(&self, at: usize) -> u32 {
        self.branches.get(at).copied().unwrap_or(u32::MAX)
    }
}

fn label(schema: &Schema, id: NodeId) -> String {
    let node = schema.node(id);
    let word = node.kind.type_name();
    let base = match (&node.kind, node.kind.name()) {
        (Kind::Fixed(fixed), Some(name)) => {
            format!("fixed {} of {} bytes", name.full(), fixed.size)
        }
        (_, Some(name)) => format!("{word} {}", name.full()),
        (Kind::Union(branches), None) => {
            let names: Vec<&str> =
                branches.iter().map(|branch| schema.node(branch.node).kind.branch_name()).collect();
            return format!("one of {}", names.join(", "));
        }
        _ => word.to_owned(),
    };
    match node.logical {
        None => base,
        Some(Logical::Decimal { precision, scale }) => format!("decimal({precision},{scale})"),
        Some(Logical::Uuid) => "uuid".to_owned(),
        Some(Logical::Date) => "date".to_owned(),
        Some(Logical::Time(unit)) => format!("time-{}", unit.word()),
        Some(Logical::Timestamp(unit)) => format!("timestamp-{}", unit.word()),
        Some(Logical::LocalTimestamp(unit)) => format!("local-timestamp-{}", unit.word()),
        Some(Logical::Duration) => "duration".to_owned(),
    }
}
