//! A server that goes away and comes back, or does not, while something is held or owed.

use super::*;

/// As `Bench::welcome` tells it.
const LEASE: Duration = Duration::from_secs(30);

/// A worker that works at `a`, and all it said has gone.
fn working(bench: &mut Bench) {
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a"]);
    bench.frames(LINK);
}

/// A worker whose report of `a` was sent and not answered.
fn owing() -> (Bench, Report) {
    let mut bench = Bench::attached(1);
    working(&mut bench);
    let key = bench.starts[0].0;
    bench.finish(key, success());
    let report = reports_in(&bench.frames(LINK)).remove(0);
    (bench, report)
}

#[test]
fn a_server_restarted_five_times_within_a_lease_time_costs_no_lease() {
    for seed in 0..200 {
        let mut bench = Bench::attached(1);
        bench.state = State::new(bench.now, config(1), 1, "w".into(), seed);
        bench.attach(LINK, &[]);
        working(&mut bench);
        let mut link = LINK;
        for restart in 0..5 {
            // Two seconds up, four seconds away: five of them fill one lease time.
            bench.pass(Duration::from_secs(2));
            bench.frames(link);
            bench.break_link(link);
            let gone_at = bench.now;
            let back_at = gone_at + Duration::from_secs(4);
            link = loop {
                let next = bench.next_connect();
                if bench.now >= back_at {
                    break next;
                }
                bench.break_link(next);
            };
            let silent = bench.now - gone_at;
            assert!(silent < LEASE / 2, "seed {seed}, restart {restart}: silent for {silent:?}");
            assert!(bench.now - back_at <= LEASE / 8, "seed {seed}, restart {restart}: found late");
            assert_eq!(bench.attach(link, &[("a", true)]).held, ["a"]);
        }
        assert_eq!((bench.starts.len(), bench.cancels.len()), (1, 0), "seed {seed}");
        let key = bench.starts[0].0;
        bench.finish(key, success());
        let reports = reports_in(&bench.frames(link));
        assert_eq!(reports.iter().map(|report| report.lease_id.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}

#[test]
fn a_report_is_sent_and_its_verdict_told_although_its_lease_was_not_kept() {
    for resumed in [true, false] {
        let (mut bench, report) = owing();
        bench.break_link(LINK);
        let link = bench.next_connect();
        assert_eq!(bench.greet(link).held, ["a"]);
        bench.welcome(link, resumed, &[("a", false)]);
        assert_eq!(reports_in(&bench.frames(link)), std::slice::from_ref(&report), "resumed: {resumed}");
        bench.acknowledge(link, &report, ReportVerdict::Superseded);
        assert_eq!(bench.settled, [("a".to_owned(), ReportVerdict::Superseded)]);
        assert!(bench.cancels.is_empty(), "nothing runs that could be cancelled");
    }
}

#[test]
fn a_stopping_worker_in_which_nothing_runs_waits_half_a_lease_time_for_its_verdicts() {
    let (mut bench, _) = owing();
    bench.break_link(LINK);
    bench.state.stop_softly();
    bench.tick();
    let stopped_at = bench.now;
    while !bench.is_finished {
        if let Some((link, _)) = bench.connects.pop() {
            bench.break_link(link);
        }
        let due = bench.state.next_due().expect("something is due until the end");
        bench.now = bench.now.max(due);
        bench.tick();
        assert!(bench.now - stopped_at <= LEASE / 2, "waits too long");
    }
    assert_eq!(bench.now - stopped_at, LEASE / 2);
    assert_eq!(bench.state.owed(), 1);
}

#[test]
fn what_still_runs_is_waited_for_without_that_bound() {
    let mut bench = Bench::attached(1);
    working(&mut bench);
    bench.state.stop_softly();
    bench.break_link(LINK);
    bench.pass(LEASE * 10);
    assert!(!bench.is_finished);
}

#[test]
fn a_server_that_answers_one_report_gets_the_time_for_the_next() {
    let mut bench = Bench::attached(2);
    bench.frames(LINK);
    bench.lease(LINK, 1, &["a", "b"]);
    bench.frames(LINK);
    for (key, _) in bench.starts.clone() {
        bench.finish(key, success());
    }
    let sent = reports_in(&bench.frames(LINK));
    bench.state.stop_softly();
    bench.tick();
    bench.pass(LEASE / 2 - Duration::from_secs(1));
    bench.acknowledge(LINK, &sent[0], ReportVerdict::Recorded);
    bench.pass(LEASE / 2 - Duration::from_secs(1));
    assert!(!bench.is_finished);
    bench.acknowledge(LINK, &sent[1], ReportVerdict::Recorded);
    assert!(bench.frames(LINK).iter().any(|frame| matches!(frame, FromWorker::Goodbye(_))));
    assert_eq!(bench.state.owed(), 0);
}
