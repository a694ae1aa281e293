//! Real sound cards: listing, choosing a configuration, opening.
//!
//! Listing and opening happen on threads of their own (`stream_thread`), which can be left behind. Error
//! callbacks only touch the atomics of [`StreamPulse`].
//!
//! Host: PulseAudio (or PipeWire in its place) when it answers, else the system's own (ALSA on Linux). It has shorter
//! round trips than ALSA's pulse plugin, knows devices by name, and says once that a device is gone where ALSA storms.
//! The buffer is always asked for by size: the default size of the pulse host is two seconds.

use super::capture::{CaptureCallback, CaptureEnd};
use super::health::{GapWatch, StreamPulse};
use super::playback::{PlaybackCallback, PlaybackEnd};
use super::stream_thread::{ANSWER_WITHIN, Opening, Running, Streams, no_answer, spawn};
use super::{AudioError, Card, Direction};
use crate::time::Micros;
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig, SupportedBufferSize};
use cpal::{SupportedStreamConfig, SupportedStreamConfigRange};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Usual buffer in milliseconds.
const BUFFER_MS: u32 = 10;

/// Buffer of a loudspeaker on PulseAudio. Measured at a load of 10 to 14 on two cores, as breaks in 5 s of a tone and median
/// round trip: 10 ms 8 to 40 and 20 ms; 15 ms 0 to 8 and 25 ms; 20 ms none and 40 ms. Beside an engine and a window drawn
/// without a graphics card, 20 ms still broke once in 5 s of speech.
const PULSE_OUTPUT_MS: u32 = 30;

/// Buffer of a microphone on PulseAudio. There it is a bound on what may wait, not a period: sound is handed over as it
/// comes, and a smaller buffer only loses some of it when this computer is busy.
const PULSE_INPUT_MS: u32 = 40;

/// Delays that a device reports beyond this are not believed.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// A device's name for programs: stable across restarts where the system allows it. `host:device`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct DeviceId(pub String);

impl std::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device as shown to people.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    pub id: DeviceId,
    pub name: String,
    /// Whether the system uses it when nothing else is chosen.
    pub is_default: bool,
    /// Samples per second that it prefers; `None` when it does not say.
    pub rate: Option<u32>,
    /// Channels that it prefers.
    pub channels: Option<u16>,
    /// The buffer that would be asked for, in milliseconds; the device adds its own delay.
    pub buffer_ms: u32,
}

/// What is connected. The default device is first, echoes of loudspeakers ("monitors") are last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceList {
    pub inputs: Vec<DeviceInfo>,
    pub outputs: Vec<DeviceInfo>,
}

/// Which devices to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardChoice {
    /// The microphone; `None` for the system's default.
    pub input: Option<DeviceId>,
    /// The loudspeaker; `None` for the system's default.
    pub output: Option<DeviceId>,
    /// Whether a microphone is wanted at all.
    pub want_input: bool,
    /// Whether a loudspeaker is wanted at all.
    pub want_output: bool,
    /// The loudspeaker's buffer in milliseconds; `None` for the usual one. More is later, but has fewer holes on a
    /// computer that is very busy.
    pub output_buffer_ms: Option<u32>,
}

impl CardChoice {
    /// The system's default microphone and loudspeaker.
    pub fn both() -> Self {
        Self { want_input: true, want_output: true, ..Self::default() }
    }
}

/// What is connected now. Blocks for as long as the sound service takes, at most some seconds.
pub fn list() -> Result<DeviceList, AudioError> {
    let (tx, rx) = channel();
    spawn("antiphon-devices", move || {
        // The receiver may have given up: then nobody wants the list any more.
        let _ = tx.send(list_now());
    })?;
    rx.recv_timeout(ANSWER_WITHIN).unwrap_or_else(|_| Err(no_answer("listing the devices")))
}

fn list_now() -> Result<DeviceList, AudioError> {
    list_of(&cpal::default_host(), true)
}

/// The devices of a host without what they prefer (asking ALSA for that opens each of them); `None` when it is gone.
pub(super) fn names(host: &cpal::Host) -> Option<DeviceList> {
    list_of(host, false).ok()
}

/// Whether this is PulseAudio or PipeWire in its place.
pub(super) fn is_pulse(host: &cpal::Host) -> bool {
    host.id().to_string() == PULSE
}

fn list_of(host: &cpal::Host, with_configs: bool) -> Result<DeviceList, AudioError> {
    let default_of = |d: Direction| default_device(host, d).and_then(|d| d.id().ok());
    let (default_in, default_out) = (default_of(Direction::Input), default_of(Direction::Output));
    let mut found = DeviceList::default();
    let devices = host.devices().map_err(|_| AudioError::NoService)?;
    for device in devices {
        let (Ok(id), Ok(description)) = (device.id(), device.description()) else { continue };
        if !worth_listing(&id) {
            continue;
        }
        let is_pulse = id.host().to_string() == PULSE;
        let info = |direction: Direction, is_default: bool, config: Option<SupportedStreamConfig>| DeviceInfo {
            id: DeviceId(id.to_string()),
            name: description.name().to_owned(),
            is_default,
            rate: config.as_ref().map(SupportedStreamConfig::sample_rate),
            channels: config.as_ref().map(SupportedStreamConfig::channels),
            buffer_ms: usual_buffer_ms(direction, is_pulse),
        };
        if description.supports_input() {
            let is_default = default_in.as_ref() == Some(&id);
            let config = with_configs.then(|| device.default_input_config().ok()).flatten();
            found.inputs.push(info(Direction::Input, is_default, config));
        }
        if description.supports_output() {
            let is_default = default_out.as_ref() == Some(&id);
            let config = with_configs.then(|| device.default_output_config().ok()).flatten();
            found.outputs.push(info(Direction::Output, is_default, config));
        }
    }
    for devices in [&mut found.inputs, &mut found.outputs] {
        devices.sort_by_key(|d| (!d.is_default, d.id.0.ends_with(MONITOR)));
    }
    Ok(found)
}

/// The name of the pulse host in cpal's device ids.
const PULSE: &str = "pulseaudio";

/// How the names of a loudspeaker's echo end: a microphone that hears what that loudspeaker plays.
const MONITOR: &str = ".monitor";

fn usual_buffer_ms(direction: Direction, is_pulse: bool) -> u32 {
    match direction {
        Direction::Output if is_pulse => PULSE_OUTPUT_MS,
        Direction::Input if is_pulse => PULSE_INPUT_MS,
        _ => BUFFER_MS,
    }
}

/// ALSA lists dozens of plugins that are not devices, among them `null`, which runs free at full speed.
fn worth_listing(id: &cpal::DeviceId) -> bool {
    if id.host().to_string() != "alsa" {
        return true;
    }
    let name = id.id();
    ["default", "pulse", "pipewire"].contains(&name) || name.starts_with("plughw:") || name.starts_with("sysdefault:")
}

/// Opens what was chosen. Microphone and loudspeaker are opened at the same time.
pub(super) fn open(choice: &CardChoice) -> Result<Card, AudioError> {
    let (theirs, ours) = (choice.clone(), choice.clone());
    let input = choice.want_input.then(|| Opening::start(Direction::Input, move || open_input(&theirs)));
    let output = choice.want_output.then(|| Opening::start(Direction::Output, move || open_output(&ours)));
    let mut streams = Streams::default();
    let capture = input.map(|o| o?.wait(&mut streams)).transpose()?;
    let playback = output.map(|o| o?.wait(&mut streams)).transpose()?;
    Ok(Card::new(choice.clone(), capture, playback, streams))
}

fn default_device(host: &cpal::Host, direction: Direction) -> Option<cpal::Device> {
    match direction {
        // Without any microphone PulseAudio offers a loudspeaker's echo: the assistant would listen to itself.
        Direction::Input => host.default_input_device().filter(|d| !d.id().is_ok_and(|id| id.id().ends_with(MONITOR))),
        Direction::Output => host.default_output_device(),
    }
}

/// The device with this id, or the system's default.
fn find(direction: Direction, id: Option<&DeviceId>) -> Result<cpal::Device, AudioError> {
    let Some(id) = id else {
        return default_device(&cpal::default_host(), direction).ok_or(AudioError::NoDevice { direction });
    };
    let not_found = || AudioError::NotFound { direction, id: id.0.clone() };
    let parsed = cpal::DeviceId::from_str(&id.0).map_err(|_| not_found())?;
    let host = cpal::host_from_id(parsed.host()).map_err(|_| AudioError::NoService)?;
    host.device_by_id(&parsed).ok_or_else(not_found)
}

fn open_input(choice: &CardChoice) -> Result<Running<CaptureEnd>, AudioError> {
    let who = Opened::find(Direction::Input, choice.input.as_ref(), None)?;
    who.try_configs(|format, config| {
        macro_rules! build {
            ($($format:ident => $sample:ty),*) => {
                match format {
                    $(SampleFormat::$format => who.build_input::<$sample>(config),)*
                    other => Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, format!("samples are {other}"))),
                }
            };
        }
        build!(F32 => f32, I16 => i16, I32 => i32, I24 => cpal::I24, U8 => u8, U16 => u16, I8 => i8, U24 => cpal::U24,
               U32 => u32, I64 => i64, U64 => u64, F64 => f64)
    })
}

fn open_output(choice: &CardChoice) -> Result<Running<PlaybackEnd>, AudioError> {
    let who = Opened::find(Direction::Output, choice.output.as_ref(), choice.output_buffer_ms)?;
    who.try_configs(|format, config| {
        macro_rules! build {
            ($($format:ident => $sample:ty),*) => {
                match format {
                    $(SampleFormat::$format => who.build_output::<$sample>(config),)*
                    other => Err(cpal::Error::with_message(ErrorKind::UnsupportedConfig, format!("samples are {other}"))),
                }
            };
        }
        build!(F32 => f32, I16 => i16, I32 => i32, I24 => cpal::I24, U8 => u8, U16 => u16, I8 => i8, U24 => cpal::U24,
               U32 => u32, I64 => i64, U64 => u64, F64 => f64)
    })
}

/// A device that is being opened.
struct Opened {
    direction: Direction,
    device: cpal::Device,
    id: Option<DeviceId>,
    name: String,
    is_pulse: bool,
    /// Whether it is the system's default rather than somebody's choice.
    is_default: bool,
    buffer_ms: u32,
}

impl Opened {
    fn find(direction: Direction, id: Option<&DeviceId>, buffer_ms: Option<u32>) -> Result<Self, AudioError> {
        let device = find(direction, id)?;
        let name = device.description().map_or_else(|_| "default".into(), |d| d.name().to_owned());
        let cpal_id = device.id().ok();
        let is_pulse = cpal_id.as_ref().is_some_and(|id| id.host().to_string() == PULSE);
        let found = cpal_id.map(|id| DeviceId(id.to_string()));
        let buffer_ms = buffer_ms.unwrap_or_else(|| usual_buffer_ms(direction, is_pulse));
        Ok(Self { direction, device, id: found, name, is_pulse, is_default: id.is_none(), buffer_ms })
    }

    /// Tries the device's own configuration first, then everything else it claims to support; each with small
    /// buffers before larger ones.
    fn try_configs<E>(
        &self,
        build: impl Fn(SampleFormat, StreamConfig) -> Result<Running<E>, cpal::Error>,
    ) -> Result<Running<E>, AudioError> {
        let (preferred, supported) = match self.direction {
            Direction::Input => (
                self.device.default_input_config(),
                self.device.supported_input_configs().map(|c| c.collect::<Vec<_>>()),
            ),
            Direction::Output => (
                self.device.default_output_config(),
                self.device.supported_output_configs().map(|c| c.collect::<Vec<_>>()),
            ),
        };
        let mut last_error = preferred.as_ref().err().cloned();
        let others = supported.map(by_preference).unwrap_or_default();
        for config in preferred.into_iter().chain(others) {
            for buffer in buffers(&config, self.buffer_ms, self.is_pulse) {
                let mut wanted = config.config();
                wanted.buffer_size = buffer;
                let attempt = build(config.sample_format(), wanted).and_then(|(stream, end)| {
                    stream.play()?;
                    Ok((stream, end))
                });
                match attempt {
                    Ok(open) => return Ok(open),
                    Err(e) => match e.kind() {
                        ErrorKind::UnsupportedConfig | ErrorKind::InvalidInput => last_error = Some(e),
                        _ => return Err(self.explain(&e)),
                    },
                }
            }
        }
        Err(last_error.map_or(AudioError::NoDevice { direction: self.direction }, |e| self.explain(&e)))
    }

    fn build_input<T>(&self, config: StreamConfig) -> Result<Running<CaptureEnd>, cpal::Error>
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        let (mut callback, mut end) = CaptureCallback::new(config.sample_rate, self.name.clone());
        end.id = self.id.clone();
        let (rate, channels) = (config.sample_rate, usize::from(config.channels));
        let (mut gaps, pulse) = (self.gap_watch(&config), end.shared.pulse.clone());
        let stream = self.device.build_input_stream(
            config,
            move |data: &[T], info: &cpal::InputCallbackInfo| {
                let now = Micros::now();
                let stamp = info.timestamp();
                // The device tells the age of the first frame; the last one is younger by the buffer's length.
                let oldest = believable(stamp.callback.duration_since(stamp.capture));
                let frames = data.len() / channels.max(1);
                if let Some(gaps) = &mut gaps {
                    gaps.callback_at(now, frames, &pulse);
                }
                let newest = oldest.saturating_sub(Micros::of_samples(frames as u64, rate));
                callback.process(data, channels, now - newest);
            },
            note_errors(end.shared.pulse.clone()),
            Some(ANSWER_WITHIN),
        )?;
        Ok((stream, end))
    }

    fn build_output<T>(&self, config: StreamConfig) -> Result<Running<PlaybackEnd>, cpal::Error>
    where
        T: SizedSample + FromSample<f32>,
    {
        let (mut callback, mut end) = PlaybackCallback::new(config.sample_rate, self.name.clone());
        end.id = self.id.clone();
        let channels = usize::from(config.channels);
        let (mut gaps, pulse) = (self.gap_watch(&config), end.control.pulse.clone());
        let stream = self.device.build_output_stream(
            config,
            move |data: &mut [T], info: &cpal::OutputCallbackInfo| {
                let now = Micros::now();
                if let Some(gaps) = &mut gaps {
                    gaps.callback_at(now, data.len() / channels.max(1), &pulse);
                }
                let stamp = info.timestamp();
                callback.process(data, channels, now + believable(stamp.playback.duration_since(stamp.callback)));
            },
            note_errors(end.control.pulse.clone()),
            Some(ANSWER_WITHIN),
        )?;
        Ok((stream, end))
    }

    /// Pulse does not tell when a buffer runs over or empty.
    fn gap_watch(&self, config: &StreamConfig) -> Option<GapWatch> {
        self.is_pulse.then(|| GapWatch::new(config.sample_rate))
    }

    /// The error in our own words.
    fn explain(&self, e: &cpal::Error) -> AudioError {
        let (direction, name, detail) = (self.direction, self.name.clone(), e.to_string());
        match e.kind() {
            ErrorKind::DeviceBusy => AudioError::Busy { direction, name },
            ErrorKind::PermissionDenied => AudioError::Denied { direction, name },
            // Some hosts have a default even when nothing is connected, and say so only here.
            ErrorKind::DeviceNotAvailable if self.is_default => AudioError::NoDevice { direction },
            ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => AudioError::Lost { direction, name },
            ErrorKind::HostUnavailable => AudioError::NoService,
            // What ALSA says when its default leads to a sound service that does not run.
            _ if detail.contains("Connection refused") => AudioError::NoService,
            ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation | ErrorKind::InvalidInput => {
                AudioError::Unsupported { direction, name, detail }
            }
            ErrorKind::ResourceExhausted => AudioError::Exhausted { detail },
            _ => AudioError::Failed { direction, name, detail },
        }
    }
}

/// A delay that a device reports, or none if it cannot be true.
fn believable(delay: Duration) -> Duration {
    if delay <= LONGEST_DELAY { delay } else { Duration::ZERO }
}

/// An error callback that only counts. What an error means is judged by [`super::Watch`], from outside.
fn note_errors(pulse: Arc<StreamPulse>) -> impl FnMut(cpal::Error) + Send + 'static {
    move |e| match e.kind() {
        ErrorKind::Xrun => pulse.xrun(),
        ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated | ErrorKind::HostUnavailable => pulse.lose(),
        ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        _ => pulse.error(),
    }
}

/// Everything a device claims to support, best first, at usual rates.
fn by_preference(mut ranges: Vec<SupportedStreamConfigRange>) -> Vec<SupportedStreamConfig> {
    ranges.sort_by(|a, b| b.cmp_default_heuristics(a));
    ranges.into_iter().map(|r| r.try_with_standard_sample_rate().unwrap_or_else(|| r.with_max_sample_rate())).collect()
}

/// The buffers to ask for, best first: `ms`, twice that, and the host's own default; the latter never on pulse, where it
/// is two seconds.
fn buffers(config: &SupportedStreamConfig, ms: u32, is_pulse: bool) -> Vec<BufferSize> {
    let mut sizes: Vec<BufferSize> = Vec::new();
    for ms in [ms, ms * 2] {
        let frames = (config.sample_rate() * ms / 1000).max(1);
        let size = BufferSize::Fixed(match *config.buffer_size() {
            SupportedBufferSize::Range { min, max } if min <= max => frames.clamp(min, max),
            _ => frames,
        });
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    if !is_pulse {
        sizes.push(BufferSize::Default);
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rate: u32, buffer: SupportedBufferSize) -> SupportedStreamConfig {
        SupportedStreamConfig::new(2, rate, buffer, SampleFormat::F32)
    }

    #[test]
    fn asks_for_small_buffers_within_what_the_device_allows() {
        let unknown = SupportedBufferSize::Unknown;
        let fixed = BufferSize::Fixed;
        assert_eq!(buffers(&config(48_000, unknown), 10, true), [fixed(480), fixed(960)]);
        assert_eq!(buffers(&config(44_100, unknown), 10, false), [fixed(441), fixed(882), BufferSize::Default]);
        let large = SupportedBufferSize::Range { min: 4096, max: 8192 };
        assert_eq!(buffers(&config(48_000, large), 10, true), [fixed(4096)]);
        let small = SupportedBufferSize::Range { min: 16, max: 512 };
        assert_eq!(buffers(&config(48_000, small), 10, true), [fixed(480), fixed(512)]);
    }

    #[test]
    fn errors_are_counted_by_what_they_mean() {
        let pulse = Arc::new(StreamPulse::default());
        let mut note = note_errors(pulse.clone());
        for kind in [ErrorKind::Xrun, ErrorKind::BackendError, ErrorKind::DeviceChanged, ErrorKind::RealtimeDenied] {
            note(cpal::Error::new(kind));
        }
        assert_eq!((pulse.xruns(), pulse.errors(), pulse.is_lost()), (1, 1, false));
        note(cpal::Error::new(ErrorKind::DeviceNotAvailable));
        assert!(pulse.is_lost());
    }

    #[test]
    fn a_device_that_does_not_exist_is_named_in_the_error() {
        let id = DeviceId("nonsense".into());
        let choice = CardChoice { input: Some(id), want_input: true, ..CardChoice::default() };
        let error = Card::open(&choice).err().unwrap();
        assert_eq!(error, AudioError::NotFound { direction: Direction::Input, id: "nonsense".into() });
        assert!(error.to_string().contains("\"nonsense\"") && error.to_string().contains("choose another one"));
    }

    #[test]
    fn alsa_plugins_are_not_devices() {
        #[cfg(target_os = "linux")]
        for (name, listed) in [("null", false), ("default", true), ("plughw:CARD=0,DEV=0", true), ("lavrate", false)] {
            assert_eq!(worth_listing(&cpal::DeviceId::new(cpal::HostId::Alsa, name)), listed, "{name}");
        }
    }
}
