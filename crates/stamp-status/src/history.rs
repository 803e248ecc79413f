//! The last minutes of a few counters: enough for a rate, a line, and "of late".

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::sample::{Sample, Samples};

/// How often a [`History`] wants to be told.
pub const EVERY: Duration = Duration::from_secs(2);
/// Most points that are kept: three minutes.
pub const POINTS_MAX: usize = 91;
/// How far apart the marks are that "of late" counts from.
const MARK_EVERY: Duration = Duration::from_secs(60);
/// Most marks: "of late" is at most so many minutes.
const MARKS_MAX: usize = 5;
/// Most series of one mark; the rest is not told apart from older ones.
const MARK_SERIES_MAX: usize = 10_000;

/// What is kept of one service, newest last.
#[derive(Debug, Clone, Default)]
pub struct History {
    points: VecDeque<Point>,
    marks: VecDeque<Mark>,
}

/// The sum of each counter that a line is drawn of.
#[derive(Debug, Clone)]
struct Point {
    at: Duration,
    sums: BTreeMap<&'static str, f64>,
}

/// The value of each series that is counted of late.
#[derive(Debug, Clone)]
struct Mark {
    at: Duration,
    values: BTreeMap<String, f64>,
}

impl History {
    /// Whether [`History::note`] will look at the series of `recent` at this time, as it does once a minute.
    #[must_use]
    pub fn is_mark_due(&self, at: Duration) -> bool {
        let last = self.marks.back().map(|mark| mark.at);
        last.is_none_or(|last| at >= last + MARK_EVERY)
    }

    /// Takes what the counters say `at` this time since the start of the process: the sums of `lines`,
    /// and each series of `recent`. Times ascend.
    pub fn note(
        &mut self,
        at: Duration,
        samples: &Samples,
        lines: &[&'static str],
        recent: &[&'static str],
    ) {
        let sums = lines.iter().map(|&name| (name, samples.sum(name)));
        let sums = sums.collect();
        self.points.push_back(Point { at, sums });
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        if !self.is_mark_due(at) {
            return;
        }
        let series = recent.iter().flat_map(|name| samples.of(name));
        let values = series
            .take(MARK_SERIES_MAX)
            .map(|sample| (key(sample), sample.value));
        let values = values.collect();
        self.marks.push_back(Mark { at, values });
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// How fast a counter grew over the last `window`, a second; `None` before the second point.
    #[must_use]
    pub fn rate(&self, name: &str, window: Duration) -> Option<f64> {
        let last = self.points.back()?;
        let from = last.at.saturating_sub(window);
        let first = self.points.iter().rev().skip(1);
        // The youngest point that is old enough, or the oldest there is.
        let mut first = first.skip_while(|point| point.at > from);
        let first = first.next().or_else(|| self.points.front())?;
        between(first, last, name)
    }

    /// How fast a counter grew between one point and the next, a second; oldest first.
    #[must_use]
    pub fn line(&self, name: &str) -> Vec<f64> {
        let pairs = self.points.iter().zip(self.points.iter().skip(1));
        pairs
            .filter_map(|(first, second)| between(first, second, name))
            .collect()
    }

    /// How much a series has grown since the oldest mark; all of it when it was not there then.
    #[must_use]
    pub fn recent(&self, sample: &Sample) -> f64 {
        let before = self.marks.front().and_then(|mark| {
            let before = mark.values.get(&key(sample));
            before.or_else(|| (mark.values.len() >= MARK_SERIES_MAX).then_some(&sample.value))
        });
        (sample.value - before.copied().unwrap_or(0.0)).max(0.0)
    }

    /// How long "of late" is at this time since the start.
    #[must_use]
    pub fn recent_span(&self, at: Duration) -> Duration {
        let oldest = self.marks.front().map_or(at, |mark| mark.at);
        at.saturating_sub(oldest)
    }
}

fn between(first: &Point, last: &Point, name: &str) -> Option<f64> {
    let seconds = last.at.saturating_sub(first.at).as_secs_f64();
    let grown = last.sums.get(name)? - first.sums.get(name)?;
    (seconds > 0.0).then(|| (grown / seconds).max(0.0))
}

/// One series' name in a mark.
fn key(sample: &Sample) -> String {
    let mut key = sample.name.clone();
    for (label, value) in &sample.labels {
        key.push('\u{1}');
        key.push_str(label);
        key.push('\u{2}');
        key.push_str(value);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "events_total";

    fn samples(value: f64) -> Samples {
        let labels = BTreeMap::from([("reason".to_owned(), "too_deep".to_owned())]);
        let name = EVENTS.to_owned();
        std::iter::once(Sample {
            name,
            labels,
            value,
        })
        .collect()
    }

    fn grown(points: u32, by: f64) -> History {
        let mut history = History::default();
        for number in 0..points {
            let value = f64::from(number) * by;
            history.note(EVERY * number, &samples(value), &[EVENTS], &[EVENTS]);
        }
        history
    }

    #[test]
    fn a_rate_is_growth_by_time_over_what_is_known_of_the_window() {
        let history = grown(4, 10.0);
        assert_eq!(history.rate(EVENTS, Duration::from_secs(2)), Some(5.0));
        assert_eq!(history.rate(EVENTS, Duration::from_secs(600)), Some(5.0));
        assert_eq!(history.line(EVENTS), [5.0, 5.0, 5.0]);
        assert_eq!(grown(1, 10.0).rate(EVENTS, EVERY), None);
        assert_eq!(History::default().rate(EVENTS, EVERY), None);
        assert_eq!(history.rate("another", EVERY), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest() {
        let history = grown(1_000, 2.0);
        assert_eq!(history.points.len(), POINTS_MAX);
        assert_eq!(history.line(EVENTS).len(), POINTS_MAX - 1);
        assert_eq!(history.marks.len(), MARKS_MAX);
        let span = history.recent_span(EVERY * 999);
        assert!(
            span >= Duration::from_secs(240) && span <= Duration::from_secs(300),
            "{span:?}"
        );
    }

    #[test]
    fn of_late_is_since_the_oldest_mark_and_a_new_series_counts_whole() {
        let history = grown(1_000, 2.0);
        let now = samples(1_998.0);
        let seconds = history.recent_span(EVERY * 999).as_secs_f64();
        let known = now.of(EVENTS).next().unwrap();
        assert_eq!(history.recent(known), seconds);
        let new = Sample {
            name: EVENTS.into(),
            labels: BTreeMap::new(),
            value: 7.0,
        };
        assert_eq!(history.recent(&new), 7.0);
    }

    #[test]
    fn a_counter_that_went_back_has_no_negative_rate() {
        let mut history = grown(3, 10.0);
        history.note(EVERY * 3, &samples(0.0), &[EVENTS], &[EVENTS]);
        assert_eq!(history.rate(EVENTS, EVERY), Some(0.0));
    }
}
