//! A laboratory made of software: a sound card, a display and a stopwatch, so that the real program can be spoken to,
//! listened to, looked at and measured on a machine that has none of these.
//!
//! - [`sound`]: a private PulseAudio daemon: a microphone to speak into, a loudspeaker to listen to, both on one clock
//! - [`home`]: the user's folders, with the models of this machine
//! - [`display`]: a private X server: pictures of it, clicks, keys
//! - [`measure`]: when who spoke, and how whole the sound was; pure arithmetic on a recording
//! - [`program`]: the program under test, with its window
//! - [`process`]: child processes that never outlive their owner
//!
//! Linux only: the tools are Debian's packages pulseaudio, pulseaudio-utils, xvfb, xdotool and imagemagick, which
//! `make test` installs.

#![allow(
    dead_code,
    reason = "each test uses its own part of the laboratory; tests/laboratory.rs and tests/hotkey.rs use all of it"
)]

pub mod display;
pub mod home;
pub mod measure;
pub mod process;
pub mod program;
pub mod sound;
