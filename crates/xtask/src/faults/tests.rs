use super::*;

fn shown(text: &str) -> Result<Found> {
    let mut found = Found::new();
    shown_in("a.rs", text, &mut found).map(|()| found)
}

fn line(numbers: &str) -> String {
    format!("/// {} {numbers}\n", concat!("Fault ", "scenarios"))
}

#[test]
fn a_test_is_found_below_its_attributes_and_further_documentation() {
    let text = format!(
        "{}/// More.\n#[tokio::test(start_paused = true)]\nasync fn it_holds() {{",
        line("7, 8 and 12.")
    );
    let found = shown(&text).unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [7, 8, 12]);
    assert_eq!(found[&7][0].test, "it_holds");
}

#[test]
fn a_promise_of_a_suite_is_a_test() {
    let text = format!("{}pub(crate) async fn it_holds(lake: &Lake) {{", line("7."));
    assert_eq!(shown(&text).unwrap()[&7][0].test, "it_holds");
}

#[test]
fn a_line_that_names_no_scenario_or_stands_above_no_test_is_refused() {
    let test = "#[test]\nfn it_holds() {";
    for (text, says) in [
        (format!("{}{test}", line("0.")), "no fault scenario 0"),
        (format!("{}{test}", line("56.")), "no fault scenario 56"),
        (format!("{}{test}", line("7")), "full stop"),
        (format!("{}{test}", line("seven.")), "full stop"),
        (format!("{}fn helper() {{", line("7.")), "no test below"),
        (line("7."), "no test below"),
    ] {
        let error = shown(&text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn a_scenario_without_test_and_reason_is_named() {
    let mut found = Found::new();
    let shown = Shown {
        test: "it_holds".into(),
        path: "a.rs".into(),
    };
    for (number, scenario) in (1..).zip(SCENARIOS) {
        if number != 3 && scenario.untested.is_empty() {
            found.insert(number, vec![shown.clone()]);
        }
    }
    let error = render(SCENARIOS, &found).unwrap_err().to_string();
    assert!(error.ends_with("reason: 3"), "{error}");
    found.insert(3, vec![shown.clone(), shown]);
    let text = render(SCENARIOS, &found).unwrap();
    assert_eq!(text.matches("| 3 |").count(), 1);
    assert_eq!(SCENARIOS.len(), 55);
}

#[test]
fn the_published_matrix_is_what_the_tests_say() {
    let root = crate::root();
    let published = crate::read(&root.join(PATH)).unwrap();
    assert!(
        published == document(&root).unwrap(),
        "{PATH} is not current: run `cargo xtask docs`"
    );
}
