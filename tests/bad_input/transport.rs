//! Below and beside the messages: bytes, methods, pages, HTTP, health, reflection, drain.

use super::*;

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
            "/lineshaft.v1.QueueService/ListQueues",
            ListQueuesRequest { page_size: 1001, ..Default::default() }.encode_to_vec(),
            Refusal::limit("page_size"),
        ),
        (
            "/lineshaft.v1.QueueService/ListQueues",
            ListQueuesRequest { page_token: "ff".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
        (
            "/lineshaft.v1.QueueService/ListQueues",
            ListQueuesRequest { name_prefix: "x".repeat(201), ..Default::default() }.encode_to_vec(),
            Refusal::limit("name_prefix"),
        ),
        (
            "/lineshaft.v1.QueueService/PauseQueue",
            PauseQueueRequest { queue: "x".repeat(201) }.encode_to_vec(),
            Refusal::limit("queue"),
        ),
        (
            "/lineshaft.v1.QueueService/PurgeQueue",
            PurgeQueueRequest { queue: "q".into(), page_size: 1001, ..Default::default() }.encode_to_vec(),
            Refusal::limit("page_size"),
        ),
        (
            "/lineshaft.v1.QueueService/PurgeQueue",
            PurgeQueueRequest { queue: "q".into(), page_token: "00ff".into(), ..Default::default() }.encode_to_vec(),
            Refusal::invalid("page_token"),
        ),
        (
            "/lineshaft.v1.QueueService/PurgeQueue",
            PurgeQueueRequest { queue: "q".into(), page_token: "00".repeat(9), ..Default::default() }.encode_to_vec(),
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
        futures::stream::iter([tonic_reflection::pb::v1::ServerReflectionRequest {
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
    let mut states =
        tasks.watch_state(WatchStateRequest { task_id: id.clone(), ..Default::default() }).await.unwrap().into_inner();
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
