use std::collections::BTreeSet;

use serde_json::Value;

use super::FILES;

fn boards() -> Vec<Value> {
    let texts = FILES.iter().map(|file| file.text().unwrap());
    texts
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect()
}

fn panels(board: &Value) -> &Vec<Value> {
    board["panels"].as_array().unwrap()
}

#[test]
fn the_committed_boards_are_current() {
    for file in FILES {
        let committed = crate::read(&crate::root().join(file.path)).unwrap();

        assert_eq!(
            committed,
            file.text().unwrap(),
            "{}: run `cargo xtask docs`",
            file.path
        );
    }
}

#[test]
fn names_are_unique_and_every_panel_says_what_it_means() {
    let boards = boards();
    let uids: BTreeSet<&str> = boards.iter().map(|b| b["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), boards.len());
    for board in &boards {
        let mut titles = BTreeSet::new();
        for panel in panels(board) {
            let title = panel["title"].as_str().unwrap();
            let row = panel["type"] == "row";
            assert!(row || titles.insert(title), "{}: {title}", board["title"]);
            assert!(
                row || panel["description"].as_str().unwrap().ends_with('.'),
                "{title}"
            );
            assert!(
                row || !panel["targets"].as_array().unwrap().is_empty(),
                "{title}"
            );
        }
    }
}

#[test]
fn no_two_panels_lie_on_each_other() {
    for board in &boards() {
        let mut taken = BTreeSet::new();
        for panel in panels(board) {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_runbook_that_a_panel_links_is_there() {
    for board in &boards() {
        for panel in panels(board) {
            for link in panel["links"].as_array().into_iter().flatten() {
                let url = link["url"].as_str().unwrap();
                let (_, path) = url.split_once("/blob/main/").unwrap();
                assert!(crate::root().join(path).is_file(), "{url}");
            }
        }
    }
}
