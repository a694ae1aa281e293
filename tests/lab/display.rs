//! A display made of software: a private X server without a window manager. It ends when the [`Display`] is dropped.

use super::process::{Running, tool};
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ClientMessageEvent, ConnectionExt, EventMask, GrabMode, ModMask};
use x11rb::rust_connection::RustConnection;

/// The display.
pub struct Display {
    server: Running,
    name: OsString,
    _dir: tempfile::TempDir,
}

/// A window on the display, as X numbers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window(String);

impl Display {
    /// Starts a display of 1280 x 800 on a number that nobody uses: the server finds one itself, and says which.
    pub fn start() -> Result<Display> {
        let dir = tempfile::Builder::new().prefix("display").tempdir()?;
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]).stdout(Stdio::piped());
        let mut server = Running::start(&mut command, &dir.path().join("xvfb.log"))?;
        let mut number = String::new();
        BufReader::new(server.child().stdout.take().context("Xvfb has no standard output")?).read_line(&mut number)?;
        if number.trim().is_empty() {
            bail!("Xvfb has not started: {}", server.said());
        }
        Ok(Display { server, name: format!(":{}", number.trim()).into(), _dir: dir })
    }

    /// What a program needs in its environment to open its window here, drawn without a graphics card.
    pub fn env(&self) -> [(&'static str, OsString); 4] {
        [
            ("DISPLAY", self.name.clone()),
            ("WAYLAND_DISPLAY", OsString::new()),
            ("XDG_SESSION_TYPE", "x11".into()),
            ("LIBGL_ALWAYS_SOFTWARE", "1".into()),
        ]
    }

    pub fn server_id(&self) -> u32 {
        self.server.id()
    }

    /// A picture of the whole display, as PNG.
    pub fn screenshot(&self, png: &Path) -> Result<()> {
        let args: [&OsStr; 3] = ["-window".as_ref(), "root".as_ref(), png.as_os_str()];
        tool("import", &self.display_env(), args)?;
        Ok(())
    }

    /// How many different colours the display shows now: one when it is blank.
    pub fn colours(&self) -> Result<usize> {
        let raw = Command::new("import")
            .args(["-window", "root", "-depth", "8", "rgb:-"])
            .env("DISPLAY", &self.name)
            .stdin(Stdio::null())
            .output()?;
        if !raw.status.success() {
            bail!("import failed: {}", String::from_utf8_lossy(&raw.stderr).trim());
        }
        Ok(raw.stdout.chunks_exact(3).collect::<std::collections::HashSet<_>>().len())
    }

    /// Waits for a window whose title contains `title`.
    pub fn window(&self, title: &str, limit: Duration) -> Result<Window> {
        let start = Instant::now();
        while start.elapsed() < limit {
            // xdotool fails while there is none
            let found = self.xdotool(["search", "--onlyvisible", "--name", title]).unwrap_or_default();
            if let Some(id) = found.lines().last() {
                return Ok(Window(id.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("no window called '{title}' within {limit:?}")
    }

    /// Clicks at a point of the display.
    pub fn click(&self, x: u32, y: u32) -> Result<()> {
        self.xdotool(["mousemove", "--sync", &x.to_string(), &y.to_string(), "click", "1"]).map(drop)
    }

    /// Types into a window. Without a window manager nothing has the focus until it is given.
    pub fn type_text(&self, window: &Window, text: &str) -> Result<()> {
        self.xdotool(["windowfocus", "--sync", &window.0, "type", "--delay", "20", text]).map(drop)
    }

    /// Presses a key (`Return`, `ctrl+l`) in a window.
    pub fn key(&self, window: &Window, key: &str) -> Result<()> {
        self.xdotool(["windowfocus", "--sync", &window.0, "key", key]).map(drop)
    }

    /// Gives a window the keyboard.
    pub fn focus(&self, window: &Window) -> Result<()> {
        self.xdotool(["windowfocus", "--sync", &window.0]).map(drop)
    }

    /// The window that has it.
    pub fn focused(&self) -> Result<Window> {
        Ok(Window(self.xdotool(["getwindowfocus"])?.trim().to_owned()))
    }

    /// Puts a key down, in whichever window has the keyboard.
    pub fn hold(&self, key: &str) -> Result<()> {
        self.xdotool(["keydown", key]).map(drop)
    }

    /// Lets it come up.
    pub fn release(&self, key: &str) -> Result<()> {
        self.xdotool(["keyup", key]).map(drop)
    }

    /// Takes a key of the whole display, by its number in X's list of keys (`keysymdef.h`), as a program with a key of its own
    /// does, until what is returned is dropped.
    pub fn take_key(&self, keysym: u32) -> Result<RustConnection> {
        let (server, screen) = x11rb::connect(Some(self.name.to_str().context("a display's name is plain text")?))?;
        let (first, last) = (server.setup().min_keycode, server.setup().max_keycode);
        let keys = server.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        let mut rows = keys.keysyms.chunks_exact(usize::from(keys.keysyms_per_keycode));
        let row = rows.position(|row| row.contains(&keysym)).with_context(|| format!("no key {keysym:#x}"))?;
        let (root, code) = (server.setup().roots[screen].root, first + u8::try_from(row)?);
        server.grab_key(false, root, ModMask::ANY, code, GrabMode::ASYNC, GrabMode::ASYNC)?.check()?;
        Ok(server)
    }

    /// Asks a window to close, as a window manager does for the button in its corner.
    pub fn close(&self, window: &Window) -> Result<()> {
        let name = self.name.to_str().context("a display's name is plain text")?;
        let (server, _) = x11rb::connect(Some(name))?;
        let atom = |name: &[u8]| anyhow::Ok(server.intern_atom(false, name)?.reply()?.atom);
        let (protocols, delete) = (atom(b"WM_PROTOCOLS")?, atom(b"WM_DELETE_WINDOW")?);
        let id = window.0.parse()?;
        let event = ClientMessageEvent::new(32, id, protocols, [delete, x11rb::CURRENT_TIME, 0, 0, 0]);
        server.send_event(false, id, EventMask::NO_EVENT, event)?.check()?;
        Ok(())
    }

    fn xdotool<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        tool("xdotool", &self.display_env(), args)
    }

    fn display_env(&self) -> [(&str, &OsStr); 1] {
        [("DISPLAY", &self.name)]
    }
}
