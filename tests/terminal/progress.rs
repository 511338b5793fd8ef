//! Long work shows how far it is, and leaves nothing of that behind.

use lineshaft_client::{Client, Task};

use crate::pty::Pty;
use crate::scene::Scene;

/// More than two pages of a purge.
const TASKS: usize = 2_500;

#[tokio::test]
async fn a_purge_shows_a_bar_that_is_gone_at_its_end() {
    let scene = Scene::empty();
    let client = Client::connect(scene.server.url()).await.unwrap();
    for sent in client.send_all((0..TASKS).map(|_| Task::new("nobody").queue("bulk"))).await {
        sent.unwrap();
    }
    let mut pty = Pty::start(100, 30, &["purge", "bulk", "--server", &scene.server.url()]);
    pty.until_text("end 2500 tasks of queue \"bulk\"? [y/N]");
    assert!(pty.written().contains("counting  1000 tasks so far"), "{:?}", pty.written());
    pty.keys("y\n");
    assert!(pty.ended().success(), "{}", pty.text());
    assert!(pty.written().contains("purging  [#########               ]  1000 of 2500 tasks"), "{:?}", pty.written());
    assert!(pty.lines().iter().any(|line| line == "2500 tasks purged"), "{}", pty.text());
    assert!(!pty.text().contains("[#"), "{}", pty.text());
}
