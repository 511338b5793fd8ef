//! What a server says of itself, health, reflection, compression.

use std::time::Duration;

use futures::StreamExt;
use lineshaft_client::proto::task_service_client::TaskServiceClient;
use lineshaft_client::proto::worker_service_client::WorkerServiceClient;
use lineshaft_client::proto::*;
use tonic::Code;
use tonic::codec::CompressionEncoding::Gzip;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rooms::Room;
use crate::stubs::{Stubs, lease_request, span, success, task, text};
use crate::support::{Refusal, refusal};

macro_rules! cases {
    ($($of:tt)+) => {
        crate::rooms::cases!($($of)+, server:
            a_server_tells_its_stores_and_what_they_promise
            a_server_tells_its_limits
            every_service_is_healthy
            every_service_is_reflected
            messages_may_be_compressed_both_ways
        );
    };
}
pub(crate) use cases;

pub(crate) async fn a_server_tells_its_stores_and_what_they_promise(room: Room) {
    let server = room.serve().await;
    let stubs = Stubs::to(&server).await;
    let info = stubs.info().get_server_info(GetServerInfoRequest {}).await.expect("is answered").into_inner();
    assert_eq!((info.version.as_str(), info.default_queue.as_str()), (env!("CARGO_PKG_VERSION"), "machinery_tasks"));
    assert_eq!(info.features.iter().any(|feature| feature == "embedded"), cfg!(feature = "embedded"));
    let promised = info.guarantees.expect("is always set");
    assert_eq!([promised.broker.as_str(), &promised.ledger, &promised.backend], room.names);
    assert_eq!((promised.fused, promised.single_replica), (room.fused, room.single_replica));
    for sentence in [promised.durability, promised.delivery, promised.stale_results] {
        assert!(sentence.len() > 20, "{sentence:?}");
    }
}

pub(crate) async fn a_server_tells_its_limits(room: Room) {
    let server = room.serve_with(|config| config.limits.args_max = 3).await;
    let stubs = Stubs::to(&server).await;
    let info = stubs.info().get_server_info(GetServerInfoRequest {}).await.expect("is answered").into_inner();
    let expected = Limits {
        task_bytes_max: 1 << 20,
        result_bytes_max: 1 << 20,
        batch_max: 1000,
        args_max: 3,
        headers_max: 100,
        delay_max: Some(span(Duration::from_secs(365 * 86400))),
        session_leases_max: 10_000,
        message_bytes_max: 4 << 20,
        callback_depth_max: 16,
        group_tasks_max: 100_000,
        chain_tasks_max: 1000,
        sessions_max: 10_000,
        request_window: Some(span(Duration::from_secs(3600))),
    };
    assert_eq!(info.limits, Some(expected));
    // And it means them.
    stubs.send(Task { args: vec![text(""); 3], ..task("a") }).await;
    let status = stubs.try_send(Task { args: vec![text(""); 4], ..task("b") }).await.expect_err("is refused");
    assert_eq!(refusal(&status), Refusal::limit("task.args"));
}

const SERVICES: [&str; 4] = [
    "lineshaft.v1.TaskService",
    "lineshaft.v1.QueueService",
    "lineshaft.v1.WorkerService",
    "lineshaft.v1.ServerService",
];

pub(crate) async fn every_service_is_healthy(room: Room) {
    let server = room.serve().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES.into_iter().chain([""]) {
        let asked = health.check(HealthCheckRequest { service: service.into() }).await.expect("is answered");
        assert_eq!(asked.into_inner().status, 1, "{service:?} is SERVING");
    }
    let status = health.check(HealthCheckRequest { service: "none".into() }).await.expect_err("is unknown");
    assert_eq!(refusal(&status), Refusal::new(Code::NotFound, "SERVICE_UNKNOWN", ""));
}

// The two versions of the protocol have the same shape and no common types.
macro_rules! reflected {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let request = |message_request| tonic_reflection::pb::$version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message_request),
        };
        let symbols = SERVICES.map(|service| request(MessageRequest::FileContainingSymbol(service.into())));
        let asked = [request(MessageRequest::ListServices(String::new()))].into_iter().chain(symbols);
        let mut client = ServerReflectionClient::new($channel);
        let answered = client.server_reflection_info(futures::stream::iter(asked)).await.expect("is answered");
        let mut answers = answered.into_inner().map(|told| told.expect("lives").message_response.expect("is set"));
        let first = answers.next().await.expect("is listed");
        let MessageResponse::ListServicesResponse(listed) = first else { panic!("{first:?}") };
        for _ in SERVICES {
            let file = answers.next().await.expect("is described");
            assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
        }
        listed.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

pub(crate) async fn every_service_is_reflected(room: Room) {
    let server = room.serve().await;
    let new = reflected!(v1, server.channel().await);
    let old = reflected!(v1alpha, server.channel().await);
    for names in [new, old] {
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
        }
    }
}

pub(crate) async fn messages_may_be_compressed_both_ways(room: Room) {
    let server = room.serve().await;
    let channel = server.channel().await;
    let large = || text(&"compressible ".repeat(50_000));
    let mut tasks = TaskServiceClient::new(channel.clone()).send_compressed(Gzip).accept_compressed(Gzip);
    let request = SendTaskRequest { task: Some(Task { args: vec![large()], ..task("a") }) };
    tasks.send_task(request).await.expect("is accepted");
    let mut workers = WorkerServiceClient::new(channel).send_compressed(Gzip).accept_compressed(Gzip);
    let answer = workers.lease_tasks(lease_request(&["n"], 1)).await.expect("is answered");
    let lease = answer.into_inner().leases.remove(0);
    assert!(lease.args == [large()], "every byte is there");
    let report = crate::stubs::report(&lease, success([large()]));
    workers.report_tasks(ReportTasksRequest { reports: vec![report] }).await.expect("is recorded");
    let answer = tasks.wait_for_result(WaitForResultRequest { task_id: "a".into(), timeout: None }).await;
    let answer = answer.expect("ends");
    let encoding = answer.metadata().get("grpc-encoding").and_then(|value| value.to_str().ok());
    assert_eq!(encoding, Some("gzip"));
    assert!(answer.into_inner().state.expect("a state").results == [large()]);
    // Whoever does not ask for it is answered plainly.
    let plain = Stubs::to(&server).await;
    let answer = plain.tasks().get_state(GetStateRequest { task_id: "a".into() }).await.expect("is known");
    let encoding = answer.metadata().get("grpc-encoding").and_then(|value| value.to_str().ok());
    assert!(encoding.is_none_or(|encoding| encoding == "identity"), "{encoding:?}");
}
