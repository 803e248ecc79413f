//! What was looked at, how it is, and what to do about it.

use std::error::Error;

use serde::Serialize;

use crate::exit::Failure;
use crate::output;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Good,
    /// Works, and a person should know.
    Warning,
    /// The service cannot do its work like this.
    Problem,
}

/// Which exit code a problem asks for; the gravest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Failed,
    Auth,
    Config,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Finding {
    /// What was looked at.
    what: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do; none when all is good.
    #[serde(rename = "do")]
    advice: Option<String>,
    #[serde(skip)]
    kind: Kind,
}

impl Finding {
    pub(super) fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict: Verdict::Good,
            found: found.into(),
            advice: None,
            kind: Kind::Failed,
        }
    }

    pub(super) fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            advice: Some(advice.into()),
            ..Self::good(what, found)
        }
    }

    pub(super) fn problem(
        kind: Kind,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Problem,
            advice: Some(advice.into()),
            kind,
            ..Self::good(what, found)
        }
    }
}

/// A configuration that cannot be used.
pub(super) fn config(cause: &dyn Error) -> Finding {
    let advice = "fix the key or the file that is named; docs/configuration-keys.md has every key";
    Finding::problem(Kind::Config, "configuration", chain(cause), advice)
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    stamp_consumer::chain(error).to_string()
}

/// Everything that was looked at, in that order.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn extend(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    fn count(&self, verdict: Verdict) -> usize {
        let like = |finding: &&Finding| finding.verdict == verdict;
        self.findings.iter().filter(like).count()
    }

    pub(super) fn print(&self) {
        for finding in &self.findings {
            let mark = match finding.verdict {
                Verdict::Good => "good   ",
                Verdict::Warning => "WARNING",
                Verdict::Problem => "PROBLEM",
            };
            output::line(&format!("{mark}  {}: {}", finding.what, finding.found));
            if let Some(advice) = &finding.advice {
                output::line(&format!("         do: {advice}"));
            }
        }
        output::line(&format!(
            "{} looked at, {} problems, {} warnings",
            self.findings.len(),
            self.count(Verdict::Problem),
            self.count(Verdict::Warning)
        ));
    }

    /// Warnings alone are no failure.
    ///
    /// # Errors
    /// With the exit code of the gravest problem: configuration, then credentials, then the rest.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        let problems = self.count(Verdict::Problem);
        let gravest = self
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Problem)
            .map(|finding| finding.kind)
            .max();
        match gravest {
            None => Ok(()),
            Some(kind) => Err(Failure::Unwell {
                problems,
                code: kind.into(),
            }),
        }
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed => 1,
            Kind::Config => 3,
            Kind::Auth => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report { findings }
    }

    #[test]
    fn warnings_alone_are_no_failure() {
        let found = vec![Finding::good("a", "b"), Finding::warning("a", "b", "c")];

        assert!(report(found).outcome().is_ok());
    }

    #[test]
    fn the_gravest_problem_gives_the_exit_code() {
        let problem = |kind| Finding::problem(kind, "a", "b", "c");
        for (kinds, code, problems) in [
            (vec![Kind::Failed], 1, 1),
            (vec![Kind::Auth, Kind::Failed], 4, 2),
            (vec![Kind::Failed, Kind::Config, Kind::Auth], 3, 3),
        ] {
            let failure = report(kinds.into_iter().map(problem).collect())
                .outcome()
                .unwrap_err();

            assert_eq!(failure.code(), code);
            assert!(failure.to_string().contains(&problems.to_string()));
        }
    }
}
