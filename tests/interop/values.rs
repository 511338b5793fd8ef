//! Every type of argument and result, through both programs and back.

use lineshaft_client::proto::Arg;
use lineshaft_client::{IntoArg, Task};
use serde_json::{Value, json};

use crate::go;
use crate::ours::{self, Seen};
use crate::support::until::DEADLINE;
use crate::world::*;

/// An argument, and its value as Go writes it.
type Row = (Arg, Value);

fn row(value: impl IntoArg, json: &str) -> Row {
    (value.into_arg(), serde_json::from_str(json).unwrap())
}

fn labelled(label: &str, (arg, json): Row) -> Row {
    (Arg { r#type: label.to_owned(), ..arg }, json)
}

/// One of each type, in the order of the function `every_type`: the ends of what each can say.
fn highest() -> Vec<Row> {
    vec![
        row(true, "true"),
        row(isize::MAX, "9223372036854775807"),
        row(i8::MAX, "127"),
        row(i16::MAX, "32767"),
        row(i32::MAX, "2147483647"),
        row(i64::MAX, "9223372036854775807"),
        row(usize::MAX, "18446744073709551615"),
        row(u8::MAX, "255"),
        row(u16::MAX, "65535"),
        row(u32::MAX, "4294967295"),
        row(u64::MAX, "18446744073709551615"),
        row(f32::MAX, "3.4028235e+38"),
        row(1e21f64, "1e+21"),
        row("<&>\u{2028}\"\\\n\t\u{7f}é😀", r#""<&>\u2028\"\\\n\t\u007fé😀""#),
        row(vec![true, false], "[true,false]"),
        row(vec![isize::MIN, -1], "[-9223372036854775808,-1]"),
        row(vec![i8::MIN, 0, i8::MAX], "[-128,0,127]"),
        row(vec![i16::MIN], "[-32768]"),
        row(vec![i32::MIN], "[-2147483648]"),
        row(vec![i64::MIN, 9_007_199_254_740_993], "[-9223372036854775808,9007199254740993]"),
        row(vec![usize::MAX], "[18446744073709551615]"),
        labelled("[]uint8", row(vec![0u8, 1, 255, 254], r#""AAH//g==""#)),
        row(vec![u16::MAX, 0], "[65535,0]"),
        row(vec![u32::MAX], "[4294967295]"),
        row(vec![u64::MAX], "[18446744073709551615]"),
        row(vec![0.1f32, -1.5], "[0.1,-1.5]"),
        row(vec![0.1f64, 1e-7, 123_456_789.125], "[0.1,1e-7,123456789.125]"),
        row(vec!["", "b"], r#"["","b"]"#),
        row(vec![250u8, 0], r#""+gA=""#),
    ]
}

/// The same at the other ends, and nothing in the lists.
fn lowest() -> Vec<Row> {
    vec![
        row(false, "false"),
        row(isize::MIN, "-9223372036854775808"),
        row(i8::MIN, "-128"),
        row(i16::MIN, "-32768"),
        row(i32::MIN, "-2147483648"),
        row(i64::MIN, "-9223372036854775808"),
        row(0usize, "0"),
        row(0u8, "0"),
        row(0u16, "0"),
        row(0u32, "0"),
        row(0u64, "0"),
        row(-1e-7f32, "-1e-7"),
        row(5e-324f64, "5e-324"),
        row("", r#""""#),
        row(Vec::<bool>::new(), "[]"),
        row(Vec::<isize>::new(), "[]"),
        row(Vec::<i8>::new(), "[]"),
        row(Vec::<i16>::new(), "[]"),
        row(Vec::<i32>::new(), "[]"),
        row(Vec::<i64>::new(), "[]"),
        row(Vec::<usize>::new(), "[]"),
        labelled("[]uint8", row(Vec::<u8>::new(), r#""""#)),
        row(Vec::<u16>::new(), "[]"),
        row(Vec::<u32>::new(), "[]"),
        row(Vec::<u64>::new(), "[]"),
        row(Vec::<f32>::new(), "[]"),
        row(Vec::<f64>::new(), "[]"),
        row(Vec::<&str>::new(), "[]"),
        row(Vec::<u8>::new(), r#""""#),
    ]
}

/// As Go names the type of a result: it knows `[]byte` by its other name.
fn in_go(label: &str) -> &str {
    if label == "[]byte" { "[]uint8" } else { label }
}

fn as_go_tells(rows: &[Row]) -> Vec<(String, Value)> {
    rows.iter().map(|(arg, json)| (in_go(&arg.r#type).to_owned(), json.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_ours_is_given_what_machinery_sent_and_its_results_are_read_there() {
    needs_machinery!();
    let world = World::new().await;
    let seen = Seen::default();
    let worker = ours::run(ours::worker(&world).register_function("every_type", seen.echo()));
    let sets = [highest(), lowest()];
    let task = |rows: &Vec<Row>| {
        let args: Vec<_> = rows.iter().map(|(arg, json)| (arg.r#type.as_str(), json.clone())).collect();
        go::task("every_type", &args)
    };
    let ids = go::send(&world, &sets.iter().map(task).collect::<Vec<_>>()).await;
    let ended = go::results(&world, &ids).await;
    for ((rows, id), ended) in sets.iter().zip(&ids).zip(&ended) {
        assert_eq!((ended.state.as_str(), ended.name.as_str(), ended.error.as_str()), ("SUCCESS", "every_type", ""));
        assert_eq!(ended.results, as_go_tells(rows));
        let sent: Vec<Arg> = rows.iter().map(|(arg, _)| arg.clone()).collect();
        assert_eq!(seen.args(id), sent);
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_machinery_is_given_what_we_sent_and_its_results_are_read_here() {
    needs_machinery!();
    let world = World::new().await;
    let worker = go::Worker::start(&world, "go", 2, &["every_type"]).await;
    for rows in [highest(), lowest()] {
        let task = rows.iter().fold(Task::new("every_type"), |task, (arg, _)| task.arg(arg.clone()));
        let sent = world.client.send(task).await.unwrap();
        let state = sent.wait(DEADLINE).await.unwrap();
        let of_go = |(arg, _): &Row| Arg { r#type: in_go(&arg.r#type).to_owned(), ..arg.clone() };
        assert_eq!((state.error.as_str(), state.task_name.as_str()), ("", "every_type"));
        assert_eq!(state.results, rows.iter().map(of_go).collect::<Vec<_>>());
        let ended = go::result(&world, sent.id()).await;
        assert_eq!((ended.state.as_str(), ended.results), ("SUCCESS", as_go_tells(&rows)));
    }
    assert_eq!(worker.log(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_options_of_a_task_reach_the_other_side() {
    needs_machinery!();
    let world = World::new().await;
    let mut task = go::task("echo", &[("string", json!("a"))]);
    let headers = json!({"tenant": "t-1", "number": 1.50, "nested": {"a": [null]}});
    task["Headers"] = headers;
    task["RetryCount"] = json!(3);
    task["UUID"] = json!("an id of its own");
    let ids = go::send(&world, &[task]).await;
    assert_eq!(ids, ["an id of its own"]);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = ours::worker(&world).register("echo", move |context: lineshaft_client::Context, text: String| {
        let headers = ["tenant", "number", "nested"].map(|key| context.header(key).unwrap().to_string());
        let _ = tell.send((context.task_id().to_owned(), context.retries_left(), headers));
        async move { Ok::<String, lineshaft_client::Failure>(text) }
    });
    let worker = ours::run(worker);
    let (id, retries, headers) = crate::support::until::soon("an attempt", told.recv()).await.unwrap();
    assert_eq!((id.as_str(), retries), ("an id of its own", 3));
    assert_eq!(headers, [r#""t-1""#, "1.5", r#"{"a":[null]}"#]);
    assert_eq!(go::result(&world, &id).await.results, [("string".to_owned(), json!("a"))]);
    worker.stop().await;
}
