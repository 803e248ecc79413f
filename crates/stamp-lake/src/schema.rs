//! The columns of each table: the contract of docs/tables.md in code.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use delta_kernel::schema::{
    DataType as DeltaType, MapType, MetadataValue, PrimitiveType, StructField, StructType,
};
use stamp_model::{FieldKind, Shape};

use crate::LakeError;

/// The partition column of every table; lives in folder names, never in a file.
pub(crate) const DATE: &str = "date";

/// Key of a column's unit in the metadata of its field.
pub(crate) const UNIT: &str = "unit";

/// The type of a column, as far as these tables need types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Bool,
    I32,
    I64,
    F64,
    Text,
    Binary,
    Timestamp,
    Date,
    TextMap,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnSpec {
    pub(crate) name: String,
    pub(crate) kind: ColumnType,
    pub(crate) unit: Option<String>,
}

impl ColumnSpec {
    fn new(name: &str, kind: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            unit: None,
        }
    }

    /// Type and unit, for errors.
    pub(crate) fn describe(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} in {unit}", self.kind.delta()),
            None => self.kind.delta().to_string(),
        }
    }

    pub(crate) fn delta(&self) -> StructField {
        let field = StructField::nullable(&self.name, self.kind.delta());
        match &self.unit {
            Some(unit) => field.with_metadata([(UNIT, MetadataValue::String(unit.clone()))]),
            None => field,
        }
    }

    /// The field as readers of the file see it. A column without nulls says so, which also saves
    /// its definition levels.
    pub(crate) fn arrow(&self, nullable: bool) -> Field {
        let field = Field::new(&self.name, self.kind.arrow(), nullable);
        match &self.unit {
            Some(unit) => field.with_metadata(HashMap::from([(UNIT.to_owned(), unit.clone())])),
            None => field,
        }
    }
}

impl ColumnType {
    pub(crate) fn delta(self) -> DeltaType {
        let primitive = match self {
            Self::Bool => PrimitiveType::Boolean,
            Self::I32 => PrimitiveType::Integer,
            Self::I64 => PrimitiveType::Long,
            Self::F64 => PrimitiveType::Double,
            Self::Text => PrimitiveType::String,
            Self::Binary => PrimitiveType::Binary,
            Self::Timestamp => PrimitiveType::Timestamp,
            Self::Date => PrimitiveType::Date,
            Self::TextMap => {
                let map = MapType::new(DeltaType::STRING, DeltaType::STRING, false);
                return DeltaType::Map(Box::new(map));
            }
        };
        DeltaType::Primitive(primitive)
    }

    pub(crate) fn arrow(self) -> ArrowType {
        match self {
            Self::Bool => ArrowType::Boolean,
            Self::I32 => ArrowType::Int32,
            Self::I64 => ArrowType::Int64,
            Self::F64 => ArrowType::Float64,
            Self::Text => ArrowType::Utf8,
            Self::Binary => ArrowType::Binary,
            Self::Timestamp => timestamp_type(),
            Self::Date => ArrowType::Date32,
            Self::TextMap => text_map_type(),
        }
    }

    pub(crate) fn of(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Bool => Self::Bool,
            FieldKind::I64 => Self::I64,
            FieldKind::F64 => Self::F64,
            FieldKind::String => Self::Text,
            FieldKind::Timestamp => Self::Timestamp,
        }
    }
}

pub(crate) fn timestamp_type() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `map<string, string>` with the names Parquet's specification gives its parts.
pub(crate) fn text_map_type() -> ArrowType {
    ArrowType::Map(Arc::new(text_map_entry()), false)
}

pub(crate) fn text_map_entry() -> Field {
    let pair = vec![
        Field::new("key", ArrowType::Utf8, false),
        Field::new("value", ArrowType::Utf8, false),
    ];
    Field::new("key_value", ArrowType::Struct(pair.into()), false)
}

/// All columns of a table, in order, the partition column last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableSpec {
    pub(crate) columns: Vec<ColumnSpec>,
}

impl TableSpec {
    fn from_pairs(pairs: &[(&str, ColumnType)]) -> Self {
        let columns = pairs
            .iter()
            .map(|(name, kind)| ColumnSpec::new(name, *kind))
            .collect();
        Self { columns }
    }

    pub(crate) fn readings(shape: &Shape) -> Self {
        use ColumnType::{Bool, Date, I32, I64, Text, Timestamp};
        let mut spec = Self::from_pairs(&[
            ("device_id", Text),
            ("ts", Timestamp),
            ("enqueued_at", Timestamp),
        ]);
        spec.columns
            .extend(shape.fields.iter().map(|field| ColumnSpec {
                name: field.name.clone(),
                kind: ColumnType::of(field.kind),
                unit: field.unit.clone(),
            }));
        let rest = Self::from_pairs(&[
            ("late", Bool),
            ("clock_suspect", Bool),
            ("partition", I32),
            ("sequence", I64),
            (DATE, Date),
        ]);
        spec.columns.extend(rest.columns);
        spec
    }

    pub(crate) fn rollups() -> Self {
        use ColumnType::{Date, F64, I32, I64, Text, Timestamp};
        Self::from_pairs(&[
            ("device_id", Text),
            ("metric", Text),
            ("window_start", Timestamp),
            ("window_s", I32),
            ("count", I64),
            ("sum", F64),
            ("min", F64),
            ("max", F64),
            ("first", F64),
            ("first_ts", Timestamp),
            ("last", F64),
            ("last_ts", Timestamp),
            ("m2", F64),
            ("late_count", I64),
            ("partition", I32),
            ("sequence_first", I64),
            ("sequence_last", I64),
            (DATE, Date),
        ])
    }

    pub(crate) fn rejected() -> Self {
        use ColumnType::{Binary, Date, I32, I64, Text, TextMap, Timestamp};
        Self::from_pairs(&[
            ("reason", Text),
            ("detail", Text),
            ("rule", Text),
            ("device_id", Text),
            ("partition", I32),
            ("sequence", I64),
            ("offset", Text),
            ("enqueued_at", Timestamp),
            ("content_type", Text),
            ("properties", TextMap),
            ("body", Binary),
            (DATE, Date),
        ])
    }

    pub(crate) fn quarantine() -> Self {
        let mut spec = Self::rejected();
        let tenant = ColumnSpec::new("tenant", ColumnType::Text);
        spec.columns.insert(spec.columns.len() - 1, tenant);
        spec
    }

    pub(crate) fn replays() -> Self {
        use ColumnType::{Date, I32, I64, Text, Timestamp};
        Self::from_pairs(&[
            ("number", I64),
            ("source", Text),
            ("reason", Text),
            ("partition", I32),
            ("sequence", I64),
            ("enqueued_at", Timestamp),
            ("outcome", Text),
            ("replayed_at", Timestamp),
            (DATE, Date),
        ])
    }

    pub(crate) fn gaps() -> Self {
        use ColumnType::{Date, I32, I64, Text, Timestamp};
        Self::from_pairs(&[
            ("partition", I32),
            ("sequence_first", I64),
            ("sequence_last", I64),
            ("next_enqueued_at", Timestamp),
            ("reason", Text),
            (DATE, Date),
        ])
    }

    /// Refuses fields that share a name; Delta and most readers do not tell case apart.
    pub(crate) fn check_names(&self) -> Result<(), LakeError> {
        let mut seen = std::collections::BTreeSet::new();
        for column in &self.columns {
            if !seen.insert(column.name.to_lowercase()) {
                return Err(LakeError::Column {
                    column: column.name.clone(),
                    reason: "another column of the table has this name, case aside".to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn delta(&self) -> Result<StructType, delta_kernel::KernelError> {
        StructType::try_new(self.columns.iter().map(ColumnSpec::delta))
    }

    /// The columns that are in files: all but the partition column.
    pub(crate) fn file_columns(&self) -> impl Iterator<Item = &ColumnSpec> {
        self.columns.iter().filter(|column| column.name != DATE)
    }

    /// The schema of a file as readers see it; `nullable` has one flag per file column.
    pub(crate) fn file_schema(&self, nullable: &[bool]) -> SchemaRef {
        let fields: Vec<_> = self
            .file_columns()
            .zip(nullable)
            .map(|(column, &nullable)| column.arrow(nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stamp_model::FieldDef;

    #[test]
    fn a_field_cannot_take_the_name_of_another_column() {
        for name in ["device_id", "Sequence", "date"] {
            let field = FieldDef {
                name: name.into(),
                kind: FieldKind::F64,
                unit: None,
                required: false,
                rollup: false,
            };
            let spec = TableSpec::readings(&Shape {
                fields: vec![field],
            });
            let error = spec.check_names().unwrap_err().to_string();
            assert!(
                error.to_lowercase().contains(name.to_lowercase().as_str()),
                "{error}"
            );
        }
    }
}
