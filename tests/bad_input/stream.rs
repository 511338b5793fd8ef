//! The worker's stream and reports: broken protocol, unknown variants, leases that never were, deaf and silent clients.

use super::*;

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
    let beats = futures::stream::unfold((0u64, every), |(n, mut every)| async move {
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
    let mut told = server.workers().await.worker_lease(futures::stream::iter(said)).await.unwrap().into_inner();
    let mut acks = Vec::new();
    while let Some(told) = soon("the end", told.message()).await.unwrap() {
        if let Some(Told::ReportAck(ack)) = told.message {
            acks.push((ack.report_id.clone(), ack.verdict()));
        }
    }
    assert_eq!(acks, [("r".to_owned(), ReportVerdict::Superseded)]);
}
