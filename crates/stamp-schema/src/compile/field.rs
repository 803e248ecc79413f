//! One `[[fields]]` table: the rules that belong to its type, and no others.

use stamp_model::{FieldDef, FieldKind};
use toml::{Spanned, Value};

use crate::error::{Places, SchemaError};
use crate::field::{Check, Slot};
use crate::source::{FieldSource, KindSource, TimeFormat};

/// Columns that every readings table has, in lower case (DESIGN of the readings table).
const RESERVED: [&str; 8] = [
    "device_id",
    "ts",
    "enqueued_at",
    "late",
    "clock_suspect",
    "partition",
    "sequence",
    "date",
];
const NAME_CHARS_MAX: usize = 128;
const UNIT_CHARS_MAX: usize = 64;
const ALLOWED_MAX: usize = 1_024;
const LENGTH_CAP: i64 = 1 << 20;

pub(super) fn compile(
    source: &FieldSource,
    key: &str,
    places: &Places<'_>,
) -> Result<(FieldDef, Slot), SchemaError> {
    let field = Field {
        source,
        key,
        places,
    };
    field.check_name()?;
    field.check_unit()?;
    field.refuse_foreign_rules()?;
    let def = FieldDef {
        name: source.name.get_ref().clone(),
        kind: kind(source.r#type),
        unit: source.unit.as_ref().map(|unit| unit.get_ref().clone()),
        required: source.required,
        rollup: field.rollup()?,
    };
    let slot = Slot {
        rule: format!("fields.{}", def.name),
        path: source
            .path
            .as_ref()
            .unwrap_or(&source.name)
            .get_ref()
            .clone(),
        required: source.required,
        check: field.check()?,
    };
    Ok((def, slot))
}

fn kind(source: KindSource) -> FieldKind {
    match source {
        KindSource::Bool => FieldKind::Bool,
        KindSource::I64 => FieldKind::I64,
        KindSource::F64 => FieldKind::F64,
        KindSource::String => FieldKind::String,
        KindSource::Timestamp => FieldKind::Timestamp,
    }
}

struct Field<'a> {
    source: &'a FieldSource,
    key: &'a str,
    places: &'a Places<'a>,
}

impl Field<'_> {
    fn refuse<T>(&self, at: &Spanned<T>, key: &str, message: impl Into<String>) -> SchemaError {
        self.places
            .invalid(&at.span(), format!("{}.{key}", self.key), message)
    }

    fn check_name(&self) -> Result<(), SchemaError> {
        let name = self.source.name.get_ref();
        let first_ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest_ok = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !first_ok || !rest_ok || name.len() > NAME_CHARS_MAX {
            let message =
                "a column name is 1 to 128 of A-Z, a-z, 0-9 and _, not starting with a digit";
            return Err(self.refuse(&self.source.name, "name", message));
        }
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            let message =
                format!("`{name}` is a column that every readings table has; choose another name");
            return Err(self.refuse(&self.source.name, "name", message));
        }
        Ok(())
    }

    fn check_unit(&self) -> Result<(), SchemaError> {
        match &self.source.unit {
            Some(unit)
                if unit.get_ref().is_empty() || unit.get_ref().chars().count() > UNIT_CHARS_MAX =>
            {
                Err(self.refuse(unit, "unit", "a unit is 1 to 64 characters"))
            }
            _ => Ok(()),
        }
    }

    /// A rule that could never do anything is a mistake of the author, so it is refused.
    fn refuse_foreign_rules(&self) -> Result<(), SchemaError> {
        let source = self.source;
        let number = matches!(source.r#type, KindSource::I64 | KindSource::F64);
        let string = source.r#type == KindSource::String;
        let timestamp = source.r#type == KindSource::Timestamp;
        if let Some(min) = source.min.as_ref().filter(|_| !number) {
            return Err(self.refuse(min, "min", "only i64 and f64 fields have a minimum"));
        }
        if let Some(max) = source.max.as_ref().filter(|_| !number) {
            return Err(self.refuse(max, "max", "only i64 and f64 fields have a maximum"));
        }
        if let Some(allowed) = source.allowed.as_ref().filter(|_| !number && !string) {
            return Err(self.refuse(
                allowed,
                "allowed",
                "only string, i64 and f64 fields have a list",
            ));
        }
        if let Some(length) = source.max_length.as_ref().filter(|_| !string) {
            return Err(self.refuse(length, "max-length", "only string fields have a length"));
        }
        if let Some(format) = source.format.as_ref().filter(|_| !timestamp) {
            return Err(self.refuse(format, "format", "only timestamp fields have a format"));
        }
        if let Some(rollup) = source.rollup.as_ref().filter(|r| *r.get_ref() && !number) {
            return Err(self.refuse(
                rollup,
                "rollup",
                "rollups are made of i64 and f64 fields only",
            ));
        }
        Ok(())
    }

    fn rollup(&self) -> Result<bool, SchemaError> {
        let number = matches!(self.source.r#type, KindSource::I64 | KindSource::F64);
        Ok(self.source.rollup.as_ref().map_or(number, |r| *r.get_ref()))
    }

    fn check(&self) -> Result<Check, SchemaError> {
        match self.source.r#type {
            KindSource::Bool => Ok(Check::Bool),
            KindSource::I64 => self.check_i64(),
            KindSource::F64 => self.check_f64(),
            KindSource::String => self.check_string(),
            KindSource::Timestamp => Ok(Check::Timestamp {
                format: self
                    .source
                    .format
                    .as_ref()
                    .map_or(TimeFormat::default(), |f| *f.get_ref()),
            }),
        }
    }

    fn check_i64(&self) -> Result<Check, SchemaError> {
        let read = |value: &Value| value.as_integer().ok_or("expected an integer");
        let min = self.bound(self.source.min.as_ref(), "min", i64::MIN, read)?;
        let max = self.bound(self.source.max.as_ref(), "max", i64::MAX, read)?;
        self.check_order(min <= max)?;
        let mut allowed = self.allowed(read)?;
        allowed.sort_unstable();
        self.check_allowed_in_range(allowed.iter().all(|v| (min..=max).contains(v)))?;
        Ok(Check::I64 { min, max, allowed })
    }

    fn check_f64(&self) -> Result<Check, SchemaError> {
        let read = |value: &Value| {
            let number = value.as_float().or(value.as_integer().map(|i| i as f64));
            number
                .filter(|n| n.is_finite())
                .ok_or("expected a finite number")
        };
        let min = self.bound(self.source.min.as_ref(), "min", f64::MIN, read)?;
        let max = self.bound(self.source.max.as_ref(), "max", f64::MAX, read)?;
        self.check_order(min <= max)?;
        let mut allowed = self.allowed(read)?;
        allowed.sort_unstable_by(f64::total_cmp);
        self.check_allowed_in_range(allowed.iter().all(|v| (min..=max).contains(v)))?;
        Ok(Check::F64 { min, max, allowed })
    }

    fn check_string(&self) -> Result<Check, SchemaError> {
        let bytes_max = match &self.source.max_length {
            None => usize::MAX,
            Some(length) => usize::try_from(*length.get_ref())
                .ok()
                .filter(|_| (1..=LENGTH_CAP).contains(length.get_ref()))
                .ok_or_else(|| {
                    let message = format!("expected a number of bytes from 1 to {LENGTH_CAP}");
                    self.refuse(length, "max-length", message)
                })?,
        };
        let mut allowed =
            self.allowed(|value| value.as_str().map(str::to_owned).ok_or("expected a string"))?;
        allowed.sort_unstable();
        self.check_allowed_in_range(allowed.iter().all(|text| text.len() <= bytes_max))?;
        Ok(Check::String { bytes_max, allowed })
    }

    fn bound<T>(
        &self,
        value: Option<&Spanned<Value>>,
        key: &str,
        default: T,
        read: impl Fn(&Value) -> Result<T, &'static str>,
    ) -> Result<T, SchemaError> {
        match value {
            None => Ok(default),
            Some(value) => {
                read(value.get_ref()).map_err(|message| self.refuse(value, key, message))
            }
        }
    }

    fn allowed<T>(
        &self,
        read: impl Fn(&Value) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, SchemaError> {
        let Some(list) = &self.source.allowed else {
            return Ok(Vec::new());
        };
        if !(1..=ALLOWED_MAX).contains(&list.get_ref().len()) {
            let message = format!("a list has 1 to {ALLOWED_MAX} values");
            return Err(self.refuse(list, "allowed", message));
        }
        let read = |value| read(value).map_err(|message| self.refuse(list, "allowed", message));
        list.get_ref().iter().map(read).collect()
    }

    fn check_order(&self, in_order: bool) -> Result<(), SchemaError> {
        match &self.source.min {
            Some(min) if !in_order => {
                Err(self.refuse(min, "min", "the minimum is above the maximum"))
            }
            _ => Ok(()),
        }
    }

    fn check_allowed_in_range(&self, in_range: bool) -> Result<(), SchemaError> {
        match &self.source.allowed {
            Some(list) if !in_range => Err(self.refuse(
                list,
                "allowed",
                "a value of the list breaks the field's other rules",
            )),
            _ => Ok(()),
        }
    }
}
