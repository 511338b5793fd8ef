//! What a client must not send, each with the code, the reason and the field it is answered with; and after each the
//! server serves on.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use lineshaft_client::proto::worker_lease_request::Message as Said;
use lineshaft_client::proto::worker_lease_response::Message as Told;
use lineshaft_client::proto::*;
use prost::Message;
use support::until::soon;
use support::{InProcess, Refusal, raw, refusal, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

fn named(name: &str) -> Task {
    Task { name: name.to_owned(), ..Default::default() }
}

fn with(change: impl FnOnce(&mut Task)) -> Task {
    let mut task = named("n");
    change(&mut task);
    task
}

fn arg(type_name: &str, value: arg::Value) -> Task {
    with(|t| t.args = vec![Arg { name: String::new(), r#type: type_name.to_owned(), value: Some(value) }])
}

fn header(key: &str, kind: value::Kind) -> Task {
    with(|t| t.headers = HashMap::from([(key.to_owned(), Value { kind: Some(kind) })]))
}

fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

async fn send(server: &InProcess, task: Task) -> Result<String, Status> {
    let sent = server.tasks().await.send_task(SendTaskRequest { task: Some(task) }).await;
    sent.map(|response| response.into_inner().task_id)
}

async fn refused(server: &InProcess, task: Task) -> Refusal {
    refusal(&send(server, task).await.unwrap_err())
}

/// The server takes a task, leases it, records its end and shows it.
async fn unharmed(server: &InProcess) {
    let task = Task { queue: "unharmed".to_owned(), ..named("unharmed") };
    let id = send(server, task).await.unwrap();
    let mut workers = server.workers().await;
    let subscriptions =
        vec![Subscription { queue: "unharmed".to_owned(), names: vec!["unharmed".to_owned()], weight: 0 }];
    let leased = workers.lease_tasks(LeaseTasksRequest { subscriptions, wait_max: span(10, 0), ..Default::default() });
    let leases = leased.await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 1);
    let outcome = report::Outcome::Success(Success { results: vec![] });
    let report = Report { report_id: String::new(), lease_id: leases[0].lease_id.clone(), outcome: Some(outcome) };
    let acks = workers.report_tasks(ReportTasksRequest { reports: vec![report] }).await.unwrap().into_inner().acks;
    assert_eq!(acks[0].verdict(), ReportVerdict::Recorded);
    let waited = WaitForResultRequest { task_id: id, timeout: span(10, 0) };
    let state = server.tasks().await.wait_for_result(waited).await.unwrap().into_inner().state.unwrap();
    assert_eq!(state.status(), TaskStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_their_types_are_refused_by_path() {
    use arg::Value::*;
    let server = InProcess::start().await;
    let cases = [
        (arg("complex128", Int64Value(1)), "task.args[0].type"),
        (arg("Int64", Int64Value(1)), "task.args[0].type"),
        (arg("int8", Int64Value(300)), "task.args[0].int64_value"),
        (arg("uint8", Int64Value(-1)), "task.args[0].int64_value"),
        (arg("int64", Uint64Value(u64::MAX)), "task.args[0].uint64_value"),
        (arg("", DoubleValue(f64::NAN)), "task.args[0].double_value"),
        (arg("", DoubleValue(f64::NEG_INFINITY)), "task.args[0].double_value"),
        (arg("float32", DoubleValue(1e39)), "task.args[0].double_value"),
        (arg("int64", StringValue("1".into())), "task.args[0].string_value"),
        (arg("", JsonValue("{}".into())), "task.args[0].json_value"),
        (
            arg("[]int8", Int64List(lineshaft_client::proto::Int64List { values: vec![0, 0, 0, 0, 0, 0, 0, 128] })),
            "task.args[0].int64_list.values[7]",
        ),
        (with(|t| t.args = vec![Arg::default()]), "task.args[0].value"),
        (with(|t| t.priority = 256), "task.priority"),
        (header("h", value::Kind::NumberValue("NaN".into())), r#"task.headers["h"].number_value"#),
        (header("lineshaft-message", value::Kind::BoolValue(true)), r#"task.headers["lineshaft-message"]"#),
        (with(|t| t.on_error = vec![named("ok"), arg("int9", Int64Value(1))]), "task.on_error[1].args[0].type"),
    ];
    for (task, field) in cases {
        let text = format!("{task:?}");
        assert_eq!(refused(&server, task).await, Refusal::invalid(field), "{text}");
    }
    let none = server.tasks().await.send_task(SendTaskRequest { task: None }).await.unwrap_err();
    assert_eq!(refusal(&none), Refusal::invalid("task"));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_0_and_201_bytes_are_refused() {
    let server = InProcess::start().await;
    let long = "x".repeat(201);
    assert_eq!(refused(&server, named("")).await, Refusal::invalid("task.name"));
    assert_eq!(refused(&server, named(&long)).await, Refusal::limit("task.name"));
    assert_eq!(refused(&server, with(|t| t.id = long.clone())).await, Refusal::limit("task.id"));
    assert_eq!(refused(&server, with(|t| t.queue = long.clone())).await, Refusal::limit("task.queue"));
    assert_eq!(refused(&server, with(|t| t.routing_key = long.clone())).await, Refusal::limit("task.routing_key"));
    assert_eq!(refused(&server, with(|t| t.id = "a b".into())).await, Refusal::invalid("task.id"));
    send(&server, with(|t| t.id = "x".repeat(200))).await.unwrap();

    let mut tasks = server.tasks().await;
    for (task_id, expected) in [("", Refusal::invalid("task_id")), (&*long, Refusal::limit("task_id"))] {
        let task_id = task_id.to_owned();
        let one = tasks.get_state(GetStateRequest { task_id: task_id.clone() }).await.unwrap_err();
        assert_eq!(refusal(&one), expected);
        let watch = tasks.watch_state(WatchStateRequest { task_id: task_id.clone() }).await.unwrap_err();
        assert_eq!(refusal(&watch), expected);
        let wait = WaitForResultRequest { task_id: task_id.clone(), timeout: None };
        assert_eq!(refusal(&tasks.wait_for_result(wait).await.unwrap_err()), expected);
        let several = GetStatesRequest { task_ids: vec!["ok".into(), task_id] };
        let field = refusal(&tasks.get_states(several).await.unwrap_err()).field;
        assert_eq!(field, "task_ids[1]");
    }
    let unknown = tasks.get_state(GetStateRequest { task_id: "never-sent".into() }).await.unwrap_err();
    assert_eq!(refusal(&unknown), Refusal::new(Code::NotFound, "TASK_UNKNOWN", ""));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_5_mib_are_refused_with_the_limit_however_they_are_packed() {
    let server = InProcess::start().await;
    let huge = || arg("", arg::Value::StringValue("x".repeat(5 << 20)));
    let status = send(&server, huge()).await.unwrap_err();
    assert_eq!(refusal(&status), Refusal::limit("message"));
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!((info.metadata["limit"].as_str(), info.metadata["unit"].as_str()), ("4194304", "bytes"));

    // 5 MiB of one letter are 5 KiB when compressed.
    let gzip = tonic::codec::CompressionEncoding::Gzip;
    let mut packed = server.tasks().await.send_compressed(gzip).accept_compressed(gzip);
    let status = packed.send_task(SendTaskRequest { task: Some(huge()) }).await.unwrap_err();
    assert_eq!(refusal(&status), Refusal::limit("message"));

    // Within the limit of a message, over that of a task.
    let large = arg("", arg::Value::StringValue("x".repeat(2 << 20)));
    let status = packed.send_task(SendTaskRequest { task: Some(large.clone()) }).await.unwrap_err();
    let told = refusal(&status);
    assert_eq!((told.code, told.reason.as_str()), (Code::InvalidArgument, "LIMIT_EXCEEDED"));
    assert!(told.field.starts_with("task"), "{told:?}");

    // In a batch only the item is refused.
    let request = SendTasksRequest { tasks: vec![named("a"), large, named(""), named("b")] };
    let results = packed.send_tasks(request).await.unwrap().into_inner().results;
    let reasons: Vec<String> = results
        .into_iter()
        .map(|r| match r.result.unwrap() {
            send_result::Result::TaskId(_) => "sent".to_owned(),
            send_result::Result::Error(e) => format!("{} {}", e.reason, e.field),
        })
        .collect();
    assert_eq!(reasons[0], "sent");
    assert!(reasons[1].starts_with("LIMIT_EXCEEDED"), "{reasons:?}");
    assert_eq!((reasons[2].as_str(), reasons[3].as_str()), ("TASK_INVALID name", "sent"));

    let many = SendTasksRequest { tasks: vec![named("n"); 1001] };
    assert_eq!(refusal(&packed.send_tasks(many).await.unwrap_err()), Refusal::limit("tasks"));
    let none = SendTasksRequest { tasks: vec![] };
    assert_eq!(refusal(&packed.send_tasks(none).await.unwrap_err()), Refusal::invalid("tasks"));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_is_refused_in_protobuf_and_in_json() {
    let server = InProcess::start().await;
    let callbacks = |levels| (0..levels).fold(named("leaf"), |inner, _| with(|t| t.on_success = vec![inner]));
    send(&server, callbacks(16)).await.unwrap();
    let told = refused(&server, callbacks(17)).await;
    assert_eq!((told.code, told.reason.as_str()), (Code::InvalidArgument, "LIMIT_EXCEEDED"));
    assert!(told.field.starts_with("task.on_success[0].on_success[0]"), "{told:?}");
    let malformed = Refusal::new(Code::InvalidArgument, "MESSAGE_MALFORMED", "");
    assert_eq!(refused(&server, callbacks(150)).await, malformed);

    let lists = |levels| {
        (0..levels).fold(value::Kind::BoolValue(true), |inner, _| {
            value::Kind::ListValue(ListValue { values: vec![Value { kind: Some(inner) }] })
        })
    };
    send(&server, header("h", lists(32))).await.unwrap();
    let told = refused(&server, header("h", lists(33))).await;
    assert_eq!((told.code, told.reason.as_str()), (Code::InvalidArgument, "LIMIT_EXCEEDED"));
    assert!(told.field.starts_with(r#"task.headers["h"].list_value.values[0]"#), "{told:?}");
    assert_eq!(refused(&server, header("h", lists(100))).await, malformed);
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_malformed_and_huge_durations_and_moments_are_refused() {
    let server = InProcess::start().await;
    let eta = |seconds, nanos| with(|t| t.eta = Some(prost_types::Timestamp { seconds, nanos }));
    let delay = |seconds, nanos| with(|t| t.delay = span(seconds, nanos));
    let cases = [
        (delay(-1, 0), Refusal::invalid("task.delay")),
        (delay(0, -1), Refusal::invalid("task.delay")),
        (delay(1, 1_000_000_000), Refusal::invalid("task.delay")),
        (delay(i64::MAX, 0), Refusal::limit("task.delay")),
        (delay(i64::MIN, i32::MIN), Refusal::invalid("task.delay")),
        (eta(-62_135_596_801, 0), Refusal::invalid("task.eta")),
        (eta(253_402_300_800, 0), Refusal::invalid("task.eta")),
        (eta(0, -1), Refusal::invalid("task.eta")),
        (with(|t| t.retry_timeout = span(1, 5)), Refusal::invalid("task.retry_timeout")),
        (with(|t| t.retry_timeout = span(31 * 86400, 0)), Refusal::limit("task.retry_timeout")),
        (with(|t| t.retry_count = u32::MAX), Refusal::limit("task.retry_count")),
    ];
    for (task, expected) in cases {
        let text = format!("{task:?}");
        assert_eq!(refused(&server, task).await, expected, "{text}");
    }
    let both = with(|t| (t.eta, t.delay) = (Some(prost_types::Timestamp::default()), span(1, 0)));
    assert_eq!(refused(&server, both).await, Refusal::invalid("task.delay"));
    let mut workers = server.workers().await;
    for (wait_max, expected) in [(span(-1, 0), Refusal::invalid("wait_max")), (span(61, 0), Refusal::limit("wait_max"))]
    {
        let request = LeaseTasksRequest { subscriptions: taking(&["n"]), wait_max, ..Default::default() };
        assert_eq!(refusal(&workers.lease_tasks(request).await.unwrap_err()), expected);
    }
    let wait = WaitForResultRequest { task_id: "t".into(), timeout: span(3601, 0) };
    assert_eq!(refusal(&server.tasks().await.wait_for_result(wait).await.unwrap_err()), Refusal::limit("timeout"));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_and_methods_that_are_none_are_told_so() {
    let server = InProcess::start().await;
    let channel = server.channel().await;
    let malformed = Refusal::new(Code::InvalidArgument, "MESSAGE_MALFORMED", "");
    let send_task = "/lineshaft.v1.TaskService/SendTask";
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x0a\x7f", b"\x0a\x02\x12\x05", b"\x0a\x03\x0a\x01\xff"] {
        let status = raw::unary(channel.clone(), send_task, Bytes::copy_from_slice(bytes)).await.unwrap_err();
        assert_eq!(refusal(&status), malformed, "{bytes:?}");
    }
    let unknown = Refusal::new(Code::Unimplemented, "METHOD_UNKNOWN", "");
    for path in ["/lineshaft.v1.TaskService/Nope", "/lineshaft.v9.TaskService/SendTask", "/x/y", "/x"] {
        let status = raw::unary(channel.clone(), path, Bytes::new()).await.unwrap_err();
        assert_eq!(refusal(&status), unknown, "{path}");
    }
    let mut packed = Request::new(Bytes::new());
    packed.metadata_mut().insert("grpc-encoding", "snappy".parse().unwrap());
    let status = raw::unary_request(channel.clone(), send_task, packed).await.unwrap_err();
    assert_eq!(refusal(&status), Refusal::new(Code::Unimplemented, "CAPABILITY_MISSING", ""));

    let pages = [
        (
            "/lineshaft.v1.QueueService/GetPendingTasks",
            GetPendingTasksRequest { page_size: 1001, ..Default::default() }.encode_to_vec(),
            Refusal::limit("page_size"),
        ),
        (
            "/lineshaft.v1.QueueService/GetPendingTasks",
            GetPendingTasksRequest { page_token: "zz".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
        (
            "/lineshaft.v1.QueueService/GetPendingTasks",
            GetPendingTasksRequest { page_token: "00ff".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
        (
            "/lineshaft.v1.QueueService/ListLeases",
            ListLeasesRequest { page_token: "00ff".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
        (
            "/lineshaft.v1.WorkerService/ListWorkers",
            ListWorkersRequest { page_token: "ff".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
    ];
    for (path, bytes, expected) in pages {
        let status = raw::unary(channel.clone(), path, bytes.into()).await.unwrap_err();
        assert_eq!(refusal(&status), expected, "{path}");
    }
    unharmed(&server).await;
}

fn taking(names: &[&str]) -> Vec<Subscription> {
    let names = names.iter().map(ToString::to_string).collect();
    vec![Subscription { queue: String::new(), names, weight: 0 }]
}

fn hello(names: &[&str]) -> Said {
    Said::Hello(Hello { worker: "w".into(), subscriptions: taking(names), ..Default::default() })
}

/// A stream of ours: what is said goes in, what is told comes out.
struct Talk {
    say: mpsc::Sender<WorkerLeaseRequest>,
    told: Streaming<WorkerLeaseResponse>,
}

impl Talk {
    async fn open(server: &InProcess) -> Self {
        let (say, said) = mpsc::channel(64);
        let told = server.workers().await.worker_lease(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, told }
    }

    async fn say(&self, message: Said) {
        self.say.send(WorkerLeaseRequest { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<Told>, Status> {
        let told = soon("the server says something", self.told.message()).await?;
        Ok(told.map(|t| t.message.expect("a message of this version")))
    }

    /// The end, after whatever else is told.
    async fn end(&mut self) -> Result<(), Status> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn welcome(&mut self) -> Welcome {
        match self.next().await.unwrap() {
            Some(Told::Welcome(welcome)) => welcome,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_the_protocol_ends_with_its_reason() {
    let server = InProcess::start().await;
    let violated = Refusal::new(Code::FailedPrecondition, "PROTOCOL_VIOLATED", "");

    let mut talk = Talk::open(&server).await;
    talk.say(Said::Credit(Credit { limit: 1 })).await;
    assert_eq!(refusal(&talk.end().await.unwrap_err()), violated);

    let mut talk = Talk::open(&server).await;
    talk.say(hello(&["n"])).await;
    talk.welcome().await;
    talk.say(hello(&["n"])).await;
    assert_eq!(refusal(&talk.end().await.unwrap_err()), violated);

    let mut talk = Talk::open(&server).await;
    talk.say(hello(&[])).await;
    assert_eq!(refusal(&talk.end().await.unwrap_err()), Refusal::invalid("hello.subscriptions[0].names"));

    let resume = Resume { session_id: "session_none".into(), secret: "wrong".into() };
    let mut talk = Talk::open(&server).await;
    talk.say(Said::Hello(Hello { subscriptions: taking(&["n"]), resume: Some(resume.clone()), ..Default::default() }))
        .await;
    assert_eq!(refusal(&talk.end().await.unwrap_err()), Refusal::new(Code::FailedPrecondition, "LEASE_LOST", ""));

    let mut workers = server.workers().await;
    let lost =
        workers.extend_leases(ExtendLeasesRequest { session: Some(resume), lease_ids: vec![] }).await.unwrap_err();
    assert_eq!(refusal(&lost), Refusal::new(Code::FailedPrecondition, "LEASE_LOST", ""));
    let none = workers.extend_leases(ExtendLeasesRequest::default()).await.unwrap_err();
    assert_eq!(refusal(&none), Refusal::invalid("session"));
    let repeated = LeaseTasksRequest { subscriptions: taking(&["n"]), request_id: "r".into(), ..Default::default() };
    assert_eq!(refusal(&workers.lease_tasks(repeated).await.unwrap_err()), Refusal::invalid("request_id"));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_variants_on_a_stream_are_ignored_and_bytes_that_are_none_end_it() {
    let server = InProcess::start().await;
    let (say, said) = mpsc::channel::<Bytes>(8);
    let path = "/lineshaft.v1.WorkerService/WorkerLease";
    let mut told = raw::stream(server.channel().await, path, ReceiverStream::new(said)).await.unwrap();
    let message = |message| Bytes::from(WorkerLeaseRequest { message: Some(message) }.encode_to_vec());
    say.send(message(hello(&["n"]))).await.unwrap();
    let first = soon("a welcome", told.message()).await.unwrap().unwrap();
    assert!(matches!(WorkerLeaseResponse::decode(first).unwrap().message, Some(Told::Welcome(_))));

    // Field 99, a string; and no field at all.
    say.send(Bytes::from_static(b"\x9a\x06\x03new")).await.unwrap();
    say.send(Bytes::new()).await.unwrap();
    say.send(message(Said::Heartbeat(Heartbeat { sequence: 7, ..Default::default() }))).await.unwrap();
    let ack = soon("an answer", told.message()).await.unwrap().unwrap();
    let ack = WorkerLeaseResponse::decode(ack).unwrap().message;
    assert_eq!(ack, Some(Told::HeartbeatAck(HeartbeatAck { sequence: 7 })));

    say.send(Bytes::from_static(b"\xff\xff")).await.unwrap();
    let status = soon("the end", told.message()).await.unwrap_err();
    assert_eq!(refusal(&status), Refusal::new(Code::InvalidArgument, "MESSAGE_MALFORMED", ""));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_for_leases_a_worker_never_had_are_superseded_on_every_way() {
    let server = InProcess::start().await;
    let never =
        ["5f3a9c1b2d3e4-0199a7c0ffee", "", "no lease", "0-0", "ffffffffffffffffff-a", "+1-a", &"x".repeat(1000)];
    let report = |lease_id: &str| Report {
        report_id: String::new(),
        lease_id: lease_id.to_owned(),
        outcome: Some(report::Outcome::Success(Success::default())),
    };
    let reports: Vec<Report> = never.iter().map(|id| report(id)).collect();
    let mut workers = server.workers().await;
    let acks = workers.report_tasks(ReportTasksRequest { reports: reports.clone() }).await.unwrap().into_inner().acks;
    assert_eq!(acks.len(), never.len());
    for (ack, id) in acks.iter().zip(never) {
        assert_eq!((ack.verdict(), ack.lease_id.as_str()), (ReportVerdict::Superseded, id));
    }

    let mut talk = Talk::open(&server).await;
    talk.say(hello(&["n"])).await;
    talk.welcome().await;
    talk.say(Said::Started(Started { lease_id: never[0].into() })).await;
    talk.say(Said::Progress(Progress { lease_id: never[2].into(), fraction: f64::NAN, message: "x".repeat(5000) }))
        .await;
    talk.say(Said::Heartbeat(Heartbeat {
        accepted_up_to: u64::MAX,
        sequence: 0,
        held: never.map(Into::into).to_vec(),
    }))
    .await;
    talk.say(Said::Accepted(Accepted { up_to: u64::MAX })).await;
    talk.say(Said::Credit(Credit { limit: u64::MAX })).await;
    talk.say(Said::Reports(ReportBatch { reports })).await;
    let mut open: Vec<&str> = never.to_vec();
    while !open.is_empty() {
        if let Some(Told::ReportAck(ack)) = talk.next().await.unwrap() {
            assert_eq!(ack.verdict(), ReportVerdict::Superseded);
            open.retain(|id| *id != ack.lease_id);
        }
    }
    let many = Said::Reports(ReportBatch { reports: vec![] });
    talk.say(many).await;
    assert_eq!(refusal(&talk.end().await.unwrap_err()), Refusal::invalid("reports.reports"));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_results_are_no_values_ends_the_attempt_with_the_field_at_fault() {
    let server = InProcess::start().await;
    let id = send(&server, with(|t| t.retry_count = 5)).await.unwrap();
    let mut talk = Talk::open(&server).await;
    talk.say(hello(&["n"])).await;
    talk.welcome().await;
    talk.say(Said::Credit(Credit { limit: 1 })).await;
    let lease = loop {
        if let Some(Told::Leases(leases)) = talk.next().await.unwrap() {
            assert_eq!((leases.first_number, leases.leases.len()), (1, 1));
            break leases.leases[0].clone();
        }
    };
    assert_eq!((lease.task_id.as_str(), lease.attempt, lease.retries_left), (id.as_str(), 1, 5));
    talk.say(Said::Accepted(Accepted { up_to: 1 })).await;
    let nan = Arg { value: Some(arg::Value::DoubleValue(f64::NAN)), ..Default::default() };
    let outcome = report::Outcome::Success(Success { results: vec![nan] });
    let report = Report { report_id: "r1".into(), lease_id: lease.lease_id, outcome: Some(outcome) };
    talk.say(Said::Report(report)).await;
    let verdict = loop {
        if let Some(Told::ReportAck(ack)) = talk.next().await.unwrap() {
            break ack;
        }
    };
    assert_eq!((verdict.verdict(), verdict.report_id.as_str()), (ReportVerdict::Recorded, "r1"));
    let waited = WaitForResultRequest { task_id: id, timeout: span(10, 0) };
    let state = server.tasks().await.wait_for_result(waited).await.unwrap().into_inner().state.unwrap();
    assert_eq!(state.status(), TaskStatus::Failure);
    assert!(state.error.contains("results[0].double_value"), "{}", state.error);
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_ended_and_holds_up_nobody() {
    let server = InProcess::with(|config| {
        config.limits.stall_max = "1s".parse().unwrap();
        config.leases.heartbeat_interval = "200ms".parse().unwrap();
        config.leases.lease_duration = "2s".parse().unwrap();
        config.leases.silence_max = "20s".parse().unwrap();
    })
    .await;
    let large = || arg("", arg::Value::StringValue("x".repeat(100 << 10)));
    for _ in 0..8 {
        let tasks = (0..20).map(|_| large()).collect();
        server.tasks().await.send_tasks(SendTasksRequest { tasks }).await.unwrap();
    }
    // The smallest windows, so that it is our buffers that fill and not those of the client's library.
    let endpoint = server.endpoint().initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut deaf = worker_service_client::WorkerServiceClient::new(endpoint.connect().await.unwrap());
    let every = tokio::time::interval(Duration::from_millis(50));
    let beats = stream::unfold((0u64, every), |(n, mut every)| async move {
        every.tick().await;
        let message = match n {
            0 => hello(&["n"]),
            1 => Said::Credit(Credit { limit: 10_000 }),
            n => Said::Heartbeat(Heartbeat { sequence: n, ..Default::default() }),
        };
        Some((WorkerLeaseRequest { message: Some(message) }, (n + 1, every)))
    });
    let mut unread = deaf.worker_lease(beats).await.unwrap().into_inner();
    let attached = async |workers: &mut worker_service_client::WorkerServiceClient<_>| {
        let listed = workers.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().workers;
        listed.first().map(|w| w.attached)
    };
    until("the deaf client holds leases", async || {
        let held = server.queues().await.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases;
        (!held.is_empty()).then_some(())
    })
    .await;
    // Others are served meanwhile.
    unharmed(&server).await;
    let mut other = server.workers().await;
    until("it is detached", async || (attached(&mut other).await != Some(true)).then_some(())).await;

    // Its heartbeats are not heard any more, so that others get what it held.
    let leased = until("its tasks are leased by another", async || {
        let request = LeaseTasksRequest {
            subscriptions: taking(&["n"]),
            tasks_max: 1000,
            wait_max: span(1, 0),
            ..Default::default()
        };
        let leases = server.workers().await.max_decoding_message_size(usize::MAX).lease_tasks(request).await;
        let leases = leases.unwrap().into_inner().leases;
        leases.iter().any(|l| l.attempt >= 1).then_some(leases.len())
    })
    .await;
    assert!(leased > 0);

    // When it reads at last, it is told why.
    let status = loop {
        match soon("the end", unread.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no reason was told"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status), Refusal::new(Code::ResourceExhausted, "SLOW_CONSUMER", ""));
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_left() {
    let server = InProcess::with(|config| {
        config.leases.heartbeat_interval = "100ms".parse().unwrap();
        config.leases.silence_max = "300ms".parse().unwrap();
    })
    .await;
    let mut talk = Talk::open(&server).await;
    talk.say(hello(&["n"])).await;
    let timing = talk.welcome().await.timing.unwrap();
    assert_eq!(timing.silence_max, span(0, 300_000_000));
    let mut words = 0;
    let status = loop {
        match talk.next().await {
            Ok(Some(Told::HeartbeatAck(_))) => words += 1,
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status), Refusal::new(Code::Cancelled, "CANCELLED", ""));
    assert!(words > 0, "the server was silent too");
    unharmed(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_told_to_a_client_that_has_stopped_sending() {
    let server = InProcess::start().await;
    let report = Report { report_id: "r".into(), lease_id: "1-a".into(), outcome: None };
    let said = [hello(&["n"]), Said::Report(report)].map(|m| WorkerLeaseRequest { message: Some(m) });
    let mut told = server.workers().await.worker_lease(stream::iter(said)).await.unwrap().into_inner();
    let mut acks = Vec::new();
    while let Some(told) = soon("the end", told.message()).await.unwrap() {
        if let Some(Told::ReportAck(ack)) = told.message {
            acks.push((ack.report_id.clone(), ack.verdict()));
        }
    }
    assert_eq!(acks, [("r".to_owned(), ReportVerdict::Superseded)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_bytes_on_the_port_harm_nothing() {
    let server = InProcess::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut torn = preface.to_vec();
    torn.extend([0xff; 64]);
    let mut huge_frame = preface.to_vec();
    huge_frame.extend(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01");
    let mut header_flood = b"GET / HTTP/1.1\r\n".to_vec();
    header_flood.extend(b"a: b\r\n".repeat(100_000));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let zeros = vec![0; 100_000];
    for garbage in [vec![], preface[..10].to_vec(), torn, huge_frame, header_flood, tls, noise, zeros] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        // The server may have closed it before all is written; that is its right.
        let _ = socket.write_all(&garbage).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("the connection ends", socket.read_to_end(&mut answer)).await;
    }
    // One that says nothing at all stays open and holds up nobody.
    let silent = TcpStream::connect(server.addr).await.unwrap();
    unharmed(&server).await;
    drop(silent);

    let get = async |path: &str| {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", socket.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/").await.contains("Lineshaft"));
    assert!(get("/nope").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_and_refuse_with_reasons() {
    let server = InProcess::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    for service in ["", "lineshaft.v1.TaskService", "lineshaft.v1.WorkerService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service:?}");
    }
    let request = tonic_health::pb::HealthCheckRequest { service: "nope".to_owned() };
    let status = health.check(request).await.unwrap_err();
    assert_eq!(refusal(&status), Refusal::new(Code::NotFound, "SERVICE_UNKNOWN", ""));

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = |m| {
        stream::iter([tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(m),
        }])
    };
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let listed = reflection.server_reflection_info(request(MessageRequest::ListServices(String::new()))).await.unwrap();
    let listed = listed.into_inner().next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = listed.service.into_iter().map(|s| s.name).collect();
    for name in lineshaft::api::SERVICES {
        assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
    }
    assert!(names.iter().any(|n| n == "grpc.health.v1.Health"), "{names:?}");

    let info = server.info().await.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.limits.unwrap().message_bytes_max, 4 << 20);
    assert!(info.guarantees.unwrap().fused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_says_so_to_all_and_stops() {
    let mut server = InProcess::with(|config| config.server.drain_deadline = "500ms".parse().unwrap()).await;
    let mut tasks = server.tasks().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    let mut watched = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(soon("health", watched.message()).await.unwrap().unwrap().status, 1);
    let id = send(&server, named("n")).await.unwrap();
    let mut states = tasks.watch_state(WatchStateRequest { task_id: id.clone() }).await.unwrap().into_inner();
    let first = soon("a state", states.message()).await.unwrap().unwrap().state.unwrap();
    assert_eq!(first.status(), TaskStatus::Pending);
    let mut waiter = tasks.clone();
    let waiting = tokio::spawn(async move {
        waiter.wait_for_result(WaitForResultRequest { task_id: id, timeout: span(60, 0) }).await
    });
    let mut talk = Talk::open(&server).await;
    talk.say(hello(&["other"])).await;
    talk.welcome().await;

    server.drain();
    let draining = Refusal::new(Code::Unavailable, "DRAINING", "");
    assert_eq!(soon("health", watched.message()).await.unwrap().unwrap().status, 2);
    assert_eq!(refusal(&soon("the watch ends", states.message()).await.unwrap_err()), draining);
    assert_eq!(refusal(&soon("the wait ends", waiting).await.unwrap().unwrap_err()), draining);
    assert!(matches!(talk.next().await.unwrap(), Some(Told::Drain(_))));
    let told = talk.next().await.unwrap();
    let Some(Told::Goodbye(goodbye)) = told else { panic!("{told:?}") };
    assert_eq!(goodbye.reason(), GoodbyeReason::Drained);
    talk.end().await.unwrap();
    server.stopped().await;
}
