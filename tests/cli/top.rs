//! `top` where there is no terminal: a picture, and what programs read.

use crate::program::{Server, stdout, until};

#[test]
fn a_picture_of_the_server_is_printed_where_there_is_no_terminal() {
    let server = Server::start();
    let (_worker, _) = server.work("echo", "cat");
    server.run(&["send", "nobody", "--queue", "media"]);
    until("the worker is there", || server.json(&["workers"]).len() == 1);
    let picture = stdout(&server.run(&["top"]));
    assert!(picture.starts_with(&format!("lineshaft {}  {}", env!("CARGO_PKG_VERSION"), server.url)), "{picture}");
    let row = picture.lines().find(|line| line.starts_with("media")).expect("its row");
    assert!(row.split_whitespace().nth(1) == Some("1") && row.ends_with("no worker"), "{picture}");
    assert!(picture.contains("\nWorkers 1\n") && !picture.contains('\x1b') && !picture.contains("quit"), "{picture}");

    let told = server.json(&["top", "--once"]);
    assert_eq!(told.len(), 1);
    let queues = told[0]["queues"].as_array().expect("queues");
    let media = queues.iter().find(|queue| queue["name"] == "media").expect("is there");
    let listed = &server.json(&["queues", "media"])[0];
    assert!(media.as_object().expect("members").keys().eq(listed.as_object().expect("members").keys()), "{media}");
    assert_eq!((&media["waiting"], &told[0]["more_queues"]), (&1.into(), &false.into()));
    assert_eq!(told[0]["workers"][0]["subscriptions"][0]["names"][0], "echo");
    assert_eq!(told[0]["server"]["broker"], "embedded");
}
