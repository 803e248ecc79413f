//! Reads the metrics of another process: one GET over plain HTTP, one attempt.
//!
//! For tools that look at a fleet from outside. It never repeats, follows no redirect, and reads a
//! bounded answer in a bounded time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use stamp_status::Sample;
use tokio::net::{TcpStream, lookup_host};

/// Largest answer that is read: 16 MiB, twenty times what a process with 1,024 partitions says.
pub const SCRAPE_BYTES_MAX: usize = 16 << 20;
/// Most addresses of one name that are looked at.
pub const ADDRESSES_MAX: usize = 1_024;

/// Why metrics could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// Not `http://host[:port]/path`. Asking again cannot help.
    #[error("{0:?} is no plain http:// address")]
    Address(String),
    /// The name has no address, or the resolver does not answer.
    #[error("cannot find {host}")]
    Name {
        /// Host and port.
        host: String,
        /// The resolver's answer.
        #[source]
        source: std::io::Error,
    },
    /// No connection.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what answers does not speak HTTP.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
    /// Another status than 200.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer broke off or is over [`SCRAPE_BYTES_MAX`].
    #[error("the answer broke off or is over 16 MiB")]
    Body(#[source] axum::Error),
    /// The answer is not in the text format of Prometheus.
    #[error("line {0} of the answer is no metric")]
    Format(usize),
    /// It took longer than allowed.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
}

/// Everything one process says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scrape {
    /// In the order of the answer.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// The series of one metric.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// The sum of the series of one metric; `None` when it has none.
    #[must_use]
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.of(name).map(|sample| sample.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Reads the text format of Prometheus, as far as this crate writes it.
    ///
    /// # Errors
    /// [`ScrapeError::Format`] with the number of the line.
    pub fn parse(text: &str) -> Result<Self, ScrapeError> {
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            samples.push(sample(line).ok_or(ScrapeError::Format(index + 1))?);
        }
        Ok(Self { samples })
    }
}

/// The addresses of the host of a URL: each process of a stamp has one, when the name is that of a
/// headless service. At most [`ADDRESSES_MAX`].
///
/// # Errors
/// [`ScrapeError::Address`] or [`ScrapeError::Name`].
pub async fn addresses(url: &str) -> Result<Vec<SocketAddr>, ScrapeError> {
    let (host, _) = parts(url)?;
    let found = lookup_host(host.clone()).await;
    let found = found.map_err(|source| ScrapeError::Name { host, source })?;
    let mut addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Reads the metrics at a URL from one of its addresses. Cancel safe: nothing is changed anywhere.
///
/// # Errors
/// Each variant of [`ScrapeError`] but `Name`; it was asked once.
pub async fn scrape(
    url: &str,
    address: SocketAddr,
    within: Duration,
) -> Result<Scrape, ScrapeError> {
    let exchange = tokio::time::timeout(within, get(url, address));
    let text = exchange
        .await
        .map_err(|_| ScrapeError::TimedOut(within))??;
    Scrape::parse(&text)
}

async fn get(url: &str, address: SocketAddr) -> Result<String, ScrapeError> {
    let (host, path) = parts(url)?;
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(ScrapeError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ScrapeError::Exchange)?;
    let request = Request::get(path)
        .header(header::HOST, &host)
        .body(Body::empty())
        .map_err(|_| ScrapeError::Address(url.to_owned()))?;
    let answer = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(ScrapeError::Exchange)?;
        if answer.status() != 200 {
            return Err(ScrapeError::Status(answer.status().as_u16()));
        }
        let body = axum::body::to_bytes(Body::new(answer.into_body()), SCRAPE_BYTES_MAX);
        let body = body.await.map_err(ScrapeError::Body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    // The connection has to be driven while the answer is read, and no longer.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        text = &mut answer => text,
        ended = &mut connection => {
            ended.map_err(ScrapeError::Exchange)?;
            answer.await
        }
    }
}

/// `host:port` and path of a URL.
fn parts(url: &str) -> Result<(String, String), ScrapeError> {
    let refuse = || ScrapeError::Address(url.chars().take(200).collect());
    let uri: Uri = url.parse().map_err(|_| refuse())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
    let host = host.ok_or_else(refuse)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((
        format!("{host}:{}", uri.port_u16().unwrap_or(80)),
        path.to_owned(),
    ))
}

/// `name{label="value",...} number`; a time stamp after it is not kept.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let name = line[..end].to_owned();
    let mut labels = BTreeMap::new();
    let mut rest = line[end..].trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = labelled(inner, &mut labels)?;
    }
    let value = match rest.split_ascii_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    named.then_some(Sample {
        name,
        labels,
        value,
    })
}

/// Reads labels up to their closing brace and returns what follows it.
fn labelled<'a>(mut rest: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_labels_and_a_value() {
        let text = "# HELP a b\n# TYPE a gauge\na 1\nb{x=\"1\",y=\"q\\\"}\\\\\\n\"} 2.5e3 99\nc{le=\"+Inf\"} +Inf\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.sum("a"), Some(1.0));
        let b = scrape.of("b").next().unwrap();
        assert_eq!(
            (b.labels["x"].as_str(), b.labels["y"].as_str()),
            ("1", "q\"}\\\n")
        );
        assert_eq!(b.value, 2_500.0);
        assert_eq!(scrape.sum("c"), Some(f64::INFINITY));
        assert_eq!(scrape.sum("d"), None);
    }

    #[test]
    fn what_is_no_metric_is_told_by_its_line() {
        for bad in [
            "<html>",
            "a",
            "a{x=\"1\" 2",
            "a{x} 1",
            "a one",
            "{x=\"1\"} 1",
        ] {
            let refused = Scrape::parse(&format!("ok 1\n{bad}\n"));
            assert!(
                matches!(refused, Err(ScrapeError::Format(2))),
                "{bad:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn only_a_plain_http_address_is_asked() {
        assert_eq!(
            parts("http://h/metrics").unwrap(),
            ("h:80".into(), "/metrics".into())
        );
        assert_eq!(
            parts("http://[::1]:9/m?x").unwrap(),
            ("[::1]:9".into(), "/m?x".into())
        );
        for bad in ["https://h/metrics", "h/metrics", "/metrics", "", "http://"] {
            assert!(
                matches!(parts(bad), Err(ScrapeError::Address(_))),
                "{bad:?}"
            );
        }
    }
}
