//! `group --watch`: a tree that is drawn over as it goes on, and stays at its end.

use std::path::PathBuf;

use crate::pty::{Pty, lines, row};
use crate::scene::Scene;

const COLUMNS: u16 = 100;
const LINES: u16 = 24;

/// A chord of three, two of which are held until the file is gone; their worker is `painter`.
fn chord(scene: &mut Scene) -> PathBuf {
    let held = scene.dir().join("held");
    std::fs::write(&held, "").unwrap();
    // It ends when the directory is removed, should the test fail.
    let wait = format!("while [ -e {} ]; do sleep 0.1; done", held.display());
    scene.work(&["--concurrency", "3"], &format!("read args; case $args in *held*) {wait};; esac; echo 1"));
    let send = ["send", "paint", "quick", "--and", "paint", "held", "--and", "paint", "held", "--callback", "paint"];
    let sent = scene.run(&[&send[..], &["--queue", "media", "--id", "triptych"]].concat());
    assert!(sent.status.success(), "{sent:?}");
    held
}

fn watch(scene: &Scene) -> Pty {
    Pty::start(COLUMNS, LINES, &["group", "triptych", "--watch", "--server", &scene.server.url()])
}

/// How many tasks of the tree stand so, the callback not counted.
fn count(screen: &vt100::Screen, status: &str) -> usize {
    lines(screen).iter().filter(|line| !line.contains(" then ") && line.contains(&format!(" {status} "))).count()
}

#[test]
fn a_chord_is_a_tree_that_grows_and_stays() {
    let mut scene = Scene::empty();
    let held = chord(&mut scene);
    let mut pty = watch(&scene);
    pty.until("one has ended, two run, and the callback waits for them", |screen| {
        let head = lines(screen).first().is_some_and(|line| line.contains("1 of 3 have ended"));
        head && count(screen, "STARTED") == 2 && count(screen, "SUCCESS") == 1
    });
    let seen = pty.lines();
    assert!(seen[0].starts_with("chord triptych  [########                ]  1 of 3 have ended, sent "), "{seen:#?}");
    assert_eq!(row(pty.screen(), "TASK").join(" "), "TASK NAME STATUS ATTEMPT SINCE RESULT");
    assert!(seen[2].contains("STARTED") && seen[3].contains("STARTED"), "those that run are first: {seen:#?}");
    assert!(seen[4].contains("SUCCESS") && seen[5].starts_with("└─ then "), "{seen:#?}");
    assert!(pty.is_as_a_shell_has_it() && !pty.screen().alternate_screen() && !pty.screen().hide_cursor());
    // It is drawn as wide as the terminal has become.
    pty.resize(60, LINES);
    pty.until("it is drawn anew", |screen| {
        let lines = lines(screen);
        lines[0].ends_with('…') && lines[5].starts_with("└─ then ")
    });
    pty.resize(COLUMNS, LINES);
    std::fs::remove_file(held).unwrap();
    let status = pty.ended();
    assert_eq!(status.code(), Some(0), "{}", pty.text());
    let seen = pty.lines();
    assert!(seen[0].starts_with("chord triptych  [########################]  3 of 3 have ended"), "{seen:#?}");
    assert_eq!(count(pty.screen(), "SUCCESS"), 3, "{seen:#?}");
    assert!(seen[5].starts_with("└─ then ") && seen[5].contains(" SUCCESS "), "{seen:#?}");
    assert!(seen[6..].iter().all(String::is_empty), "nothing is left below, nor said twice: {seen:#?}");
    assert_eq!(pty.screen().cursor_position(), (6, 0), "the shell goes on below");
}

#[test]
fn an_interrupt_leaves_the_picture_and_a_clean_terminal() {
    let mut scene = Scene::empty();
    let _held = chord(&mut scene);
    let mut pty = watch(&scene);
    pty.until("it is drawn", |screen| count(screen, "STARTED") == 2 && count(screen, "SUCCESS") == 1);
    pty.keys("\x03");
    assert!(!pty.ended().success(), "it has not ended");
    let seen = pty.lines();
    assert!(seen[0].contains("1 of 3 have ended") && seen[5].starts_with("└─ then "), "{seen:#?}");
    assert!(!pty.screen().hide_cursor() && pty.screen().cursor_position().0 >= 6, "{seen:#?}");
}

#[test]
fn a_server_that_goes_away_is_waited_for_and_the_tree_goes_on() {
    let mut scene = Scene::empty();
    let _held = chord(&mut scene);
    let mut pty = watch(&scene);
    let is_whole = |screen: &vt100::Screen| count(screen, "STARTED") == 2 && count(screen, "SUCCESS") == 1;
    pty.until("it is drawn", is_whole);
    scene.server.kill();
    pty.until_text("no answer, trying again: ");
    assert!(is_whole(pty.screen()), "the tree stays: {}", pty.text());
    scene.server.restart();
    pty.until("it is as before", |screen| is_whole(screen) && lines(screen)[6..].iter().all(String::is_empty));
    let cancelled = scene.run(&["cancel", "--group", "triptych"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert_eq!(pty.ended().code(), Some(1), "{}", pty.text());
    assert!(pty.lines()[0].contains("3 of 3 have ended, 2 failed"), "{}", pty.text());
    assert_eq!(count(pty.screen(), "FAILURE"), 2, "{}", pty.text());
}
