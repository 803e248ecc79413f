//! Answers in parts: pages of a query, and what of a bulk was not done.

use serde_json::Value;

/// Which part of a query's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items of it, 1 to [`PageRequest::ITEMS_MAX`].
    pub items_max: u32,
    /// Where it goes on: what the page before gave. `None` for the first.
    pub continuation: Option<String>,
}

impl PageRequest {
    /// Most items of one page. The services allow more for some queries; this many twins of the
    /// usual size fit the limit of an answer.
    pub const ITEMS_MAX: u32 = 1_000;

    /// The first page with as many items as there may be.
    #[must_use]
    pub fn first() -> Self {
        Self {
            items_max: Self::ITEMS_MAX,
            continuation: None,
        }
    }
}

/// A part of a query's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items, in the service's order. May be empty although more follow.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this was the last.
    pub continuation: Option<String>,
}

/// What became of a bulk request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkAnswer {
    /// Entries that were not done. All others were.
    pub problems: Vec<BulkProblem>,
}

/// One entry of a bulk request that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkProblem {
    /// Device, registration or group.
    pub id: String,
    /// The service's code or name for it.
    pub code: String,
    /// Its words.
    pub detail: String,
}

impl BulkAnswer {
    /// Reads `{"isSuccessful":..,"errors":[..]}`; `id_field` is what names an entry.
    pub(crate) fn parse(answer: &Value, id_field: &str) -> Result<Self, String> {
        let well = answer["isSuccessful"].as_bool();
        let well = well.ok_or("isSuccessful is missing")?;
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let errors = answer["errors"].as_array().into_iter().flatten();
        let problems: Vec<BulkProblem> = errors
            .map(|error| BulkProblem {
                id: text(&error[id_field]),
                code: text(&error["errorCode"]),
                detail: text(&error["errorStatus"]),
            })
            .collect();
        if well != problems.is_empty() {
            return Err("isSuccessful and errors contradict each other".to_owned());
        }
        Ok(Self { problems })
    }
}
