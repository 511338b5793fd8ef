//! What the witness files prove, and nothing else: lost tasks, tasks that ended twice, tasks begun again while the first
//! worker was alive and its lease kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One line of a worker's file.
#[derive(Debug, Clone)]
struct Line {
    at: u128,
    event: String,
    task: String,
    lease: String,
}

fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split(' ');
        Some(Line {
            at: words.next()?.parse().ok()?,
            event: words.next()?.to_owned(),
            task: words.next()?.to_owned(),
            lease: words.next()?.to_owned(),
        })
    };
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("a torn line in a witness file: {line:?}"))).collect()
}

/// How many lines of an event a file has.
pub(crate) fn count(path: &Path, event: &str) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().matches(&format!(" {event} ")).count()
}

/// Ids that producers saw accepted.
pub(crate) fn accepted(paths: &[&Path]) -> Vec<String> {
    paths.iter().flat_map(|path| lines(path)).filter(|l| l.event == "accepted").map(|l| l.task).collect()
}

/// Tasks of which these files tell anything between two moments.
#[cfg(feature = "redis")]
pub(crate) fn touched(paths: &[&Path], from: u128, until: u128) -> BTreeSet<String> {
    let all = || paths.iter().flat_map(|path| lines(path));
    let within: Vec<Line> = all().filter(|line| (from..=until).contains(&line.at)).collect();
    // A verdict names its lease only.
    let leases: BTreeSet<&str> = within.iter().map(|line| line.lease.as_str()).filter(|lease| *lease != "-").collect();
    let of_leases = all().filter(|line| line.task != "-" && leases.contains(line.lease.as_str()));
    within.iter().map(|line| line.task.clone()).chain(of_leases.map(|line| line.task)).collect()
}

/// What attempts of workflows were given: by task, the arguments of each attempt, once for each that was begun.
pub(crate) fn given(paths: &[&Path]) -> BTreeMap<String, Vec<String>> {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for words in text.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
            if let [_, "start", task, _, args] = words.as_slice() {
                let task = task.split('/').next().unwrap_or(task);
                given.entry(task.to_owned()).or_default().push((*args).to_owned());
            }
        }
    }
    given
}

/// One life of a worker process.
#[derive(Debug)]
pub(crate) struct Life<'a> {
    /// Its witness file.
    pub(crate) file: &'a Path,
    /// When it was killed, on the clock of the witnesses; `None`: it lives.
    pub(crate) killed_at: Option<u128>,
}

/// What was found wrong, and how much was looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Attempts begun.
    pub(crate) begun: usize,
    /// Attempts begun more than once for one task: allowed where the first worker was killed.
    pub(crate) again: usize,
    /// Those of them whose worker was not killed over the attempt before.
    pub(crate) again_though_alive: Vec<String>,
    /// Tasks with two recorded outcomes.
    pub(crate) ended_twice: Vec<String>,
    /// Tasks begun while another worker was alive with its lease kept.
    pub(crate) overlapped: Vec<String>,
}

/// Reads the files of all workers' lives.
pub(crate) fn check(lives: &[Life<'_>]) -> Findings {
    struct Attempt {
        from: u128,
        until: u128,
        lease: String,
        /// Nothing but the death of its worker ended it.
        killed: bool,
    }
    let mut attempts: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut findings = Findings::default();
    for life in lives {
        // An attempt is its worker's until a verdict came, the lease was lost, or the worker was killed.
        let mut until: BTreeMap<String, u128> = BTreeMap::new();
        let lines = lines(life.file);
        for line in &lines {
            if line.event == "lost" || line.event.starts_with("verdict:") {
                until.entry(line.lease.clone()).or_insert(line.at);
            }
            // A report that was recorded while the answer got lost is answered as a duplicate when it is repeated.
            if matches!(line.event.as_str(), "verdict:Recorded" | "verdict:Duplicate")
                && let Some(start) = lines.iter().find(|l| l.event == "start" && l.lease == line.lease)
            {
                recorded.entry(start.task.clone()).or_default().insert(line.lease.clone());
            }
        }
        for line in lines.into_iter().filter(|l| l.event == "start") {
            findings.begun += 1;
            let ended = until.get(&line.lease).copied();
            let killed = ended.is_none() && life.killed_at.is_some();
            let until = ended.or(life.killed_at).unwrap_or(u128::MAX);
            let attempt = Attempt { from: line.at, until, lease: line.lease, killed };
            attempts.entry(line.task).or_default().push(attempt);
        }
    }
    for (task, mut of_task) in attempts {
        of_task.sort_by_key(|a| a.from);
        findings.again += of_task.len() - 1;
        for (first, second) in of_task.iter().zip(of_task.iter().skip(1)) {
            if !first.killed {
                findings.again_though_alive.push(format!("{task}: {} after {}", second.lease, first.lease));
            }
            if second.from < first.until {
                findings.overlapped.push(format!("{task}: {} while {}", second.lease, first.lease));
            }
        }
    }
    findings.ended_twice = recorded.into_iter().filter(|(_, leases)| leases.len() > 1).map(|(task, _)| task).collect();
    findings
}

#[test]
fn the_checker_sees_what_it_should() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("can be written");
        path
    };
    let first = write("first", "10 start t l1\n20 start u l2\n30 end u l2\n40 verdict:Recorded u l2\n");
    let second = write("second", "50 start t l3\n60 verdict:Recorded t l3\n70 start u l4\n80 verdict:Recorded u l4\n");
    let killed = check(&[Life { file: &first, killed_at: Some(45) }, Life { file: &second, killed_at: None }]);
    assert!(killed.overlapped.is_empty(), "t was begun again after the kill: {killed:?}");
    assert_eq!((killed.begun, killed.again), (4, 2));
    assert_eq!(killed.ended_twice, ["u"]);
    assert_eq!(killed.again_though_alive, ["u: l4 after l2"]);
    let alive = check(&[Life { file: &first, killed_at: None }, Life { file: &second, killed_at: None }]);
    assert_eq!(alive.overlapped.len(), 1, "t was begun again while its worker lived");
    assert_eq!(alive.again_though_alive.len(), 2);
}
