//! What the keys of the terminal mean.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key means, before it is known whether a question is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Ctrl-C: end, whatever is asked.
    Interrupt,
    /// `q`.
    Quit,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// A window up.
    PageUp,
    /// A window down.
    PageDown,
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// To the other table.
    Other,
    /// `p`: pause the selected queue, or resume it.
    Pause,
    /// `s`: the next order of the queues.
    Sort,
    /// `y`.
    Yes,
    /// Any other key: means no, where something is asked.
    Any,
}

/// The key that was pressed; `None` for events that are none.
pub fn key(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
    if *kind == KeyEventKind::Release {
        return None;
    }
    let is_control = modifiers.contains(KeyModifiers::CONTROL);
    Some(match code {
        KeyCode::Char('c') if is_control => Key::Interrupt,
        // Keys such as Ctrl-P are not their letters.
        KeyCode::Char(_) if is_control || modifiers.contains(KeyModifiers::ALT) => Key::Any,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('p') => Key::Pause,
        KeyCode::Char('s') => Key::Sort,
        KeyCode::Char('y' | 'Y') => Key::Yes,
        KeyCode::Char('k') | KeyCode::Up => Key::Up,
        KeyCode::Char('j') | KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::First,
        KeyCode::End => Key::Last,
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => Key::Other,
        _ => Key::Any,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_with_control_are_not_themselves() {
        let pressed = |code, modifiers| key(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(pressed(KeyCode::Char('p'), KeyModifiers::NONE), Some(Key::Pause));
        assert_eq!(pressed(KeyCode::Char('p'), KeyModifiers::CONTROL), Some(Key::Any));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Interrupt));
        assert_eq!(key(&Event::Resize(1, 1)), None);
    }
}
