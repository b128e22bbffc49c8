//! What speaks against a pair of schemas, for people and for programs.

use std::fmt;

use crate::avro::Place;

/// What really breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A registry refuses the schema: Java Avro calls the pair incompatible.
    Gate,
    /// The gate passes it, yet some value of the writer fails at a reader.
    Decode,
    /// Every value is read, some as another value than was written.
    Meaning,
    /// Nothing breaks; the next change is harder than it need be.
    Hygiene,
}

impl Severity {
    /// All, gravest first.
    pub const ALL: [Severity; 4] =
        [Severity::Gate, Severity::Decode, Severity::Meaning, Severity::Hygiene];

    /// `gate`, `decode`, `meaning` or `hygiene`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Gate => "gate",
            Severity::Decode => "decode",
            Severity::Meaning => "meaning",
            Severity::Hygiene => "hygiene",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rule that was broken. The first six are Java Avro's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Types that do not read each other.
    TypeMismatch,
    /// Named types with other names and no alias.
    NameMismatch,
    /// Fixed types of other sizes.
    FixedSizeMismatch,
    /// The reader's enum lacks symbols and has no default.
    MissingEnumSymbols,
    /// No branch of the reader's union takes what the writer writes.
    MissingUnionBranch,
    /// The reader wants a field that the writer does not write.
    ReaderFieldMissingDefaultValue,
    /// A reader's field is found twice in the writer; Java throws.
    AmbiguousAlias,
    /// A default that is needed does not fit its type.
    DefaultInvalid,
    /// Java's resolver looks for another branch than the one that fits.
    UnionBranchUnresolved,
    /// An alias of the reader takes a name that the writer has for another type or field.
    AliasClash,
    /// The aliases of a field do not count in a record of another full name.
    AliasNotApplied,
    /// Bytes read as a string need not be UTF-8.
    BytesNotUtf8,
    /// A field that a consumer's contract lists is not written.
    UsedFieldNotWritten,
    /// The file of a schema is gone.
    SchemaRemoved,
    /// The logical type differs over the same primitive.
    LogicalTypeChanged,
    /// The scale of a decimal differs.
    DecimalScaleChanged,
    /// The reader's decimal has fewer digits.
    DecimalPrecisionNarrowed,
    /// The property `unit` differs.
    UnitChanged,
    /// A field seems renamed: the reader takes its default instead of the value.
    FieldRenamed,
    /// Symbols that the reader turns into its default.
    EnumDefaultHidesSymbols,
    /// Numbers that the reader's type holds only rounded.
    LossyPromotion,
    /// No documentation.
    DocMissing,
    /// A new field without a default.
    DefaultMissing,
    /// A name in another style than its neighbours.
    NameStyle,
}

impl Code {
    /// All, in the order of their severities.
    pub const ALL: [Code; 24] = [
        Code::TypeMismatch,
        Code::NameMismatch,
        Code::FixedSizeMismatch,
        Code::MissingEnumSymbols,
        Code::MissingUnionBranch,
        Code::ReaderFieldMissingDefaultValue,
        Code::AmbiguousAlias,
        Code::DefaultInvalid,
        Code::UnionBranchUnresolved,
        Code::AliasClash,
        Code::AliasNotApplied,
        Code::BytesNotUtf8,
        Code::UsedFieldNotWritten,
        Code::SchemaRemoved,
        Code::LogicalTypeChanged,
        Code::DecimalScaleChanged,
        Code::DecimalPrecisionNarrowed,
        Code::UnitChanged,
        Code::FieldRenamed,
        Code::EnumDefaultHidesSymbols,
        Code::LossyPromotion,
        Code::DocMissing,
        Code::DefaultMissing,
        Code::NameStyle,
    ];

    /// As it stands in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Code::TypeMismatch => "TYPE_MISMATCH",
            Code::NameMismatch => "NAME_MISMATCH",
            Code::FixedSizeMismatch => "FIXED_SIZE_MISMATCH",
            Code::MissingEnumSymbols => "MISSING_ENUM_SYMBOLS",
            Code::MissingUnionBranch => "MISSING_UNION_BRANCH",
            Code::ReaderFieldMissingDefaultValue => "READER_FIELD_MISSING_DEFAULT_VALUE",
            Code::AmbiguousAlias => "AMBIGUOUS_ALIAS",
            Code::DefaultInvalid => "DEFAULT_INVALID",
            Code::UnionBranchUnresolved => "UNION_BRANCH_UNRESOLVED",
            Code::AliasClash => "ALIAS_CLASH",
            Code::AliasNotApplied => "ALIAS_NOT_APPLIED",
            Code::BytesNotUtf8 => "BYTES_NOT_UTF8",
            Code::UsedFieldNotWritten => "USED_FIELD_NOT_WRITTEN",
            Code::SchemaRemoved => "SCHEMA_REMOVED",
            Code::LogicalTypeChanged => "LOGICAL_TYPE_CHANGED",
            Code::DecimalScaleChanged => "DECIMAL_SCALE_CHANGED",
            Code::DecimalPrecisionNarrowed => "DECIMAL_PRECISION_NARROWED",
            Code::UnitChanged => "UNIT_CHANGED",
            Code::FieldRenamed => "FIELD_RENAMED",
            Code::EnumDefaultHidesSymbols => "ENUM_DEFAULT_HIDES_SYMBOLS",
            Code::LossyPromotion => "LOSSY_PROMOTION",
            Code::DocMissing => "DOC_MISSING",
            Code::DefaultMissing => "DEFAULT_MISSING",
            Code::NameStyle => "NAME_STYLE",
        }
    }

    /// What the rule guards, in one sentence.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Code::TypeMismatch => "a type is read by the same type or by one it promotes to",
            Code::NameMismatch => "a named type is read by its own name or by an alias",
            Code::FixedSizeMismatch => "a fixed is read with the size it was written with",
            Code::MissingEnumSymbols => "a reader's enum has every written symbol or a default",
            Code::MissingUnionBranch => "a reader's union takes every type that is written",
            Code::ReaderFieldMissingDefaultValue => "a field that is not written has a default",
            Code::AmbiguousAlias => "a reader's field stands for one written field",
            Code::DefaultInvalid => "a default that is needed fits its type",
            Code::UnionBranchUnresolved => "the branch that a reader chooses takes the value",
            Code::AliasClash => "an alias is a name that is no longer written",
            Code::AliasNotApplied => {
                "the aliases of fields are looked for in the record they are of"
            }
            Code::BytesNotUtf8 => "bytes that are read as a string are UTF-8",
            Code::UsedFieldNotWritten => "a field that a consumer uses is written",
            Code::SchemaRemoved => "a type that is still read or kept is defined somewhere",
            Code::LogicalTypeChanged => "a value keeps its logical type",
            Code::DecimalScaleChanged => "a decimal keeps its scale",
            Code::DecimalPrecisionNarrowed => "a decimal keeps its digits",
            Code::UnitChanged => "a value keeps its unit",
            Code::FieldRenamed => "a renamed field has its old name as an alias",
            Code::EnumDefaultHidesSymbols => "a symbol is read as itself",
            Code::LossyPromotion => "a number is read as it was written",
            Code::DocMissing => "records, enums and fields say what they mean",
            Code::DefaultMissing => "a new field has a default",
            Code::NameStyle => "names of one schema follow one style",
        }
    }

    /// A finding's message as a sentence, where Java's is a bare name or list.
    #[must_use]
    pub fn sentence(self, message: &str) -> String {
        match self {
            Code::ReaderFieldMissingDefaultValue => {
                format!("field {message} is not written and has no default")
            }
            Code::MissingEnumSymbols => {
                format!("symbols {} are not known", message.trim_matches(['[', ']']))
            }
            Code::NameMismatch => match message.strip_prefix("expected: ") {
                Some(name) => format!("the type is written as {name}"),
                None => message.to_owned(),
            },
            Code::FixedSizeMismatch => format!("another size: {message}"),
            _ => message.to_owned(),
        }
    }

    /// How grave it is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Code::TypeMismatch
            | Code::NameMismatch
            | Code::FixedSizeMismatch
            | Code::MissingEnumSymbols
            | Code::MissingUnionBranch
            | Code::ReaderFieldMissingDefaultValue => Severity::Gate,
            Code::AmbiguousAlias
            | Code::DefaultInvalid
            | Code::UnionBranchUnresolved
            | Code::AliasClash
            | Code::AliasNotApplied
            | Code::BytesNotUtf8
            | Code::UsedFieldNotWritten => Severity::Decode,
            Code::SchemaRemoved
            | Code::LogicalTypeChanged
            | Code::DecimalScaleChanged
            | Code::DecimalPrecisionNarrowed
            | Code::UnitChanged
            | Code::FieldRenamed
            | Code::EnumDefaultHidesSymbols
            | Code::LossyPromotion => Severity::Meaning,
            Code::DocMissing | Code::DefaultMissing | Code::NameStyle => Severity::Hygiene,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of the two schemas of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The schema that data is read with.
    Reader,
    /// The schema that data was written with.
    Writer,
}

/// One thing that speaks against a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub code: Code,
    /// Java's location for gate findings: indices of the reader's fields and the writer's branches
    /// mixed, begun anew inside unions. For others the reader's pointer.
    pub location: String,
    /// Java's message for gate findings; a sentence for others.
    pub message: String,
    /// The place by the reader's field names, such as `lines[].qty`; empty for the whole schema.
    pub path: String,
    /// Where the reader says it.
    pub reader: Place,
    /// Where the writer says it. For the candidate by itself the same place.
    pub writer: Place,
    /// Findings inside a union that Java throws away.
    pub because: Vec<Because>,
    /// What to edit, for whoever changes the reader and for whoever changes the writer.
    pub help: Help,
}

/// The mend, by the side that can be edited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Help {
    /// When the reader's schema is the one that is changed.
    pub reader: String,
    /// When the writer's schema is the one that is changed.
    pub writer: String,
}

impl Finding {
    /// The severity of its code.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Bytes of its texts, about.
    pub(super) fn text_bytes(&self) -> usize {
        let because = self.because.iter().map(|one| one.path.len() + one.message.len());
        let help = self.help.reader.len() + self.help.writer.len();
        let places = self.reader.pointer.len() + self.writer.pointer.len();
        let own = self.location.len() + self.message.len() + self.path.len();
        own + help + places + because.sum::<usize>()
    }

    /// Where one side says it.
    #[must_use]
    pub fn place(&self, side: Side) -> &Place {
        match side {
            Side::Reader => &self.reader,
            Side::Writer => &self.writer,
        }
    }

    /// What to edit in one side.
    #[must_use]
    pub fn help(&self, side: Side) -> &str {
        match side {
            Side::Reader => &self.help.reader,
            Side::Writer => &self.help.writer,
        }
    }
}

/// Why no branch of a union fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// The rule broken inside.
    pub code: Code,
    /// The place by names.
    pub path: String,
    /// Java's message.
    pub message: String,
    /// Where the reader says it.
    pub reader: Place,
    /// Where the writer says it.
    pub writer: Place,
}
