//! What should happen, case by case.

use super::*;

#[test]
fn credit_is_the_concurrency_then_one_more_for_each_lease_done_with() {
    let mut bench = Bench::attached(2);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(2));
    bench.lease(LINK, 1, &["a", "b"]);
    assert_eq!(credit_in(&bench.frames(LINK)), None);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn without_a_limit_the_credit_is_the_servers() {
    let mut bench = Bench::attached(0);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(100));
}

#[test]
fn nothing_starts_before_its_confirmation_has_gone() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    assert!(bench.starts.is_empty());
    let frames = bench.frames(LINK);
    assert!(frames.iter().any(|frame| matches!(frame, FromWorker::Accepted(accepted) if accepted.up_to == 1)));
    assert_eq!(bench.starts.len(), 1);
}

#[test]
fn an_offer_that_was_not_confirmed_starts_when_the_welcome_keeps_it() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.break_link(LINK);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[("a", true), ("b", false)]);
    assert_eq!(hello.held, ["a", "b"]);
    assert_eq!(bench.starts.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn one_after_another_means_one_at_a_time() {
    let mut bench = Bench::new(1, 1);
    bench.state.config.prefetch = 2;
    bench.attach(LINK, &[]);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
    bench.lease(LINK, 1, &["a", "b", "c"]);
    bench.frames(LINK);
    assert_eq!(bench.starts.len(), 1);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert_eq!(bench.starts.len(), 2);
}

#[test]
fn reports_are_sent_again_on_every_stream_until_acknowledged() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    for (key, _) in bench.starts.clone() {
        bench.finish(key, success());
    }
    let sent = reports_in(&bench.frames(LINK));
    assert_eq!(sent.len(), 2);
    bench.acknowledge(LINK, &sent[0], ReportVerdict::Recorded);
    bench.break_link(LINK);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[]);
    assert_eq!(hello.held, [sent[1].lease_id.clone()], "a lease without verdict is not given up");
    let again = reports_in(&bench.frames(link));
    assert_eq!(again, [sent[1].clone()]);
    bench.acknowledge(link, &again[0], ReportVerdict::Superseded);
    bench.break_link(link);
    let link = bench.next_connect();
    bench.attach(link, &[]);
    assert!(reports_in(&bench.frames(link)).is_empty());
}

#[test]
fn what_runs_goes_on_while_the_server_is_away() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    bench.pass(Duration::from_secs(3600));
    assert!(bench.cancels.is_empty());
    let key = bench.starts[0].0;
    bench.finish(key, success());
    assert!(bench.state.next_due().is_none_or(|due| due >= bench.now), "nothing is overdue while nothing can be sent");
}

#[test]
fn a_lease_that_is_not_kept_is_cancelled_and_its_failure_not_reported() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    let link = bench.next_connect();
    bench.attach(link, &[("a", false), ("b", false)]);
    assert_eq!(bench.cancels.len(), 2);
    // Both handlers still run: no room for others.
    assert_eq!(credit_in(&bench.frames(link)), None);
    let (first, second) = (bench.starts[0].0, bench.starts[1].0);
    bench.finish(first, Outcome::Failure { error: "told to stop".into(), is_final: false, retry_after: None });
    bench.finish(second, success());
    let frames = bench.frames(link);
    let reports = reports_in(&frames);
    assert_eq!(reports.len(), 1, "only the success is worth a try");
    assert_eq!(reports[0].lease_id, "b");
    assert_eq!(credit_in(&frames), Some(2));
}

#[test]
fn a_revoked_lease_is_not_held_any_more() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Revoke(Revoke { lease_id: "a".into(), reason: 1 }));
    assert_eq!(bench.cancels, [bench.starts[0].0]);
    bench.break_link(LINK);
    let link = bench.next_connect();
    assert_eq!(bench.greet(link).held, ["b"]);
}

#[test]
fn a_cancelled_lease_is_held_until_its_report() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    for lease_id in ["a", "unknown"] {
        let reason = RevokeReason::Cancelled.into();
        bench.receive(LINK, FromServer::Revoke(Revoke { lease_id: lease_id.into(), reason }));
    }
    let first = bench.starts[0].0;
    assert_eq!(bench.cancels, [first]);
    bench.finish(first, Outcome::Failure { error: "told to stop".into(), is_final: false, retry_after: None });
    let frames = bench.frames(LINK);
    let reports = reports_in(&frames);
    assert_eq!(reports.len(), 1, "the failure ends the task as cancelled");
    assert_eq!(reports[0].lease_id, "a");
}

#[test]
fn an_attempt_that_timed_out_is_held_until_its_report_or_until_the_server_reports_for_it() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    let revoke = |bench: &mut Bench, lease_id: &str, reason: RevokeReason| {
        bench.receive(LINK, FromServer::Revoke(Revoke { lease_id: lease_id.into(), reason: reason.into() }));
    };
    for lease_id in ["a", "b"] {
        revoke(&mut bench, lease_id, RevokeReason::TimedOut);
    }
    let (first, second) = (bench.starts[0].0, bench.starts[1].0);
    assert_eq!(bench.cancels, [first, second]);
    let failed = || Outcome::Failure { error: "told to stop".into(), is_final: false, retry_after: None };
    bench.finish(first, failed());
    assert_eq!(reports_in(&bench.frames(LINK)).len(), 1, "its failure is its report");
    revoke(&mut bench, "b", RevokeReason::Unknown);
    bench.finish(second, failed());
    assert!(reports_in(&bench.frames(LINK)).is_empty(), "the server has reported for it");
}

#[test]
fn what_timed_out_before_it_began_is_given_back() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.state.config.prefetch = 1;
    bench.tick();
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    let reason = RevokeReason::TimedOut.into();
    bench.receive(LINK, FromServer::Revoke(Revoke { lease_id: "b".into(), reason }));
    let reports = reports_in(&bench.frames(LINK));
    assert!(bench.cancels.is_empty());
    assert_eq!(reports.len(), 1);
    assert!(matches!(reports[0].outcome, Some(crate::proto::report::Outcome::Release(_))), "{reports:?}");
}

#[test]
fn a_lost_session_cancels_all_and_begins_anew() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.break_link(LINK);
    let link = bench.next_connect();
    assert!(bench.greet(link).resume.is_some());
    let lost = Closed { reason: Some(ErrorReason::LeaseLost), ..Closed::default() };
    bench.state.on_closed(bench.now, link, lost);
    bench.tick();
    assert_eq!(bench.cancels.len(), 1);
    let link = bench.next_connect();
    let hello = bench.attach(link, &[]);
    assert!(hello.resume.is_none() && hello.held.is_empty());
    // One slot is taken by the handler that has not ended yet.
    assert_eq!(credit_in(&bench.frames(link)), Some(1));
}

#[test]
fn silence_ends_a_stream_and_heartbeats_prevent_it_at_the_other_end() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.pass(Duration::from_secs(8));
    assert!(matches!(bench.frames(LINK)[..], [FromWorker::Heartbeat(_)]));
    assert!(bench.frames(LINK).is_empty());
    // Half way from the heartbeat after 8 s to the end of the leases after 30 s: there is time for another server.
    bench.pass(Duration::from_millis(10_999));
    assert!(bench.closes.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.closes, [LINK]);
    bench.next_connect();
}

#[test]
fn no_welcome_within_ten_seconds_is_the_next_address() {
    let mut bench = Bench::new(1, 2);
    bench.greet(LINK);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.closes, [LINK]);
    bench.next_connect();
    assert_eq!(bench.connects.iter().map(|(_, address)| *address).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn on_drain_the_next_stream_stands_before_the_old_one_goes() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Drain(Drain { deadline: None }));
    let next = bench.next_connect();
    let key = bench.starts[0].0;
    bench.finish(key, success());
    let report = reports_in(&bench.frames(LINK)).remove(0);
    let hello = bench.greet(next);
    assert!(hello.resume.is_some() && hello.held == [report.lease_id.clone()]);
    // An offer that crossed the hello goes back: it is not taken, so it cannot be run twice.
    bench.lease(LINK, 2, &["late"]);
    assert!(bench.state.held().is_empty());
    bench.welcome(next, true, &[]);
    // The answer on the old stream still counts.
    bench.acknowledge(LINK, &report, ReportVerdict::Recorded);
    assert!(bench.state.reports.is_empty());
    assert_eq!(credit_in(&bench.frames(next)), Some(2));
    assert!(bench.frames(LINK).is_empty());
    let connects = bench.connects.len();
    bench.break_link(LINK);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.connects.len(), connects, "the end of the old stream is no loss");
}

#[test]
fn a_draining_server_is_used_until_another_answers() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.receive(LINK, FromServer::Drain(Drain { deadline: None }));
    for _ in 0..5 {
        let next = bench.next_connect();
        bench.greet(next);
        let draining = Closed { reason: Some(ErrorReason::Draining), ..Closed::default() };
        bench.state.on_closed(bench.now, next, draining);
        bench.tick();
    }
    assert!(bench.cancels.is_empty());
    // What was offered while the hello was on its way went back; the server learns it from the list of all held.
    let next = bench.next_connect();
    bench.greet(next);
    bench.lease(LINK, 2, &["crossed"]);
    bench.break_link(next);
    let frames = bench.frames(LINK);
    let held = frames.iter().find_map(|frame| match frame {
        FromWorker::Heartbeat(heartbeat) => Some((heartbeat.accepted_up_to, heartbeat.held.clone())),
        _ => None,
    });
    assert_eq!(held, Some((2, vec!["a".to_owned()])));
}

#[test]
fn leases_beyond_the_credit_are_not_taken() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    let frames = bench.frames(LINK);
    assert!(frames.iter().any(|frame| matches!(frame,
        FromWorker::Heartbeat(heartbeat) if heartbeat.held == ["a"] && heartbeat.accepted_up_to == 2)));
    assert_eq!(bench.starts.len(), 1);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    // Numbers count what was sent, taken or not.
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn a_soft_stop_gives_back_what_has_not_begun_and_leaves_last() {
    let mut bench = Bench::new(1, 1);
    bench.state.config.prefetch = 1;
    bench.attach(LINK, &[]);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    bench.state.stop_softly();
    bench.tick();
    let frames = bench.frames(LINK);
    let released = reports_in(&frames);
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].lease_id, "b");
    assert_eq!(credit_in(&frames), None);
    bench.acknowledge(LINK, &released[0], ReportVerdict::Recorded);
    assert!(!bench.is_finished);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    let report = reports_in(&bench.frames(LINK)).remove(0);
    bench.acknowledge(LINK, &report, ReportVerdict::Recorded);
    assert!(matches!(bench.frames(LINK)[..], [FromWorker::Goodbye(_)]));
    bench.receive(LINK, FromServer::Goodbye(ServerGoodbye { reason: 1 }));
    assert!(bench.is_finished);
}

#[test]
fn a_hard_stop_gives_back_what_runs_and_ends_soon_without_a_server() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    bench.state.stop_hard(bench.now);
    bench.tick();
    assert_eq!(bench.aborts, [bench.starts[0].0]);
    assert_eq!(reports_in(&bench.frames(LINK)).len(), 1);
    assert!(!bench.is_finished);
    bench.pass(FLUSH_WAIT);
    assert!(bench.is_finished);
}

#[test]
fn a_worker_that_owes_nothing_ends_without_its_server() {
    let mut bench = Bench::attached(2);
    bench.break_link(LINK);
    bench.state.stop_softly();
    bench.tick();
    assert!(bench.is_finished);
}

#[test]
fn credit_waits_while_reports_pile_up() {
    let mut bench = Bench::attached(2);
    bench.state.config.report_bytes_max = 200;
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    let results = vec![crate::IntoArg::into_arg("x".repeat(300))];
    let key = bench.starts[0].0;
    bench.finish(key, Outcome::Success(results));
    let frames = bench.frames(LINK);
    assert_eq!(credit_in(&frames), None);
    bench.acknowledge(LINK, &reports_in(&frames)[0], ReportVerdict::Recorded);
    assert_eq!(credit_in(&bench.frames(LINK)), Some(3));
}

#[test]
fn unknown_variants_are_only_a_sign_of_life() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    for _ in 0..10 {
        bench.pass(Duration::from_secs(15));
        bench.state.on_frame(bench.now, LINK, WorkerLeaseResponse { message: None });
    }
    assert!(bench.closes.is_empty());
}

#[test]
fn progress_is_coalesced_and_cut() {
    let mut bench = Bench::attached(1);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
    let key = bench.starts[0].0;
    let progress = |bench: &mut Bench| {
        let frames = bench.frames(LINK);
        frames
            .into_iter()
            .filter_map(|frame| match frame {
                FromWorker::Progress(progress) => Some(progress),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    bench.state.on_progress(key, 0.1, "first".into());
    bench.state.on_progress(key, 7.0, "ü".repeat(1000));
    let sent = progress(&mut bench);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].fraction, sent[0].message.len()), (1.0, 1000));
    bench.state.on_progress(key, f64::NAN, "soon".into());
    assert!(progress(&mut bench).is_empty());
    bench.pass(Duration::from_millis(200));
    assert_eq!(progress(&mut bench)[0].fraction, 0.0);
}
