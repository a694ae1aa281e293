//! Sound files: wav, flac, mp3, ogg/vorbis and aiff in (symphonia), wav out (hound). Any rate, channel count and sample
//! format comes in as mono `f32`. Blocks on the disk; never called from a real-time thread.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// Longer files are refused: they would fill the memory, and nobody speaks that long.
const LONGEST_SECONDS: u64 = 1800;

/// A file of which more than this is missing at its end is truncated. Encoders round by less.
const MISSING_SECONDS: f64 = 0.25;

/// A file whose loudest sample is below this is silent: -80 dBFS, under the noise of any microphone.
const SILENT_BELOW: f32 = 1e-4;

/// Why a sound file cannot be used. Every message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("there is no file {0}: check the name")]
    Missing(PathBuf),
    #[error("{path} cannot be opened ({source}): check that it is a file and that you may read it")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{0} is empty: record or copy it again")]
    Empty(PathBuf),
    #[error("{path} is not a sound file that can be read ({detail}): use wav, flac, mp3, ogg or aiff")]
    NotAudio { path: PathBuf, detail: String },
    #[error("{path} ends after {got:.1} of {declared:.1} seconds: copy or download it again")]
    Truncated { path: PathBuf, got: f64, declared: f64 },
    #[error("{path} is damaged ({detail}): copy or download it again")]
    Damaged { path: PathBuf, detail: String },
    #[error("{0} is silent: check the microphone it was recorded with, or use another file")]
    Silent(PathBuf),
    #[error("{path} is longer than {minutes} minutes: cut it")]
    TooLong { path: PathBuf, minutes: u64 },
    #[error("{path} cannot be written ({detail}): check the folder and the free space")]
    Unwritable { path: PathBuf, detail: String },
}

/// Sound from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Mono, nominally within -1..1.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub rate: u32,
}

impl Clip {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate.max(1))
    }
}

/// Reads a sound file as mono; the channels are averaged.
pub fn read(path: &Path) -> Result<Clip, FileError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => FileError::Missing(path.into()),
        _ => FileError::Unreadable { path: path.into(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    if about.len() == 0 {
        return Err(FileError::Empty(path.into()));
    }
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
        hint.with_extension(extension);
    }
    let source = MediaSourceStream::new(Box::new(file), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&hint, source, FormatOptions::default(), MetadataOptions::default())
        .map_err(|e| FileError::NotAudio { path: path.into(), detail: e.to_string() })?;
    let (clip, declared) = decode(format.as_mut(), path)?;
    let missing = declared.unwrap_or(0) as f64 / f64::from(clip.rate) - clip.seconds();
    if missing > MISSING_SECONDS || (clip.samples.is_empty() && declared.unwrap_or(0) > 0) {
        let (got, declared) = (clip.seconds(), clip.seconds() + missing);
        return Err(FileError::Truncated { path: path.into(), got, declared });
    }
    if clip.samples.is_empty() {
        return Err(FileError::Empty(path.into()));
    }
    if crate::dsp::level::peak(&clip.samples) < SILENT_BELOW {
        return Err(FileError::Silent(path.into()));
    }
    Ok(clip)
}

/// Decodes the first sound track; also gives the number of frames that the file declares, if it does.
fn decode(format: &mut dyn FormatReader, path: &Path) -> Result<(Clip, Option<u64>), FileError> {
    let not_audio = |detail: &str| FileError::NotAudio { path: path.into(), detail: detail.into() };
    let track = format.default_track(TrackType::Audio).ok_or_else(|| not_audio("it has no sound track"))?;
    let (track_id, declared) = (track.id, track.num_frames);
    let parameters = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(|| not_audio("unknown codec"))?;
    let declared_rate = parameters.sample_rate;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|e| not_audio(&e.to_string()))?;
    let mut clip = Clip { samples: Vec::new(), rate: declared_rate.unwrap_or(0) };
    let (mut interleaved, mut bad_packets, mut good_packets) = (Vec::<f32>::new(), 0u32, 0u32);
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // A file that ends in the middle of a packet: what is missing is judged by the caller.
            Err(DecodeError::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(FileError::Damaged { path: path.into(), detail: e.to_string() }),
        };
        if packet.track_id != track_id {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(decoded) => {
                good_packets += 1;
                let channels = decoded.num_planes().max(1);
                let rate = decoded.spec().rate();
                if clip.samples.is_empty() {
                    clip.rate = rate;
                } else if clip.rate != rate {
                    return Err(not_audio("its sample rate changes in the middle"));
                }
                decoded.copy_to_vec_interleaved(&mut interleaved);
                let weight = 1.0 / channels as f32;
                let mono = |frame: &[f32]| frame.iter().sum::<f32>() * weight;
                clip.samples.extend(interleaved.chunks_exact(channels).map(mono).map(finite));
            }
            Err(DecodeError::DecodeError(_) | DecodeError::IoError(_)) => bad_packets += 1,
            Err(e) => return Err(FileError::Damaged { path: path.into(), detail: e.to_string() }),
        }
        if clip.samples.len() as u64 > LONGEST_SECONDS * u64::from(clip.rate) {
            return Err(FileError::TooLong { path: path.into(), minutes: LONGEST_SECONDS / 60 });
        }
    }
    // A lost packet or two is a crackle; more is another file than was recorded.
    if bad_packets > 2 && bad_packets > good_packets / 20 {
        let detail = format!("{bad_packets} of {} packets are broken", bad_packets + good_packets);
        return Err(FileError::Damaged { path: path.into(), detail });
    }
    if clip.rate == 0 {
        return Err(not_audio("it declares no sample rate"));
    }
    Ok((clip, declared))
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

/// Writes 16-bit wav, one slice per channel, all of the same length (shorter ones end in silence). The file appears
/// under its name only when it is complete.
pub fn write_wav(path: &Path, rate: u32, channels: &[&[f32]]) -> Result<(), FileError> {
    let failed = |detail: String| FileError::Unwritable { path: path.into(), detail };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write_all(&temporary, rate, channels)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|e| e.to_string()));
    written.map_err(|detail| {
        // Best effort: the first failure is the one to report.
        let _ = std::fs::remove_file(&temporary);
        failed(detail)
    })
}

fn write_all(path: &Path, rate: u32, channels: &[&[f32]]) -> Result<(), String> {
    let count = u16::try_from(channels.len()).ok().filter(|&n| n > 0).ok_or("it needs 1 to 65535 channels")?;
    let spec = hound::WavSpec {
        channels: count,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let file = File::create(path).map_err(|e| e.to_string())?;
    let mut writer = hound::WavWriter::new(BufWriter::new(file), spec).map_err(|e| e.to_string())?;
    let frames = channels.iter().map(|c| c.len()).max().unwrap_or(0);
    for i in 0..frames {
        for channel in channels {
            let sample = finite(channel.get(i).copied().unwrap_or(0.0));
            writer
                .write_sample((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16)
                .map_err(|e| e.to_string())?;
        }
    }
    writer.finalize().map_err(|e| e.to_string())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
