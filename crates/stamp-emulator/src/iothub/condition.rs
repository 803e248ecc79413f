//! The conditions of IoT Hub's query language, as routes and device queries use them.
//!
//! Comparisons, `AND`, `OR`, `NOT`, `IN [..]`, parentheses, `is_defined(..)`, `is_null(..)` and
//! `as_number(..)`. A comparison with something that is not there is neither true nor false, and
//! counts as false in the end.

use serde_json::Value;

/// Deepest nesting of parentheses and `NOT`.
const DEPTH_MAX: usize = 32;
/// Longest condition, characters.
const CHARS_MAX: usize = 8_192;

/// A condition, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Operand>),
    Defined(String),
    Null(Operand),
    /// A value that stands alone, such as `true`.
    Truth(Operand),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Literal(Value),
    Path(String),
    Number(Box<Operand>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// Parses a condition.
    ///
    /// # Errors
    /// A text that says what was not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > CHARS_MAX {
            return Err(format!("a condition has at most {CHARS_MAX} characters"));
        }
        let tokens = tokens(text)?;
        let mut parser = Parser {
            tokens,
            at: 0,
            depth: 0,
        };
        let condition = parser.or()?;
        match parser.peek() {
            None => Ok(condition),
            Some(token) => Err(format!("{token:?} is not expected")),
        }
    }

    /// Whether it holds; `resolve` gives the value of a path, if there is one.
    pub(crate) fn holds(&self, resolve: &dyn Fn(&str) -> Option<Value>) -> bool {
        self.truth(resolve) == Some(true)
    }

    fn truth(&self, resolve: &dyn Fn(&str) -> Option<Value>) -> Option<bool> {
        match self {
            Self::And(a, b) => match (a.truth(resolve), b.truth(resolve)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.truth(resolve), b.truth(resolve)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.truth(resolve).map(|truth| !truth),
            Self::Compare(a, comparison, b) => {
                compare(&a.value(resolve)?, *comparison, &b.value(resolve)?)
            }
            Self::In(a, list) => {
                let value = a.value(resolve)?;
                let same = |b: &Operand| {
                    let other = b.value(resolve)?;
                    compare(&value, Comparison::Equal, &other)
                };
                Some(list.iter().any(|b| same(b) == Some(true)))
            }
            Self::Defined(path) => Some(resolve(path).is_some()),
            Self::Null(operand) => Some(operand.value(resolve)?.is_null()),
            Self::Truth(operand) => operand.value(resolve)?.as_bool(),
        }
    }
}

impl Operand {
    fn value(&self, resolve: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Path(path) => resolve(path),
            Self::Number(inner) => match inner.value(resolve)? {
                Value::String(text) => Some(text.trim().parse::<f64>().ok()?.into()),
                value => value.is_number().then_some(value),
            },
        }
    }
}

fn compare(a: &Value, comparison: Comparison, b: &Value) -> Option<bool> {
    use std::cmp::Ordering;
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        // Values of two types have no order, and are not equal.
        _ => return (comparison == Comparison::NotEqual).then_some(true),
    };
    Some(match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

/// Follows `a.b.c` into a value.
pub(crate) fn follow(mut value: &Value, path: &str) -> Option<Value> {
    for part in path.split('.').filter(|part| !part.is_empty()) {
        value = value.get(part)?;
    }
    Some(value.clone())
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Compare(Comparison),
    Sign(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\'' | '"' => quoted(rest, first)?,
            '(' | ')' | '[' | ']' | ',' => (Token::Sign(first), 1),
            '=' | '!' | '<' | '>' => comparison(rest)?,
            _ => word(rest)?,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let Some(end) = rest[1..].find(quote) else {
        return Err(format!("the text that begins at {rest:?} has no end"));
    };
    let text = rest[1..=end].to_owned();
    Ok((Token::Literal(text.into()), end + 2))
}

fn comparison(rest: &str) -> Result<(Token, usize), String> {
    let signs = [
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("!=", Comparison::NotEqual),
        ("<>", Comparison::NotEqual),
        ("=", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found = signs.into_iter().find(|(sign, _)| rest.starts_with(sign));
    let (sign, comparison) = found.ok_or_else(|| format!("{rest:?} is not understood"))?;
    Ok((Token::Compare(comparison), sign.len()))
}

fn word(rest: &str) -> Result<(Token, usize), String> {
    let good = |c: char| c.is_alphanumeric() || "$_-.+".contains(c);
    let length = rest.find(|c| !good(c)).unwrap_or(rest.len());
    let word = &rest[..length];
    if word.is_empty() {
        return Err(format!("{rest:?} is not understood"));
    }
    let token = match word.to_ascii_lowercase().as_str() {
        "true" => Token::Literal(true.into()),
        "false" => Token::Literal(false.into()),
        "null" => Token::Literal(Value::Null),
        _ => match word.parse::<f64>() {
            Ok(number) => Token::Literal(number.into()),
            Err(_) => Token::Word(word.to_owned()),
        },
    };
    Ok((token, length))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token.ok_or_else(|| "the condition ends too early".to_owned())
    }

    fn sign(&mut self, sign: char) -> Result<(), String> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            other => Err(format!("{other:?} stands where {sign:?} is expected")),
        }
    }

    /// Takes a keyword if it comes next.
    fn keyword(&mut self, keyword: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Condition, String> {
        let mut left = self.and()?;
        while self.keyword("or") {
            left = Condition::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Condition, String> {
        let mut left = self.not()?;
        while self.keyword("and") {
            left = Condition::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("a condition is at most {DEPTH_MAX} levels deep"));
        }
        let condition = if self.keyword("not") {
            Condition::Not(Box::new(self.not()?))
        } else if self.peek() == Some(&Token::Sign('(')) {
            self.at += 1;
            let inner = self.or()?;
            self.sign(')')?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn comparison(&mut self) -> Result<Condition, String> {
        if self.keyword("is_defined") {
            self.sign('(')?;
            let Token::Word(path) = self.next()? else {
                return Err("is_defined(..) needs a name".to_owned());
            };
            self.sign(')')?;
            return Ok(Condition::Defined(path));
        }
        if self.keyword("is_null") {
            self.sign('(')?;
            let operand = self.operand()?;
            self.sign(')')?;
            return Ok(Condition::Null(operand));
        }
        let left = self.operand()?;
        if self.keyword("in") {
            return Ok(Condition::In(left, self.list()?));
        }
        let Some(Token::Compare(comparison)) = self.peek().cloned() else {
            return Ok(Condition::Truth(left));
        };
        self.at += 1;
        Ok(Condition::Compare(left, comparison, self.operand()?))
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        self.sign('[')?;
        let mut list = vec![self.operand()?];
        while self.peek() == Some(&Token::Sign(',')) {
            self.at += 1;
            list.push(self.operand()?);
        }
        self.sign(']')?;
        Ok(list)
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.keyword("as_number") {
            self.sign('(')?;
            let Token::Word(path) = self.next()? else {
                return Err("as_number(..) needs a name".to_owned());
            };
            self.sign(')')?;
            return Ok(Operand::Number(Box::new(Operand::Path(path))));
        }
        match self.next()? {
            Token::Literal(value) => Ok(Operand::Literal(value)),
            Token::Word(path) => Ok(Operand::Path(path)),
            other => Err(format!("{other:?} stands where a value is expected")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(text: &str) -> bool {
        let values = json!({
            "site": "north", "level": 7, "on": true, "nothing": null,
            "tags": {"floor": 2}, "text": "12.5",
        });
        let condition = Condition::parse(text).unwrap();
        condition.holds(&|path| follow(&values, path))
    }

    #[test]
    fn comparisons_hold_as_in_the_service() {
        for text in [
            "site = 'north'",
            "site != \"south\" AND level >= 7",
            "tags.floor < 3 or missing = 1",
            "NOT (level > 8)",
            "level IN [1, 7]",
            "is_defined(tags.floor) and not is_defined(tags.room)",
            "as_number(text) > 12",
            "is_null(nothing)",
            "on",
            "true",
            "site <> 3",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_neither_true_nor_false() {
        for text in [
            "missing = 1",
            "NOT missing = 1",
            "missing",
            "site > 3",
            "missing <> 1",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_says_why() {
        for text in ["", "a =", "(a = 1", "a = 'x", "a = 1 b", "a in 1", ";"] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
        assert!(Condition::parse(&"(".repeat(5_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,60}") {
            let _ = Condition::parse(&text);
        }
    }
}
