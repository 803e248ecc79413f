//! The real sensor series that the simulated devices send, embedded with their licence.
//!
//! Numenta Anomaly Benchmark, MIT; see `nab/LICENSE.txt`.

/// Values of one series in the order they were measured, as the text they were published with.
pub(crate) struct Series {
    values: Vec<&'static str>,
}

impl Series {
    fn parse(csv: &'static str) -> Self {
        // `timestamp,value` a line, a heading first; nothing is quoted in these files.
        let values = csv
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(','))
            .map(|(_, value)| value.trim());
        Self {
            values: values.collect(),
        }
    }

    /// The value at `index`, starting over at the end.
    pub(crate) fn at(&self, index: u64) -> &'static str {
        self.values[usize::try_from(index % self.values.len() as u64).unwrap_or(0)]
    }
}

macro_rules! series {
    ($($name:ident: $file:literal),* $(,)?) => {
        /// All series by what they measure.
        pub(crate) struct AllSeries { $(pub(crate) $name: Series),* }

        impl AllSeries {
            pub(crate) fn load() -> Self {
                Self { $($name: Series::parse(include_str!(concat!("../../nab/", $file, ".csv")))),* }
            }
        }
    };
}

series! {
    machine_temperature: "machine_temperature_system_failure",
    ambient_temperature: "ambient_temperature_system_failure",
    cpu: "cpu_utilization_asg_misconfiguration",
    occupancy_a: "occupancy_6005",
    occupancy_b: "occupancy_t4013",
    speed_a: "speed_6005",
    speed_b: "speed_7578",
    speed_c: "speed_t4013",
    travel_time_a: "TravelTime_387",
    travel_time_b: "TravelTime_451",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_series_is_a_finite_number() {
        let all = AllSeries::load();
        for series in [
            &all.machine_temperature,
            &all.ambient_temperature,
            &all.cpu,
            &all.occupancy_a,
            &all.occupancy_b,
            &all.speed_a,
            &all.speed_b,
            &all.speed_c,
            &all.travel_time_a,
            &all.travel_time_b,
        ] {
            assert!(series.values.len() > 1_000);
            assert!(
                series
                    .values
                    .iter()
                    .all(|v| v.parse::<f64>().is_ok_and(f64::is_finite))
            );
        }
    }

    #[test]
    fn a_series_starts_over_at_its_end() {
        let all = AllSeries::load();
        let length = all.speed_b.values.len() as u64;
        assert_eq!(all.speed_b.at(length + 3), all.speed_b.at(3));
        assert_eq!(all.speed_b.at(0), "73");
    }
}
