//! The command line's doors, one file per command. The only room, beside the binary, that names `clap`.
//!
//! Everything runs on the main thread. Results go to stdout, the log to stderr; exit codes are in docs/json.md.

pub mod bench;
pub mod converse;
pub mod dev;
pub mod devices;
pub mod doctor;
pub mod drive;
pub mod engines;
pub mod models;
pub mod omni;
pub mod say;
pub mod table;
pub mod voices;
pub mod window;

use crate::engine::{CancelToken, SessionSetup};
use crate::settings::{self, Settings};
use crate::voice::VoiceLibrary;
use crate::weights::Store;
use clap::{Parser, Subcommand};
use engines::{EngineArgs, EngineChoice, EngineKind};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Speak, and it answers in a voice, on your own machine.
///
/// Without a command it opens the window. The first time, fetch the models: `antiphon models pull`.
#[derive(Parser, Debug)]
#[command(name = "antiphon", version, about, long_about, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where models are kept [default: the platform's data folder; also ANTIPHON_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Say more on stderr (-v: what happens, -vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How the window listens, rather than as in the settings
    #[arg(long, value_enum, value_name = "MODE")]
    pub mode: Option<window::Mode>,
    /// Answers are heard through headphones: no echo is cancelled
    #[arg(long)]
    pub headphones: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(subcommand)]
    pub command: Option<Door>,
}

const AFTER_HELP: &str = "Examples:
  antiphon                                              open the window and talk
  antiphon converse --in question.wav --out answer.wav  hold one spoken turn from file to file
  antiphon say \"Good morning.\" --out morning.wav        read a text aloud
  antiphon doctor                                       what is here, what is missing, what to do about it

Exit codes: 0 done, 1 failed while working, 2 wrong use or bad input, 3 a model is missing, 4 no sound device, 130 interrupted.";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Door {
    /// Hold a dialogue from file to file, in real time, through the same path as the window
    Converse(converse::ConverseArgs),
    /// Read a text aloud into a file
    Say(say::SayArgs),
    /// List microphones and loudspeakers
    Devices(devices::DevicesArgs),
    /// What is here (GPU, memory, sound, models) and what to do about what is missing
    Doctor(doctor::DoctorArgs),
    /// List, fetch, check and remove models
    Models(models::ModelsArgs),
    /// List, check, keep and remove voices to speak in
    Voices(voices::VoicesArgs),
    /// Measure every stage over a set of spoken questions
    Bench(bench::BenchArgs),
    /// Tools for developers: a random checkpoint
    Dev(dev::DevArgs),
}

/// Why a command could not do what it was asked, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    message: String,
}

/// What a command gives back.
pub type Outcome = Result<(), Failure>;

impl Failure {
    fn new(code: u8, message: impl Display) -> Self {
        Failure { code, message: message.to_string() }
    }

    /// Something failed while working.
    pub fn working(message: impl Display) -> Self {
        Failure::new(1, message)
    }

    /// The command was used wrongly.
    pub fn usage(message: impl Display) -> Self {
        Failure::new(2, message)
    }

    /// A file that was given cannot be used.
    pub fn bad_input(message: impl Display) -> Self {
        Failure::new(2, message)
    }

    /// A model is not here.
    pub fn missing(message: impl Display) -> Self {
        Failure::new(MISSING_CODE, message)
    }

    /// There is no sound device.
    pub fn no_device(message: impl Display) -> Self {
        Failure::new(4, message)
    }

    /// The user broke it off, before anything was written.
    pub fn interrupted() -> Self {
        Failure::new(INTERRUPTED_CODE, "interrupted: nothing was written")
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::working(format!("{error:#}"))
    }
}

/// Writes results to the standard output; a reader that has gone is no failure of ours.
pub fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::working(format!("the standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// The exit code where a model is not here.
const MISSING_CODE: u8 = 3;
/// The exit code of an interrupted command, as shells report it.
const INTERRUPTED_CODE: u8 = 130;
/// Whether an interrupt is the usual way to end: a window that was asked to close has done its work.
static INTERRUPT_IS_SUCCESS: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// How long an interrupted command may take to put its things away.
const GRACE: Duration = Duration::from_millis(400);

/// Whether the user pressed Ctrl-C or the system asked the program to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// What is called, once, when the user interrupts: a window closes itself here.
static ON_INTERRUPT: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Has `action` called when the user interrupts.
pub fn on_interrupt(action: impl Fn() + Send + Sync + 'static) {
    // Only the first door that asks is told; there is only one.
    let _ = ON_INTERRUPT.set(Box::new(action));
}

/// For a door that an interrupt closes in good order.
pub fn interrupts_are_success() {
    INTERRUPT_IS_SUCCESS.store(true, Ordering::Relaxed);
}

fn watch_for_interrupts() {
    let watched = ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::Relaxed);
        if let Some(action) = ON_INTERRUPT.get() {
            action();
        }
        std::thread::sleep(GRACE);
        // Whoever has not ended by now is waiting for something that does not come.
        #[expect(clippy::exit, reason = "the user asked for the end, and files are written under temporary names")]
        std::process::exit(if INTERRUPT_IS_SUCCESS.load(Ordering::Relaxed) { 0 } else { INTERRUPTED_CODE.into() });
    });
    if let Err(error) = watched {
        tracing::warn!("Ctrl-C will not be handled gracefully: {error}");
    }
}

/// Does what the arguments say.
pub fn run(cli: Cli) -> ExitCode {
    start_log(cli.verbose);
    watch_for_interrupts();
    match open(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("antiphon: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "antiphon=warn",
        1 => "antiphon=info",
        2 => "antiphon=debug",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

fn open(cli: Cli) -> Outcome {
    let store = Store::open(cli.home.clone()).map_err(Failure::working)?;
    let settings_path = settings::default_path();
    let loaded = settings_path.as_deref().map(Settings::load);
    let message = loaded.as_ref().and_then(|l| l.message.clone());
    let mut settings = loaded.map(|l| l.settings).unwrap_or_default();
    if let Some(mode) = cli.mode {
        (settings.hands_free, settings.half_duplex) = mode.hands_free_and_half_duplex();
    }
    settings.headphones |= cli.headphones;
    let kind = engine_kind(&cli, &settings);
    if kind != EngineKind::Scripted
        && let Some(value) = clap::ValueEnum::to_possible_value(&kind)
    {
        // What runs is what the window offers to change.
        value.get_name().clone_into(&mut settings.engine);
    }
    let own_llm = cli.engine.llm.clone().filter(|_| kind == EngineKind::Omni).map(PathBuf::from);
    let choice = EngineChoice {
        kind,
        llm: cli.engine.llm.clone().or_else(|| settings.llm.clone()),
        script: cli.engine.script.clone(),
        model: cli.engine.omni.model(&settings),
        place: cli.engine.omni.place(&settings)?,
        omni: cli.engine.omni.options(own_llm, &settings)?,
        store: store.clone(),
    };
    let library = VoiceLibrary::new(store.home());
    let voice = match cli.command {
        // A voice that is damaged must not be in the way of removing it.
        Some(Door::Voices(_)) => None,
        // The window can change to an engine that speaks in it.
        None if cli.engine.voice.is_none() => voices::chosen(None, &settings, EngineKind::Omni, &library)?,
        _ => voices::chosen(cli.engine.voice.as_deref(), &settings, choice.kind, &library)?,
    };
    let (reference_voice, voice_state) = voice.unzip();
    let setup = SessionSetup {
        system_prompt: cli.engine.persona.clone().unwrap_or_else(|| settings.system_prompt.clone()),
        reference_voice,
        voice_state: voice_state.flatten(),
        seed: cli.engine.seed.unwrap_or(settings.seed),
    };
    match cli.command {
        None => window::run(&choice, setup, settings, settings_path, message),
        Some(Door::Converse(args)) => converse::run(&args, &choice, setup),
        Some(Door::Say(args)) => say::run(&args, &choice, &setup),
        Some(Door::Devices(args)) => devices::run(&args),
        Some(Door::Doctor(args)) => Ok(doctor::run(&args, &store, &devices::names(), &mut std::io::stdout())?),
        Some(Door::Models(args)) => {
            let cancel = CancelToken::default();
            let on_end = cancel.clone();
            on_interrupt(move || on_end.cancel());
            Ok(models::run(args, &store, &cancel, &mut std::io::stdout())?)
        }
        Some(Door::Voices(args)) => voices::run(args, &library, &mut std::io::stdout()),
        Some(Door::Bench(args)) => bench::run(&args, &choice, setup),
        Some(Door::Dev(args)) => {
            let cancel = CancelToken::default();
            let on_end = cancel.clone();
            on_interrupt(move || on_end.cancel());
            dev::run(args, setup.seed, &cancel)
        }
    }
}

/// The engine named on the command line, else the one in the settings, else the starter.
fn engine_kind(cli: &Cli, settings: &Settings) -> EngineKind {
    let from_settings = || <EngineKind as clap::ValueEnum>::from_str(&settings.engine, true).ok();
    cli.engine.engine.or_else(from_settings).unwrap_or(EngineKind::Cascade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_manual_page_knows_every_command_and_no_option_that_is_none() {
        let page = include_str!("../../assets/linux/antiphon.1");
        let cli = Cli::command();
        for command in cli.get_subcommands().map(clap::Command::get_name) {
            assert!(page.contains(&format!("\n.B {command}\n")), "{command}");
        }
        let options: Vec<&str> = cli.get_arguments().filter_map(clap::Arg::get_long).collect();
        let named = page.split("\\-\\-").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
        let unknown: Vec<_> = named.flatten().filter(|name| !options.contains(name) && *name != "help").collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let codes = AFTER_HELP.split_once("Exit codes: ").unwrap().1;
        assert!(page.contains(codes), "{codes}");
        assert!(page.contains(concat!("antiphon ", env!("CARGO_PKG_VERSION"))));
    }
}
