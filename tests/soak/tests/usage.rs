//! The program's arguments and exit codes; what it does with good ones is tested with the service.

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_stamp-soak"))
        .args(arguments)
        .output()
        .expect("the program was built for this test");
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

#[test]
fn arguments_that_are_missing_or_wrong_are_named_and_end_with_2() {
    for (arguments, names) in [
        (&[][..], "--seconds"),
        (&["--seconds"], "--seconds"),
        (&["--seconds", "long"], "long"),
        (&["--minutes", "1"], "--minutes"),
    ] {
        let (code, errors) = run(arguments);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(names), "{errors}");
    }
}
