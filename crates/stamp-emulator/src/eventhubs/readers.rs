//! Who reads a partition: owner levels decide who may stay.

use std::sync::{Arc, OnceLock};

use super::signal::Signal;
use crate::amqp::performative::AmqpError;

/// Receivers without an owner level that one consumer group may have on a partition (Event Hubs
/// quotas).
const READERS_MAX: usize = 5;

/// What a link shares with the partition it reads.
#[derive(Debug)]
pub(crate) struct ReaderControl {
    /// The link's connection.
    pub(crate) signal: Arc<Signal>,
    ended: OnceLock<AmqpError>,
}

impl ReaderControl {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self {
            signal,
            ended: OnceLock::new(),
        }
    }

    /// Tells the link that it is over. The first reason stays.
    pub(crate) fn end(&self, error: AmqpError) {
        let _ = self.ended.set(error);
        self.signal.wake();
    }

    /// Why the link is over, once it is.
    pub(crate) fn ended(&self) -> Option<&AmqpError> {
        self.ended.get()
    }
}

/// One attached receiver.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) group: String,
    pub(crate) level: Option<i64>,
    pub(crate) control: Arc<ReaderControl>,
    /// It has read everything and waits to be woken.
    pub(crate) idle: bool,
}

/// Lets `new` in, displacing those it outranks; gives how many it displaced.
///
/// # Errors
/// What the new link is to be detached with: an owner of a higher level exists, or any owner while
/// the new one has no level, or there are too many readers without level.
pub(crate) fn admit(readers: &mut Vec<Registered>, new: Registered) -> Result<usize, AmqpError> {
    let group = || readers.iter().filter(|r| r.group == new.group);
    let owner = group().filter_map(|r| r.level).max();
    if owner > new.level {
        let text = match new.level {
            Some(level) => format!(
                "Receiver with epoch {level} is refused: epoch {} is attached",
                owner.unwrap_or_default()
            ),
            None => "At least one receiver with an epoch is attached to the partition: a receiver \
                     without epoch is not allowed"
                .to_owned(),
        };
        return Err(AmqpError::new("amqp:link:stolen", text));
    }
    let Some(level) = new.level else {
        if group().count() >= READERS_MAX {
            return Err(AmqpError::new(
                "amqp:resource-limit-exceeded",
                "Exceeded the maximum number of allowed receivers per partition in a consumer \
                 group which is 5",
            ));
        }
        readers.push(new);
        return Ok(0);
    };
    let text = format!("New receiver with higher or equal epoch {level} is created");
    let displaced = end_all(
        readers,
        &new.group,
        &AmqpError::new("amqp:link:stolen", text),
    );
    readers.push(new);
    Ok(displaced)
}

/// Ends every reader of `group`; gives how many there were.
pub(crate) fn end_all(readers: &mut Vec<Registered>, group: &str, error: &AmqpError) -> usize {
    let before = readers.len();
    readers.retain(|reader| {
        let stays = reader.group != group;
        if !stays {
            reader.control.end(error.clone());
        }
        stays
    });
    before - readers.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(group: &str, level: Option<i64>) -> Registered {
        let control = Arc::new(ReaderControl::new(Arc::new(Signal::default())));
        Registered {
            group: group.to_owned(),
            level,
            control,
            idle: false,
        }
    }

    fn condition(error: &AmqpError) -> &str {
        &error.condition
    }

    #[test]
    fn a_higher_or_equal_level_takes_the_partition() {
        let mut readers = Vec::new();
        assert_eq!(admit(&mut readers, reader("g", None)), Ok(0));
        assert_eq!(admit(&mut readers, reader("g", Some(0))), Ok(1));
        let first = readers[0].control.clone();
        assert_eq!(admit(&mut readers, reader("g", Some(0))), Ok(1));
        assert_eq!(first.ended().map(condition), Some("amqp:link:stolen"));
        assert_eq!(admit(&mut readers, reader("g", Some(7))), Ok(1));
        assert_eq!(readers.len(), 1);
    }

    #[test]
    fn a_lower_level_or_none_is_refused_while_an_owner_reads() {
        let mut readers = vec![reader("g", Some(3))];
        for level in [Some(2), None] {
            let refused = admit(&mut readers, reader("g", level));
            assert_eq!(refused.as_ref().map_err(condition), Err("amqp:link:stolen"));
        }
        assert!(readers[0].control.ended().is_none());
        assert_eq!(admit(&mut readers, reader("other", None)), Ok(0));
    }

    #[test]
    fn the_sixth_reader_without_level_is_refused() {
        let mut readers = Vec::new();
        for _ in 0..5 {
            assert_eq!(admit(&mut readers, reader("g", None)), Ok(0));
        }
        let refused = admit(&mut readers, reader("g", None));
        assert_eq!(
            refused.as_ref().map_err(condition),
            Err("amqp:resource-limit-exceeded")
        );
        assert_eq!(admit(&mut readers, reader("g", Some(1))), Ok(5));
    }
}
