//! What can go wrong with a sound card, in plain words, each with its remedy.

use super::Direction;

/// Why a sound card could not be opened, listed or kept. Every message names the device and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    #[error("there is no {direction}: connect one, or choose it in the system's sound settings, then try again")]
    NoDevice { direction: Direction },
    #[error("the chosen {direction} \"{id}\" is not connected: connect it, or choose another one")]
    NotFound { direction: Direction, id: String },
    #[error("the {direction} \"{name}\" is in use by another program: close that program, then try again")]
    Busy { direction: Direction, name: String },
    #[error(
        "this program may not use the {direction} \"{name}\": allow it in the system's privacy settings \
         (on Linux, join the group \"audio\"), then try again"
    )]
    Denied { direction: Direction, name: String },
    #[error("the {direction} \"{name}\" went away: connect it again, or choose another one")]
    Lost { direction: Direction, name: String },
    #[error("the system's sound service does not run: start it (PipeWire or PulseAudio on Linux), then try again")]
    NoService,
    #[error(
        "the sound service did not answer within {seconds} s while {doing}: restart it \
         (on Linux: systemctl --user restart pipewire-pulse or pulseaudio -k), then try again"
    )]
    NoAnswer { doing: String, seconds: u64 },
    #[error(
        "the sound service has stopped answering: restart it \
         (on Linux: systemctl --user restart pipewire-pulse or pulseaudio -k)"
    )]
    Silent,
    #[error("the {direction} \"{name}\" offers no format that this program can use ({detail}): choose another one")]
    Unsupported { direction: Direction, name: String, detail: String },
    #[error("the {direction} \"{name}\" failed ({detail}): try again, or choose another one")]
    Failed { direction: Direction, name: String, detail: String },
    #[error("the computer is out of threads or memory ({detail}): close other programs, then try again")]
    Exhausted { detail: String },
}
