//! `queues`, `tasks` and `dead list` on a terminal: tables as wide as that.

use crate::pty::{Pty, row};
use crate::scene::Scene;

fn screen(scene: &Scene, arguments: &[&str]) -> Pty {
    let url = scene.server.url();
    let mut pty = Pty::start(100, 30, &[arguments, &["--server", &url]].concat());
    let status = pty.ended();
    assert!(status.success(), "{}", pty.text());
    assert!((0..30).all(|line| !pty.screen().row_wrapped(line)), "wider than the terminal:\n{}", pty.text());
    pty
}

#[test]
fn tables_fit_the_terminal() {
    let scene = Scene::full();
    let queues = screen(&scene, &["queues"]);
    let headings = row(queues.screen(), "QUEUE");
    assert_eq!(headings[..6], ["QUEUE", "WAITING", "DELAYED", "LEASED", "OLDEST", "WORKERS"], "{}", queues.text());
    assert_eq!(row(queues.screen(), "media")[1..4], ["3", "1", "1"], "{}", queues.text());
    assert_eq!(row(queues.screen(), "mail")[1..4], ["2", "0", "0"], "{}", queues.text());
    assert!(queues.text().contains("no worker"), "{}", queues.text());

    let tasks = screen(&scene, &["tasks", "queue=media"]);
    let text = tasks.text();
    assert_eq!(row(tasks.screen(), "TASK")[..4], ["TASK", "NAME", "STATUS", "QUEUE"], "{text}");
    let with = |status: &str| tasks.lines().iter().filter(|line| line.contains(status)).count();
    assert_eq!((with("PENDING"), with("STARTED")), (4, 1), "{text}");

    let dead = screen(&scene, &["dead", "list"]);
    let text = dead.text();
    assert!(text.contains("DEAD ID") && text.contains("media"), "{text}");

    let workers = screen(&scene, &["workers"]);
    assert!(!row(workers.screen(), "painter").is_empty(), "{}", workers.text());
}
