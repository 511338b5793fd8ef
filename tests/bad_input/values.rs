//! Fields: types, ranges, lengths, sizes, nesting, durations.

use super::*;

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
    assert_eq!(refused(&server, with(|t| t.request_id = long.clone())).await, Refusal::limit("task.request_id"));
    assert_eq!(refused(&server, with(|t| t.request_id = "a\u{7f}".into())).await, Refusal::invalid("task.request_id"));
    let keyed = |key: &str| Some(lineshaft_client::proto::Idempotency { key: key.into(), until: None });
    let of_key = "task.idempotency.key";
    assert_eq!(refused(&server, with(|t| t.idempotency = keyed(""))).await, Refusal::invalid(of_key));
    assert_eq!(refused(&server, with(|t| t.idempotency = keyed(&long))).await, Refusal::limit(of_key));
    let nested = with(|t| t.on_success = vec![with(|t| t.request_id = "r".into())]);
    assert_eq!(refused(&server, nested).await, Refusal::invalid("task.on_success[0].request_id"));
    send(&server, with(|t| t.id = "x".repeat(200))).await.unwrap();

    let mut tasks = server.tasks().await;
    for (task_id, expected) in [("", Refusal::invalid("task_id")), (&*long, Refusal::limit("task_id"))] {
        let task_id = task_id.to_owned();
        let one = tasks.get_state(GetStateRequest { task_id: task_id.clone() }).await.unwrap_err();
        assert_eq!(refusal(&one), expected);
        let watch =
            tasks.watch_state(WatchStateRequest { task_id: task_id.clone(), ..Default::default() }).await.unwrap_err();
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
        (with(|t| t.attempt_timeout = span(0, 0)), Refusal::invalid("task.attempt_timeout")),
        (with(|t| t.attempt_timeout = span(0, 99_999_999)), Refusal::invalid("task.attempt_timeout")),
        (with(|t| t.attempt_timeout = span(-1, 0)), Refusal::invalid("task.attempt_timeout")),
        (with(|t| t.attempt_timeout = span(i64::MAX, 0)), Refusal::limit("task.attempt_timeout")),
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
