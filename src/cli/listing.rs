//! What a listing prints, page after page: a table for people at its end, or at once one line of JSON for each item.

use comfy_table::Table;
use serde_json::Value;

use super::{Exit, Failure, output};

/// A listing on its way.
#[derive(Debug)]
pub struct Listing {
    json: bool,
    left: usize,
    shown: usize,
    /// A page had more than was left to show.
    is_cut: bool,
    table: Table,
}

impl Listing {
    /// A listing under these headings; of at most `limit` items, 0: of all.
    pub fn new<const N: usize>(json: bool, limit: usize, headings: [&str; N]) -> Self {
        let left = if limit == 0 { usize::MAX } else { limit };
        Self { json, left, shown: 0, is_cut: false, table: output::table(headings) }
    }

    /// How many more are to be shown.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Shows what is on a page.
    ///
    /// # Errors
    /// As [`output::line`].
    pub fn show<'a, T: 'a, const N: usize>(
        &mut self,
        page: impl IntoIterator<Item = &'a T>,
        row: impl Fn(&T) -> [String; N],
        to_json: impl Fn(&T) -> Value,
    ) -> Result<(), Failure> {
        for item in page {
            if self.left == 0 {
                self.is_cut = true;
                break;
            }
            self.left -= 1;
            self.shown += 1;
            if self.json {
                output::line(&to_json(item).to_string())?;
            } else {
                self.table.add_row(row(item));
            }
        }
        Ok(())
    }

    /// Whether to ask for the page of this token.
    pub fn wants(&self, next_page_token: &str) -> bool {
        !next_page_token.is_empty() && self.left > 0
    }

    /// Ends the listing, with the token of the page that would follow; says if not all is shown.
    ///
    /// # Errors
    /// As [`output::line`].
    pub fn end(self, next_page_token: &str) -> Result<Exit, Failure> {
        if !self.json {
            output::print_table(&self.table)?;
        }
        if self.is_cut || !next_page_token.is_empty() {
            output::remark(&format!("the first {} are shown; --limit 0 shows all", self.shown));
        }
        Ok(Exit::Ok)
    }
}
