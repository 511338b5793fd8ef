//! Pictures and keys, tried without a terminal.

use std::time::Duration;

use lineshaft_client::proto;
use proto::{Guarantees, Queue, QueueRates, Subscription, WorkerInfo};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

use super::draw::{self, Look};
use super::keys::Key;
use super::model::{Focus, Model, Switch, Wish};
use super::picture::Picture;
use super::{interval, text};
use crate::cli::{Exit, Failure};
use crate::clock::Instant;

const KEYS: Look = Look { has_colours: true, has_keys: true };

fn queue(name: &str, waiting: u64, sent: f64) -> Queue {
    let rates = Some(QueueRates { sent, ..QueueRates::default() });
    Queue { name: name.into(), waiting, workers: 1, rates, ..Queue::default() }
}

fn worker(name: &str) -> WorkerInfo {
    let subscriptions = vec![Subscription { queue: String::new(), names: vec!["add".into()], weight: 1 }];
    WorkerInfo {
        session_id: format!("session-{name}"),
        worker: name.into(),
        language: "python".into(),
        concurrency: 4,
        leases: 3,
        attached: true,
        subscriptions,
        ..WorkerInfo::default()
    }
}

fn picture() -> Picture {
    let info = proto::GetServerInfoResponse {
        version: "0.1.0".into(),
        default_queue: "main".into(),
        guarantees: Some(Guarantees {
            broker: "embedded".into(),
            ledger: "embedded".into(),
            backend: "embedded".into(),
            ..Guarantees::default()
        }),
        ..proto::GetServerInfoResponse::default()
    };
    let queues = vec![queue("mail", 7, 1.0), queue("batch", 30, 0.5), queue("media", 2, 9.0)];
    let workers = vec![worker("w2"), worker("w1")];
    Picture { url: "http://127.0.0.1:7340".into(), info, queues, workers, ..Picture::default() }
}

fn model() -> Model {
    let mut model = Model::default();
    model.show(picture());
    model
}

fn drawn(model: &mut Model, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now = Instant::now();
    let frame = terminal.draw(|frame| {
        let area = frame.area();
        draw::draw(frame.buffer_mut(), area, model, KEYS, now);
    });
    frame.unwrap().buffer.clone()
}

fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(model, width, height);
    (0..height).map(|y| text(&buffer, y).trim_end().to_owned()).collect()
}

/// Names of the queues, from the top.
fn order(model: &Model) -> Vec<&str> {
    model.picture.as_ref().unwrap().queues.iter().map(|queue| queue.name.as_str()).collect()
}

#[test]
fn a_picture_has_the_server_the_totals_and_both_tables() {
    let screen = screen(&mut model(), 100, 20);
    assert!(
        screen[0].starts_with("lineshaft 0.1.0  http://127.0.0.1:7340  store embedded  00:00:00 UTC"),
        "{screen:#?}"
    );
    assert!(screen[1].starts_with("total: 39 waiting  0 delayed  0 leased  10.5 sent/s"), "{screen:#?}");
    assert!(screen[1].ends_with("6 held by 2 workers"), "{screen:#?}");
    assert_eq!(screen[2], "Queues 3, by name");
    let mut nothing = Model::default();
    nothing.show(Picture::default());
    let empty = super::tests::screen(&mut nothing, 100, 20);
    assert!(empty[1].starts_with("total: 0 waiting  0 delayed  0 leased  0.0 sent/s"), "{empty:#?}");
    assert!(screen[3].starts_with("QUEUE ") && screen[3].contains("WAITING DELAYED LEASED"), "{screen:#?}");
    assert!(screen[4].starts_with("batch ") && screen[4].contains(" 30 "), "{screen:#?}");
    assert_eq!(screen[7], "Workers 2");
    let words: Vec<&str> = screen[9].split_whitespace().collect();
    assert_eq!(words, ["w1", "python", "3/4", "–", "main"], "{screen:#?}");
    assert!(screen[19].starts_with("q quit"), "{screen:#?}");
}

#[test]
fn no_size_is_too_small() {
    let mut model = model();
    for width in [1, 2, 7, 13, 20, 40, 80, 200] {
        for height in [1, 2, 3, 4, 5, 6, 9, 12, 24] {
            drawn(&mut model, width, height);
            drawn(&mut Model::default(), width, height);
        }
    }
    model.press(Key::Other);
    let small = screen(&mut model, 40, 6);
    assert!(small[2].starts_with("Workers") && small[5].starts_with("q quit"), "{small:#?}");
    let narrow = screen(&mut model, 80, 24).join("\n");
    for heading in ["QUEUE", "WAITING", "LEASED", "OLDEST", "FAILED/S", "HELD/SLOTS"] {
        assert!(narrow.contains(heading), "{heading}: {narrow}");
    }
}

#[test]
fn the_selected_queue_stays_selected_in_whatever_order() {
    let mut model = model();
    assert_eq!(order(&model), ["batch", "mail", "media"]);
    model.press(Key::Down);
    for (by, expected) in [
        ("waiting", ["batch", "mail", "media"]),
        ("oldest", ["batch", "mail", "media"]),
        ("leased", ["batch", "mail", "media"]),
        ("sent/s", ["media", "mail", "batch"]),
        ("name", ["batch", "mail", "media"]),
    ] {
        model.press(Key::Sort);
        assert_eq!((model.sort.name(), order(&model)), (by, expected.to_vec()));
        assert_eq!(order(&model)[model.queues.at()], "mail", "{by}");
    }
    let mut next = picture();
    next.queues.insert(0, queue("a-new-one", 0, 0.0));
    model.show(next.clone());
    assert_eq!(order(&model)[model.queues.at()], "mail");
    next.queues.retain(|queue| queue.name != "mail");
    model.show(next);
    assert_eq!(order(&model)[model.queues.at()], "media", "the row in its place");
    model.show(Picture::default());
    assert_eq!((model.queues.at(), model.press(Key::Pause), model.question()), (0, Wish::Nothing, None));
}

#[test]
fn a_queue_is_paused_only_after_a_yes() {
    let mut model = model();
    model.press(Key::Pause);
    assert_eq!(model.question().as_deref(), Some("pause queue batch? y/n"));
    assert!(screen(&mut model, 80, 24)[23].starts_with("pause queue batch? y/n"));
    // `q` is a no here, and does not end the program.
    assert_eq!((model.press(Key::Quit), model.question()), (Wish::Nothing, None));
    model.press(Key::Pause);
    assert_eq!(model.press(Key::Yes), Wish::Pause(Switch { queue: "batch".into(), pause: true }));
    model.done(Ok(Queue { paused: true, others_may_take: true, ..queue("batch", 30, 0.0) }));
    assert_eq!(model.told(), Some("batch is paused; other programs may take from it too and do not know of that"));
    assert!(screen(&mut model, 100, 24)[4].contains("paused for"), "at once, not with the next picture");
    model.press(Key::Pause);
    assert_eq!(model.question().as_deref(), Some("resume queue batch? y/n"));
    assert_eq!(model.press(Key::Yes), Wish::Pause(Switch { queue: "batch".into(), pause: false }));
    model.done(Err(Failure::new(Exit::Unavailable, "no server")));
    assert_eq!(model.told(), Some("no server"));
    model.press(Key::Other);
    assert_eq!((model.focus, model.told()), (Focus::Workers, None));
    model.press(Key::Pause);
    assert!(model.question().is_none() && model.told().is_some_and(|told| told.contains("only queues")));
    model.press(Key::Other);
    model.press(Key::Pause);
    assert_eq!(model.press(Key::Interrupt), Wish::Quit, "whatever is asked");
}

#[test]
fn long_lists_are_seen_through_a_window_that_follows() {
    let mut model = Model::default();
    let queues = (0..50).map(|n| queue(&format!("q{n:02}"), n, 0.0)).collect();
    model.show(Picture { queues, is_queues_cut: true, ..picture() });
    let first = screen(&mut model, 80, 24);
    let shown = first.iter().filter(|line| line.starts_with('q') && !line.starts_with("q quit")).count();
    assert!(first[2].starts_with(&format!("Queues 1–{shown} of 50 and more, which are left out")), "{first:#?}");
    assert!(first[1].starts_with("total at least: "), "{first:#?}");
    model.press(Key::PageDown);
    let next = screen(&mut model, 80, 24);
    assert!(next.iter().any(|line| line.starts_with(&format!("q{shown:02}"))), "{next:#?}");
    model.press(Key::Last);
    assert!(screen(&mut model, 80, 24).iter().any(|line| line.starts_with("q49")));
    model.press(Key::First);
    assert_eq!(screen(&mut model, 80, 24), first);
}

#[test]
fn a_server_that_is_away_leaves_its_last_picture_in_grey() {
    let mut model = model();
    let begun = Instant::now();
    model.lose(&Failure::new(Exit::Unavailable, "tcp connect error"), begun);
    model.lose(&Failure::new(Exit::Unavailable, "connection refused"), begun + Duration::from_secs(5));
    assert_eq!(model.away(begun + Duration::from_secs(7)), Some((Duration::from_secs(7), "connection refused")));
    let buffer = drawn(&mut model, 80, 24);
    assert!(text(&buffer, 4).starts_with("batch"), "the picture stays");
    assert!(text(&buffer, 23).starts_with("no answer for ") && text(&buffer, 23).contains("connection refused"));
    assert!(buffer.cell((0, 4)).unwrap().modifier.contains(Modifier::DIM));
    model.show(picture());
    assert!(!model.is_stale() && !drawn(&mut model, 80, 24).cell((0, 4)).unwrap().modifier.contains(Modifier::DIM));
}

#[test]
fn names_cannot_move_the_cursor_and_wide_signs_keep_their_place() {
    let mut model = Model::default();
    let queues = vec![queue("evil\x1b[2J", 1, 0.0), queue("日本", 2, 0.0)];
    model.show(Picture { queues, ..picture() });
    let screen = screen(&mut model, 80, 12);
    assert!(screen[4].starts_with("evil\\u{1b}[2J"), "{screen:#?}");
    assert!(screen[5].starts_with("日本 "), "{screen:#?}");
}

#[test]
fn an_interval_is_within_its_bounds() {
    assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
    assert!(interval("99ms").is_err_and(|why| why.contains("100 ms to 60 min")));
    assert!(interval("2h").is_err());
}
