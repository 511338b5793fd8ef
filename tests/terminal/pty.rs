//! A terminal with a program in it: keys go in, and what the program writes is read as a terminal reads it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::time::Instant;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A program in a terminal. Killed when dropped.
pub struct Pty {
    master: File,
    /// Held open so that the modes of the terminal can be asked after the program's end.
    terminal: Option<OwnedFd>,
    child: Child,
    written: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// All that the program wrote.
    raw: Vec<u8>,
}

impl Pty {
    /// Starts `lineshaft` with these arguments in a terminal of `columns` by `lines`.
    pub fn start(columns: u16, lines: u16, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        // Held by a child it would keep the terminal from being hung up.
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(columns, lines)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        // Whoever runs the tests in the background may have them ignore interrupts; at a terminal nobody does.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_lineshaft")]);
        command.args(arguments).env_clear().env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        // A session of its own, with this terminal: it is told of new sizes, and /dev/tty is not that of the tests.
        // SAFETY: between fork and exec there are two system calls, neither of which allocates or locks.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (tell, written) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is its end too: nobody has the terminal open any more.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if tell.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let parser = vt100::Parser::new(lines, columns, 0);
        Self { master, terminal: Some(terminal), child, written, parser, raw: Vec::new() }
    }

    /// Waits until the screen is so.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self.parser.screen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.written.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("not within {DEADLINE:?}: {what}\n{}", self.text()),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before: {what}\n{}", self.text()),
            }
        }
    }

    /// Waits until the screen has this text, within one line.
    pub fn until_text(&mut self, text: &str) {
        self.until(text, |screen| lines(screen).iter().any(|line| line.contains(text)));
    }

    fn take(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.raw.extend_from_slice(bytes);
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal larger or smaller.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.parser.screen_mut().set_size(lines, columns);
        tcsetwinsize(&self.master, size(columns, lines)).unwrap();
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// True if keys are shown as they are typed, and come a line at a time: as a shell needs it.
    pub fn is_as_a_shell_has_it(&self) -> bool {
        let modes = tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits for the end of the program, and takes all that it wrote until then.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "not ended within {DEADLINE:?}:\n{}", self.text());
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert!(self.is_as_a_shell_has_it(), "the terminal is not given back");
        // Ours was the last, so that what was written comes to its end.
        drop(self.terminal.take());
        while let Ok(bytes) = self.written.recv_timeout(DEADLINE) {
            self.take(&bytes);
        }
        status
    }

    /// The screen now.
    pub fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        lines(self.screen())
    }

    /// The screen as a text, for people.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// All that was written, whether it is still seen or not.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a screen, without blanks at their ends.
pub fn lines(screen: &vt100::Screen) -> Vec<String> {
    let (_, columns) = screen.size();
    screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
}

/// The line that begins with this word, as its words; none if there is no such line.
pub fn row(screen: &vt100::Screen, first: &str) -> Vec<String> {
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    lines(screen)
        .into_iter()
        .map(words)
        .find(|words| words.first().is_some_and(|word| word == first))
        .unwrap_or_default()
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
