//! The numbers of a process at one moment.

use std::collections::BTreeMap;

/// One series and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty when it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Many series, by the name of their metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(BTreeMap<String, Vec<Sample>>);

impl FromIterator<Sample> for Samples {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut by_name: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for sample in samples {
            match by_name.get_mut(&sample.name) {
                Some(series) => series.push(sample),
                None => {
                    by_name.insert(sample.name.clone(), vec![sample]);
                }
            }
        }
        Self(by_name)
    }
}

impl Samples {
    /// The series of one metric.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.get(name).into_iter().flatten()
    }

    /// The sum over the series of one metric; 0 when it has none.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The highest value among the series of one metric.
    #[must_use]
    pub fn highest(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(f64::max)
    }

    /// The lowest value among the series of one metric.
    #[must_use]
    pub fn lowest(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(f64::min)
    }

    /// The series of one metric, added up by one of their labels.
    #[must_use]
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<&str, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            *sums.entry(sample.label(label)).or_default() += sample.value;
        }
        sums
    }

    /// The one series of `name` that is 1 for each value of `label`, as metrics tell a state: the word
    /// in `state`.
    #[must_use]
    pub fn states(&self, name: &str, label: &str, state: &str) -> BTreeMap<&str, &str> {
        let are = self.of(name).filter(|sample| sample.value > 0.5);
        are.map(|sample| (sample.label(label), sample.label(state)))
            .collect()
    }
}
