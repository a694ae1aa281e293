//! A sound card made of software.
//!
//! A private PulseAudio daemon with one stereo null sink: left is what the user says, right is what the program plays,
//! both on one clock, so that times between them are true to the sample. The program sees a mono microphone and a mono
//! loudspeaker as its defaults, through PulseAudio and through ALSA. Beside it there is a spare loudspeaker that nobody
//! listens to: the default while the other is unplugged. Everything ends when the [`Lab`] is dropped.

use super::measure::Recording;
use super::process::{Running, tool};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Hertz of the card, and of every recording.
pub const RATE: u32 = 48_000;

/// `norewinds`: without it the first block comes up to two seconds late, and samples are lost.
const CARD: &str = "\
load-module module-null-sink sink_name=lab rate=48000 channels=2 channel_map=front-left,front-right norewinds=1
load-module module-remap-sink sink_name=mouth master=lab channels=1 master_channel_map=front-left channel_map=mono remix=no
load-module module-null-sink sink_name=spare rate=48000 channels=1 channel_map=mono norewinds=1
";
const MICROPHONE: &[&str] = &[
    "module-remap-source",
    "source_name=mic",
    "master=lab.monitor",
    "channels=1",
    "master_channel_map=front-left",
    "channel_map=mono",
    "remix=no",
];
const LOUDSPEAKER: &[&str] = &[
    "module-remap-sink",
    "sink_name=speaker",
    "master=lab",
    "channels=1",
    "master_channel_map=front-right",
    "channel_map=mono",
    "remix=no",
];

/// What can be pulled out and put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plug {
    Microphone,
    Loudspeaker,
}

/// The card. Start one per test; several may exist side by side.
pub struct Lab {
    daemon: Running,
    dir: tempfile::TempDir,
    server: OsString,
    microphone: Option<String>,
    loudspeaker: Option<String>,
}

impl Lab {
    pub fn start() -> Result<Lab> {
        let dir = tempfile::Builder::new().prefix("lab").tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let socket = at("native");
        // An address in a sockaddr_un has 108 bytes.
        if socket.as_os_str().len() > 100 {
            bail!("the path {} is too long for a socket: set TMPDIR to a short one", socket.display());
        }
        std::fs::create_dir(at("home"))?;
        std::fs::create_dir(at("run"))?;
        let socket = socket.display();
        let config =
            format!("load-module module-native-protocol-unix auth-anonymous=1 auth-cookie-enabled=0 socket={socket}\n");
        std::fs::write(at("lab.pa"), config + CARD)?;
        let default =
            format!("{{ type pulse server \"unix:{socket}\" hint {{ show on description \"Laboratory\" }} }}");
        std::fs::write(
            at("asound.conf"),
            format!("</usr/share/alsa/alsa.conf>\npcm.!default {default}\nctl.!default {default}\n"),
        )?;
        let server = OsString::from(format!("unix:{socket}"));
        let daemon = launch(dir.path())?;
        let mut lab = Lab { daemon, dir, server, microphone: None, loudspeaker: None };
        lab.wait_for_daemon()?;
        lab.plug(Plug::Loudspeaker)?;
        lab.plug(Plug::Microphone)?;
        Ok(lab)
    }

    fn wait_for_daemon(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.pactl(["info"]).is_err() {
            if let Some(status) = self.daemon.child().try_wait()? {
                bail!("pulseaudio ended ({status}): {}", self.daemon.said());
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("pulseaudio does not answer: {}", self.daemon.said());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What a program needs in its environment to find this card and no other.
    pub fn env(&self) -> [(&'static str, OsString); 2] {
        [("PULSE_SERVER", self.server.clone()), ("ALSA_CONFIG_PATH", self.dir.path().join("asound.conf").into())]
    }

    /// Has this process itself use this card and no other. For a process with one thread of tests, before it has others.
    pub fn adopt(&self) {
        for (name, value) in self.env() {
            // SAFETY: the caller says that no other thread reads or writes the environment now.
            #[expect(unsafe_code, reason = "the sound service's address is taken from the environment")]
            unsafe {
                std::env::set_var(name, value);
            }
        }
    }

    /// The daemon's process id.
    pub fn daemon_id(&self) -> u32 {
        self.daemon.id()
    }

    /// Speaks a file into the microphone; returns when it has been said.
    pub fn say(&self, wav: &Path) -> Result<()> {
        self.play(wav, "mouth")
    }

    /// Plays a file on one of the card's sinks (`speaker` is what the program under test plays on); returns at its end.
    pub fn play(&self, wav: &Path, sink: &str) -> Result<()> {
        let args: [&OsStr; 4] = ["-d".as_ref(), sink.as_ref(), "--latency-msec=20".as_ref(), wav.as_os_str()];
        tool("paplay", &self.server_env(), args)?;
        Ok(())
    }

    /// Records both sides for so many seconds.
    pub fn record(&self, seconds: f64) -> Result<Recording> {
        let recorder = self.recorder()?;
        let limit = Duration::from_secs_f64(seconds + 20.0);
        recorder.wait_until("recording", limit, |so_far| so_far.user.len() as f64 >= seconds * f64::from(RATE))?;
        let mut recording = recorder.stop();
        let frames = (seconds * f64::from(RATE)) as usize;
        recording.user.truncate(frames);
        recording.answer.truncate(frames);
        Ok(recording)
    }

    /// Begins to record both sides; returns when the first sample has come.
    pub fn recorder(&self) -> Result<Recorder> {
        let mut command = Command::new("parec");
        command
            .args(["-d", "lab.monitor", "--raw", "--format=s16le", "--channels=2", "--latency-msec=20"])
            .arg(format!("--rate={RATE}"))
            .env("PULSE_SERVER", &self.server)
            .stdout(Stdio::piped());
        let mut parec = Running::start(&mut command, &self.dir.path().join("parec.log"))?;
        let mut sound = parec.child().stdout.take().context("parec has no standard output")?;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&frames);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut kept = 0; // a read may end in the middle of a frame
            while let Ok(count @ 1..) = sound.read(&mut bytes[kept..]) {
                let whole = (kept + count) / 4 * 4;
                let mut frames = shared.lock().unwrap_or_else(PoisonError::into_inner);
                frames.extend(bytes[..whole].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
                bytes.copy_within(whole..kept + count, 0);
                kept = kept + count - whole;
            }
        });
        let recorder = Recorder { parec, reader: Some(reader), frames };
        recorder.wait_until("first sample", Duration::from_secs(20), |so_far| !so_far.user.is_empty())?;
        Ok(recorder)
    }

    /// Takes the microphone or the loudspeaker away.
    pub fn unplug(&mut self, plug: Plug) -> Result<()> {
        let module = self.slot(plug).take().with_context(|| format!("the {plug:?} is not plugged in"))?;
        if plug == Plug::Loudspeaker {
            self.pactl(["set-default-sink", "spare"])?;
        }
        self.pactl(["unload-module", &module])?;
        Ok(())
    }

    /// Brings it back, as the default.
    pub fn plug(&mut self, plug: Plug) -> Result<()> {
        if self.slot(plug).is_some() {
            bail!("the {plug:?} is plugged in already");
        }
        let (module, default) = match plug {
            Plug::Microphone => (MICROPHONE, ["set-default-source", "mic"]),
            Plug::Loudspeaker => (LOUDSPEAKER, ["set-default-sink", "speaker"]),
        };
        let index = self.pactl(["load-module"].iter().chain(module))?;
        *self.slot(plug) = Some(index.trim().to_owned());
        self.pactl(default)?;
        Ok(())
    }

    fn slot(&mut self, plug: Plug) -> &mut Option<String> {
        match plug {
            Plug::Microphone => &mut self.microphone,
            Plug::Loudspeaker => &mut self.loudspeaker,
        }
    }

    /// The sound server stops in the middle of what it does, and answers nobody.
    pub fn freeze(&self) -> Result<()> {
        self.daemon.signal(Signal::STOP)
    }

    /// The sound server goes on.
    pub fn thaw(&self) -> Result<()> {
        self.daemon.signal(Signal::CONT)
    }

    /// The sound server dies at once, as in a crash.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.signal(Signal::KILL)?;
        self.daemon.wait(Duration::from_secs(10))?;
        Ok(())
    }

    /// A sound server that was killed is started again, with everything plugged in.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon = launch(self.dir.path())?;
        (self.microphone, self.loudspeaker) = (None, None);
        self.wait_for_daemon()?;
        self.plug(Plug::Loudspeaker)?;
        self.plug(Plug::Microphone)
    }

    /// Asks the sound server something.
    pub fn pactl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        tool("pactl", &self.server_env(), args)
    }

    fn server_env(&self) -> [(&str, &OsStr); 1] {
        [("PULSE_SERVER", &self.server)]
    }
}

/// Starts the daemon of the card whose configuration is in this folder.
fn launch(dir: &Path) -> Result<Running> {
    // Should this process be killed outright, so that nothing is dropped, the daemon ends by itself some minutes after
    // its last client has gone.
    Running::start(
        Command::new("pulseaudio")
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=300", "--log-level=notice", "-F"])
            .arg(dir.join("lab.pa"))
            .env("HOME", dir.join("home"))
            .env("XDG_RUNTIME_DIR", dir.join("run"))
            .env("PULSE_RUNTIME_PATH", dir.join("run"))
            .env_remove("PULSE_SERVER")
            .stdout(Stdio::null()),
        &dir.join("pulse.log"),
    )
}

/// A recording that goes on until it is stopped.
pub struct Recorder {
    parec: Running,
    reader: Option<JoinHandle<()>>,
    frames: Arc<Mutex<Vec<i16>>>,
}

impl Recorder {
    /// What has been recorded until now.
    pub fn so_far(&self) -> Recording {
        Recording::from_interleaved(RATE, &self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on recording until `done`; an error after `limit`.
    pub fn wait_until(&self, what: &str, limit: Duration, done: impl Fn(&Recording) -> bool) -> Result<()> {
        let start = Instant::now();
        while !done(&self.so_far()) {
            if start.elapsed() > limit {
                bail!("no {what} within {limit:?}; parec said: {}", self.parec.said());
            }
            // Seldom, so that looking takes nothing from the program that is being listened to.
            std::thread::sleep(Duration::from_millis(250));
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(self) -> Recording {
        let Recorder { parec, reader, frames } = self;
        drop(parec); // closes the pipe, which ends the reader
        if let Some(reader) = reader {
            let _ = reader.join(); // it cannot panic; what it read is in `frames` either way
        }
        Recording::from_interleaved(RATE, &frames.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
