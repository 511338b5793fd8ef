//! The tasks that were seen of a group, a page at a time: of a large one those that are worth a line.

use std::collections::HashSet;

use lineshaft_client::proto::TaskState;

use super::tree::Row;

/// What is known of the tasks of a group. Pages are read one behind the other, and from the first again after the last.
#[derive(Debug, Default)]
pub struct Seen {
    pages: Vec<Vec<Row>>,
    /// Of the page that is to be read next.
    next: usize,
    page_token: String,
}

impl Seen {
    /// The token of the page that is to be read next; empty: the first.
    pub fn page_token(&self) -> &str {
        &self.page_token
    }

    /// True if it was read to its end since it was begun.
    pub fn is_at_start(&self) -> bool {
        self.next == 0 && !self.pages.is_empty()
    }

    /// Keeps what was read: in the order of the tasks if `in_order`, else the `most` of each page that are worth it.
    pub fn keep(&mut self, tasks: &[TaskState], next_page_token: String, in_order: bool, most: usize) {
        let mut rows: Vec<Row> = tasks.iter().map(Row::of).collect();
        if !in_order {
            // Stable: within a rank they stay in their order.
            rows.sort_by_key(Row::rank);
            rows.truncate(most);
        }
        match self.pages.get_mut(self.next) {
            Some(page) => *page = rows,
            None => self.pages.push(rows),
        }
        self.next += 1;
        if next_page_token.is_empty() {
            self.pages.truncate(self.next);
            self.next = 0;
        }
        self.page_token = next_page_token;
    }

    /// The tasks as they are to be shown.
    pub fn rows(&self, in_order: bool) -> Vec<Row> {
        // The bounds of pages move as results grow, so that one may be on two.
        let mut ids = HashSet::new();
        let mut rows: Vec<Row> =
            self.pages.iter().flatten().filter(|row| ids.insert(row.id.as_str())).cloned().collect();
        if !in_order {
            rows.sort_by_key(Row::rank);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use lineshaft_client::proto::TaskStatus;

    use super::*;

    fn tasks(range: std::ops::Range<u32>, status: TaskStatus) -> Vec<TaskState> {
        let task = |n| TaskState { task_id: format!("t{n}"), status: status.into(), ..TaskState::default() };
        range.map(task).collect()
    }

    fn ids(seen: &Seen, in_order: bool) -> Vec<String> {
        seen.rows(in_order).into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn those_that_failed_come_first_from_whatever_page() {
        let mut seen = Seen::default();
        seen.keep(&tasks(0..3, TaskStatus::Success), "1".into(), false, 2);
        assert!(!seen.is_at_start() && seen.page_token() == "1");
        let mut mixed = tasks(3..5, TaskStatus::Pending);
        mixed.extend(tasks(5..6, TaskStatus::Started));
        mixed.extend(tasks(6..7, TaskStatus::Failure));
        seen.keep(&mixed, String::new(), false, 3);
        assert_eq!(ids(&seen, false), ["t6", "t5", "t3", "t0", "t1"], "t2 and t4 are beyond what is kept of a page");
        assert!(seen.is_at_start() && seen.page_token().is_empty());
        // Read again it is as it is then, and what a page lost to another is there once.
        seen.keep(&tasks(0..1, TaskStatus::Failure), "1".into(), false, 2);
        seen.keep(&tasks(0..2, TaskStatus::Failure), String::new(), false, 2);
        assert_eq!(ids(&seen, false), ["t0", "t1"]);
    }

    #[test]
    fn links_stay_in_their_order_and_all_of_them() {
        let mut seen = Seen::default();
        let mut links = tasks(0..2, TaskStatus::Success);
        links.extend(tasks(2..3, TaskStatus::Failure));
        seen.keep(&links, String::new(), true, 1);
        assert_eq!(ids(&seen, true), ["t0", "t1", "t2"]);
    }
}
