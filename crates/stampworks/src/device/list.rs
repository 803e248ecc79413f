//! Which devices are to be moved, as a person names them.

use std::path::Path;

use stamp_model::DeviceId;
use stamp_mover::Wanted;

use crate::exit::Failure;
use crate::fleet::files::read_text;

/// Largest list: a million lines with both ids.
const FILE_BYTES_MAX: usize = 300 << 20;

/// Devices by their ids.
pub(super) fn named(ids: &[String]) -> Result<Vec<Wanted>, Failure> {
    let parse = |id: &String| parse(id).map_err(Failure::because);
    ids.iter().map(parse).collect()
}

/// Devices of a file: an id a line, and its registration id after a space when DPS has another. Empty
/// lines and those that begin with `//` are passed over, since an id may begin with `#`.
pub(super) fn from_file(path: &Path) -> Result<Vec<Wanted>, Failure> {
    let text = read_text(path, FILE_BYTES_MAX)?;
    let mut wanted = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let parsed = parse(line);
        let place = |why| format!("{}, line {}: {why}", path.display(), index + 1);
        wanted.push(parsed.map_err(|why| Failure::because(place(why)))?);
    }
    Ok(wanted)
}

fn parse(line: &str) -> Result<Wanted, String> {
    let mut words = line.split_whitespace();
    let id = words.next().unwrap_or_default();
    let registration = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(format!(
            "{line:?}: a device id, and a registration id if it is another"
        ));
    }
    let device = DeviceId::parse(id.into()).map_err(|cause| cause.to_string())?;
    Ok(Wanted {
        device,
        registration,
    })
}

/// Devices that a query found.
pub(super) fn found(ids: Vec<DeviceId>) -> Vec<Wanted> {
    let wanted = |device| Wanted {
        device,
        registration: None,
    };
    ids.into_iter().map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_id_a_line_and_wrong_ones_are_told_by_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.txt");
        std::fs::write(&file, "// tested\n\npress-7\n#8 reg-8\n").unwrap();
        let wanted = from_file(&file).unwrap();
        let pair = |w: &Wanted| (w.device.as_str().to_owned(), w.registration.clone());
        let pairs: Vec<_> = wanted.iter().map(pair).collect();
        assert_eq!(pairs[0], ("press-7".to_owned(), None));
        assert_eq!(pairs[1], ("#8".to_owned(), Some("reg-8".to_owned())));
        for (bad, why) in [("a b c", "line 1: \"a b c\""), ("ok\nä", "line 2: ")] {
            std::fs::write(&file, bad).unwrap();
            let error = from_file(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
