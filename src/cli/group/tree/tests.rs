//! Pictures of groups, tried without a terminal.

use super::super::super::top::text;
use super::*;

fn row(id: &str, status: TaskStatus) -> TaskState {
    TaskState { task_id: id.into(), task_name: "add".into(), status: status.into(), ..TaskState::default() }
}

fn group(kind: GroupKind, total: u32, ended: u32, failed: u32) -> Group {
    Group { group_id: "g".into(), kind: kind.into(), total, ended, failed, ..Group::default() }
}

/// The lines of a picture, a run of blanks as one.
fn lines(group: &Group, tasks: &[TaskState], height: u16) -> Vec<String> {
    let rows: Vec<Row> = tasks.iter().map(Row::of).collect();
    let view = View { group, rows: &rows, limit: 20, away: None };
    let buffer = draw(&view, 100, height, true);
    let words = |y| text(&buffer, y).split_whitespace().collect::<Vec<_>>().join(" ");
    (0..buffer.area().height).map(words).collect()
}

#[test]
fn a_chord_has_its_callback_below_its_tasks() {
    let mut chord = group(GroupKind::Chord, 3, 1, 0);
    chord.callback = Some(row("sum", TaskStatus::Pending));
    let tasks = [row("b", TaskStatus::Started), row("c", TaskStatus::Pending), row("a", TaskStatus::Success)];
    let picture = [
        "chord g [######## ] 1 of 3 have ended",
        "TASK NAME STATUS ATTEMPT SINCE RESULT",
        "├─ b add STARTED – –",
        "├─ c add PENDING – –",
        "├─ a add SUCCESS – –",
        "└─ then sum add PENDING – –",
    ];
    assert_eq!(lines(&chord, &tasks, 24), picture);
    assert_eq!(lines(&chord, &tasks, 6), picture, "it fits");
    let short = lines(&chord, &tasks, 5);
    assert_eq!(short[2..], ["├─ b add STARTED – –", "├─ … and 2 more", "└─ then sum add PENDING – –"]);
    assert_eq!(
        lines(&chord, &tasks, 4)[1..],
        ["├─ b add STARTED – –", "├─ … and 2 more", "└─ then sum add PENDING – –"]
    );
    for height in 0..4 {
        assert!(lines(&chord, &tasks, height).len() <= usize::from(height));
    }
}

#[test]
fn a_group_of_ten_thousand_is_as_high_as_there_is_room_or_as_was_asked() {
    let large = group(GroupKind::Group, 10_000, 2_500, 0);
    let tasks: Vec<TaskState> = (0..1_000).map(|n| row(&format!("t{n}"), TaskStatus::Pending)).collect();
    let low = lines(&large, &tasks, 10);
    assert_eq!((low.len(), low[8].as_str(), low[9].as_str()), (10, "├─ t6 add PENDING – –", "└─ … and 9,993 more"));
    assert_eq!(low[0], "group g [###### ] 2,500 of 10,000 have ended");
    let high = lines(&large, &tasks, 1_000);
    assert_eq!((high.len(), high[22].as_str()), (23, "└─ … and 9,980 more"), "20 were asked for");
    assert_eq!(lines(&large, &[], 10)[2..], ["└─ … and 10,000 more"], "none is known yet");
}

#[test]
fn a_chain_is_shown_where_it_has_come_to() {
    let chain = |done: u32| {
        let status = |n| match n {
            n if n < done => TaskStatus::Success,
            n if n == done => TaskStatus::Started,
            _ => TaskStatus::Pending,
        };
        let tasks: Vec<TaskState> = (0..100).map(|n| row(&format!("t{n}"), status(n))).collect();
        let firsts = lines(&group(GroupKind::Chain, 100, done, 0), &tasks, 8);
        let first = |line: &String| line.split(" add").next().map(str::to_owned).unwrap_or_default();
        firsts.iter().skip(2).map(first).collect::<Vec<_>>()
    };
    assert_eq!(chain(0), ["├─ t0", "├─ t1", "├─ t2", "├─ t3", "├─ t4", "└─ … and 95 more"]);
    assert_eq!(chain(50), ["├─ … 49 before", "├─ t49", "├─ t50", "├─ t51", "├─ t52", "└─ … and 47 more"]);
    assert_eq!(chain(100), ["├─ … 95 before", "├─ t95", "├─ t96", "├─ t97", "├─ t98", "└─ t99"]);
    let links = [row("x", TaskStatus::Success), row("y", TaskStatus::Pending)];
    let short = lines(&group(GroupKind::Chain, 2, 1, 0), &links, 24);
    assert_eq!(short[2..], ["├─ x add SUCCESS – –", "└─ y add PENDING – –"], "all of it, in order");
}

#[test]
fn what_failed_is_red_where_there_are_colours() {
    let mut bad = row("a", TaskStatus::Failure);
    bad.error = "no\nluck".into();
    let rows = [Row::of(&bad), Row::of(&row("b", TaskStatus::Success))];
    let group = group(GroupKind::Group, 1_000, 500, 1);
    let view = View { group: &group, rows: &rows, limit: 20, away: Some("connection refused") };
    let picture = |has_colours| draw(&view, 80, 24, has_colours);
    let red = |buffer: &Buffer, y: u16| -> String {
        (0..80).filter_map(|x| buffer.cell((x, y))).filter(|cell| cell.fg == Color::Red).map(|c| c.symbol()).collect()
    };
    let coloured = picture(true);
    assert_eq!(red(&coloured, 0), "#, 1 failed", "one cell of the bar at least");
    assert!(red(&coloured, 2).contains("FAILURE") && text(&coloured, 2).trim_end().ends_with("no luck"));
    assert!(red(&coloured, 3).is_empty() && red(&coloured, 4).is_empty());
    assert!(text(&coloured, 5).starts_with("no answer, trying again: connection refused"));
    let plain = picture(false);
    assert!((0..6).all(|y| red(&plain, y).is_empty() && text(&plain, y) == text(&coloured, y)));
    assert!(plain.cell((0, 2)).is_some_and(|cell| cell.modifier.contains(Modifier::BOLD)));
}

#[test]
fn no_width_and_no_height_is_too_small() {
    let mut chord = group(GroupKind::Chord, 3, 3, 3);
    chord.callback = Some(row("sum", TaskStatus::Failure));
    let rows = [Row::of(&row("a", TaskStatus::Failure))];
    for (width, height) in (0..20).flat_map(|width| (0..8).map(move |height| (width, height))) {
        let view = View { group: &chord, rows: &rows, limit: 20, away: Some("away") };
        let area = *draw(&view, width, height, true).area();
        assert!(area.width == width && area.height <= height);
    }
}
