//! `top`: what it shows, what its keys do, and how it ends.

use rustix::process::Signal;

use crate::pty::{Pty, row};
use crate::scene::Scene;

const COLUMNS: u16 = 100;
const LINES: u16 = 30;

fn top(scene: &Scene) -> Pty {
    let mut pty = Pty::start(COLUMNS, LINES, &["top", "--interval", "100ms", "--server", &scene.server.url()]);
    pty.until("the keys are told", |screen| row(screen, "q").starts_with(&["q".into(), "quit".into()]));
    pty.until("it is drawn to its end", is_whole);
    pty
}

/// Whether the last row is there; rows are written from the top, and not all at once.
fn is_whole(screen: &vt100::Screen) -> bool {
    row(screen, "painter").last().is_some_and(|word| word == "media")
}

/// Checks that the program ended well, and that the screen is the shell's again.
fn given_back(pty: &mut Pty) {
    let status = pty.ended();
    assert_eq!(status.code(), Some(0), "{}", pty.text());
    let screen = pty.screen();
    assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{:?}", pty.written());
}

#[test]
fn queues_and_workers_are_on_the_screen() {
    let scene = Scene::full();
    let mut pty = top(&scene);
    assert!(pty.screen().alternate_screen() && pty.screen().hide_cursor());
    assert!(!pty.is_as_a_shell_has_it(), "keys are not shown");
    let lines = pty.lines();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        lines[0].starts_with(&format!("lineshaft {version}  {}  store embedded", scene.server.url())),
        "{lines:#?}"
    );
    assert!(lines[1].starts_with("total: 5 waiting  1 delayed  1 leased"), "{lines:#?}");
    assert!(lines[1].ends_with("1 held by 1 worker"), "{lines:#?}");
    assert_eq!(lines[2], "Queues 2, by name");
    let headings = "QUEUE WAITING DELAYED LEASED OLDEST WORKERS SENT/S DONE/S FAILED/S NOTE";
    assert_eq!(row(pty.screen(), "QUEUE").join(" "), headings);
    let media = row(pty.screen(), "media");
    assert_eq!(media[1..4], ["3", "1", "1"], "{lines:#?}");
    let mail = row(pty.screen(), "mail");
    assert_eq!(mail[1..4], ["2", "0", "0"], "{lines:#?}");
    assert!(mail.ends_with(&["no".into(), "worker".into()]), "{lines:#?}");
    assert_eq!(row(pty.screen(), "WORKER").join(" "), "WORKER LANGUAGE HELD/SLOTS HEARD QUEUES");
    let painter = row(pty.screen(), "painter");
    assert_eq!(
        (painter[1..3].join(" ").as_str(), painter.last().unwrap().as_str()),
        ("rust 1/1", "media"),
        "{lines:#?}"
    );
    pty.keys("q");
    given_back(&mut pty);
}

#[test]
fn a_queue_is_paused_and_resumed_by_keys() {
    let scene = Scene::full();
    let mut pty = top(&scene);
    // Rows are `mail`, `media`: one down.
    pty.keys("\x1b[B");
    pty.keys("p");
    pty.until_text("pause queue media? y/n");
    pty.keys("n");
    pty.until_text("q quit");
    assert_eq!(scene.queue("media")["paused"], false);
    pty.keys("p");
    pty.until_text("pause queue media? y/n");
    pty.keys("y");
    pty.until_text("media is paused");
    assert_eq!((&scene.queue("media")["paused"], &scene.queue("mail")["paused"]), (&true.into(), &false.into()));
    pty.until("its row says so", |screen| row(screen, "media").iter().any(|word| word == "paused"));
    pty.keys("p");
    pty.until_text("resume queue media? y/n");
    pty.keys("y");
    pty.until_text("media is resumed");
    assert_eq!(scene.queue("media")["paused"], false);
    // Ctrl-C ends it, as it ends any program.
    pty.keys("\x03");
    given_back(&mut pty);
}

#[test]
fn the_terminal_is_given_back_whatever_ends_the_program() {
    let scene = Scene::full();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut pty = top(&scene);
        pty.signal(signal);
        given_back(&mut pty);
        assert_eq!(pty.written().matches("\x1b[?1049l").count(), 1, "once, and no more");
    }
}

#[test]
fn a_new_size_is_drawn_at_once_and_keys_sort_and_move() {
    let scene = Scene::full();
    let mut pty = top(&scene);
    pty.resize(80, 24);
    let is_small = |screen: &vt100::Screen| {
        let lines = crate::pty::lines(screen);
        lines[23].starts_with("q quit") && lines[2].starts_with("Queues 2") && is_whole(screen)
    };
    pty.until("it is drawn anew", is_small);
    assert!(row(pty.screen(), "media").len() > 5, "{}", pty.text());
    pty.keys("s");
    pty.until_text("Queues 2, by waiting");
    pty.until("three wait in one, two in the other", |screen| {
        let lines = crate::pty::lines(screen);
        let at = |name: &str| lines.iter().position(|line| line.starts_with(name));
        matches!((at("media"), at("mail")), (Some(media), Some(mail)) if media < mail)
    });
    pty.keys("\t");
    pty.keys("p");
    pty.until_text("only queues are paused");
    for (columns, lines) in [(20, 5), (1, 1), (100, 30)] {
        pty.resize(columns, lines);
    }
    pty.until("it fills the large screen again", |screen| crate::pty::lines(screen)[29].starts_with("only queues"));
    pty.keys("q");
    given_back(&mut pty);
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let mut scene = Scene::full();
    let mut pty = top(&scene);
    let is_dim = |screen: &vt100::Screen| screen.cell(4, 0).is_some_and(vt100::Cell::dim);
    assert!(!is_dim(pty.screen()));
    scene.server.kill();
    pty.until_text("no answer for");
    pty.until("the last picture stays, in grey", |screen| is_dim(screen) && row(screen, "media").len() > 5);
    scene.server.restart();
    pty.until("it is back, with what was there", |screen| {
        let is_answered = crate::pty::lines(screen)[29].starts_with("q quit");
        let (media, mail) = (row(screen, "media"), row(screen, "mail"));
        let is_there = media.get(2..4) == Some(&["1".into(), "1".into()]) && mail.get(1) == Some(&"2".into());
        is_answered && is_there && !is_dim(screen)
    });
    pty.keys("q");
    given_back(&mut pty);
}
