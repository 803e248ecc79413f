//! Every reason has a page, and every page a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stamp_model::QuarantineReason;
use stamp_schema::RejectionCode;

fn codes() -> BTreeSet<String> {
    let rejected = RejectionCode::ALL.iter().map(|code| code.code());
    let quarantined = QuarantineReason::ALL.iter().map(|reason| reason.code());
    rejected.chain(quarantined).map(str::to_owned).collect()
}

#[test]
fn every_reason_has_a_page_and_every_page_a_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
        .filter(|name| name != "README")
        .collect();
    assert_eq!(pages, codes());

    let index = fs::read_to_string(folder.join("README.md")).unwrap();
    for code in codes() {
        assert!(
            index.contains(&format!("[{code}]({code}.md)")),
            "{code} is not in the index"
        );
        let page = fs::read_to_string(folder.join(format!("{code}.md"))).unwrap();
        assert!(
            page.starts_with(&format!("# {code}\n")),
            "{code} has another title"
        );
        for section in [
            "## Cause",
            "## Example",
            "## What to do",
            "## See it in SQL",
        ] {
            assert!(page.contains(section), "{code} has no section {section}");
        }
        assert!(
            page.contains(&format!("reason = '{code}'")),
            "{code} has another query"
        );
    }
}

#[test]
fn codes_are_snake_case_and_differ() {
    let codes: Vec<&str> = RejectionCode::ALL.iter().map(|code| code.code()).collect();
    for code in &codes {
        assert!(
            code.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'8'),
            "{code}"
        );
    }
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
}
