//! A terminal that a command runs on: what a person would see of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::sync::watch;

use super::PATIENCE;

/// Rows of the screen: more than any test fills.
const ROWS: u16 = 24;

/// A terminal's screen, drawn by what a command writes.
pub(crate) struct Terminal {
    keyboard: File,
    line: File,
    screen: watch::Receiver<Screen>,
}

/// What is on the screen.
#[derive(Clone, Default)]
pub(crate) struct Screen {
    /// All of it; a line that is wider than the screen is one line.
    pub(crate) text: String,
    /// The lines that were ever wider than the screen.
    pub(crate) broken: Vec<String>,
    /// Whether nobody writes to it any more.
    pub(crate) ended: bool,
}

impl Terminal {
    /// One of so many columns.
    pub(crate) fn open(columns: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(path).unwrap();
        tcsetwinsize(&line, Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // Ctrl-C shows and does no more: no command is in charge of this terminal that could be signalled.
        let mut modes = tcgetattr(&line).unwrap();
        modes.local_modes.remove(LocalModes::ISIG);
        tcsetattr(&line, OptionalActions::Now, &modes).unwrap();
        let keyboard = File::from(keyboard);
        let mut written = keyboard.try_clone().unwrap();
        let (shown, screen) = watch::channel(Screen::default());
        std::thread::spawn(move || {
            let mut drawn = vt100::Parser::new(ROWS, columns, 0);
            let mut bytes = [0; 4096];
            // The last writer's end shows as an error.
            while let Ok(read) = written.read(&mut bytes) {
                drawn.process(&bytes[..read]);
                let screen = drawn.screen();
                shown.send_modify(|shown| {
                    shown.text = screen.contents();
                    let wrapped = (0..ROWS).filter(|row| screen.row_wrapped(*row));
                    shown.broken.extend(wrapped.filter_map(|row| screen.rows(0, columns).nth(row.into())));
                });
            }
            shown.send_modify(|shown| shown.ended = true);
        });
        Self { keyboard, line, screen }
    }

    /// For a command's output.
    pub(crate) fn writer(&self) -> Stdio {
        self.line.try_clone().unwrap().into()
    }

    /// Presses Ctrl-C, as far as the terminal shows it; the signal is the test's to send.
    pub(crate) async fn press_interrupt(&mut self) {
        self.keyboard.write_all(b"\x03").unwrap();
        self.shows(|screen| screen.text.contains("^C")).await;
    }

    /// Waits until the screen is so.
    pub(crate) async fn shows(&mut self, holds: impl Fn(&Screen) -> bool) -> Screen {
        let waiting = tokio::time::timeout(PATIENCE, self.screen.wait_for(|screen| holds(screen)));
        let shown = waiting.await.map(|shown| shown.unwrap().clone());
        shown.unwrap_or_else(|_| panic!("the screen never showed that: {:?}", self.screen.borrow().text))
    }

    /// What is left on the screen, once the command that wrote to it has ended.
    pub(crate) async fn left(self) -> Screen {
        let Self { keyboard, line, mut screen } = self;
        drop(line);
        let left = tokio::time::timeout(PATIENCE, screen.wait_for(|screen| screen.ended)).await;
        let left = left.unwrap().unwrap().clone();
        drop(keyboard);
        left
    }
}
