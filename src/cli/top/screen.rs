//! The terminal while `top` has it, and as it was before: given back at the end, however that comes.

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::{self, Look};
use super::model::Model;
use crate::clock::Instant;

/// Whether it is to be given back: once only, since a second time would move the cursor over what was printed since.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken. Given back when dropped.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
}

impl Screen {
    /// Takes the terminal: keys come one by one and are not shown, and the screen is one of its own.
    ///
    /// # Errors
    /// If there is no terminal, or it is gone.
    pub fn take(look: Look) -> io::Result<Self> {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // First, since what is printed on the screen of our own is gone with it.
            give_back();
            told(panic);
        }));
        // From here on dropping gives it back.
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, look };
        IS_TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Shows the model, in the size that the terminal has now.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, model: &mut Model, now: Instant) -> io::Result<()> {
        let look = self.look;
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw::draw(frame.buffer_mut(), area, model, look, now);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone needs nothing back.
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
}
