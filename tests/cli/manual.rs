//! `completions`, `man`.

use crate::program::{lineshaft, stderr, stdout};

#[test]
fn shells_and_the_manual_know_every_command_but_the_hidden_ones() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&lineshaft(&["completions", shell]));
        assert!(script.contains("doctor") && script.contains("requeue"), "{shell}");
        assert!(!script.contains("demo-worker") && !script.contains("bench-part"), "{shell}");
    }
    assert!(stdout(&lineshaft(&["man"])).contains("lineshaft"));
    let dir = tempfile::tempdir().expect("a directory");
    let output = lineshaft(&["man", "--dir", &dir.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for page in ["lineshaft.1", "lineshaft-watch.1", "lineshaft-dead-requeue.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert!(!dir.path().join("lineshaft-demo-worker.1").exists());
}
