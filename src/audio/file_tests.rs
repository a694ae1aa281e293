//! Tests of the file reader. The files are written here byte by byte from the formats' definitions, or were made by
//! outside tools (`tests/fixtures/audio/README.md`); never by the code under test.

use super::*;
use crate::dsp::level::{peak, rms_db};
use std::f64::consts::TAU;

/// How a test file codes its samples: (format tag, bits per sample, one sample as bytes).
type Coding = (u16, u16, fn(f64) -> Vec<u8>);

const U8: Coding = (1, 8, |s| vec![(s * 127.0 + 128.0).round() as u8]);
const I16: Coding = (1, 16, |s| ((s * 32767.0).round() as i16).to_le_bytes().to_vec());
const I24: Coding = (1, 24, |s| ((s * 8_388_607.0).round() as i32).to_le_bytes()[..3].to_vec());
const I32: Coding = (1, 32, |s| ((s * 2_147_483_647.0).round() as i32).to_le_bytes().to_vec());
const F32: Coding = (3, 32, |s| (s as f32).to_le_bytes().to_vec());
const F64: Coding = (3, 64, |s| s.to_le_bytes().to_vec());

/// A wav file of `frames` frames as bytes; `sample(frame, channel)`.
fn wav(coding: Coding, rate: u32, channels: u16, frames: usize, sample: impl Fn(usize, u16) -> f64) -> Vec<u8> {
    let (tag, bits, code) = coding;
    let data: Vec<u8> =
        (0..frames).flat_map(|i| (0..channels).map(move |c| (i, c))).flat_map(|(i, c)| code(sample(i, c))).collect();
    let align = channels * bits / 8;
    let mut out = Vec::new();
    out.extend(b"RIFF");
    out.extend((36 + data.len() as u32).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(tag.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend((rate * u32::from(align)).to_le_bytes());
    out.extend(align.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out.extend(b"data");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

fn tone(rate: u32) -> impl Fn(usize, u16) -> f64 {
    move |i, _| 0.5 * (TAU * 440.0 * i as f64 / f64::from(rate)).sin()
}

fn read_bytes(name: &str, bytes: &[u8]) -> Result<Clip, FileError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

#[test]
fn every_sample_format_rate_and_channel_count() {
    for (coding, tolerance) in [(U8, 0.01), (I16, 1e-4), (I24, 1e-6), (I32, 1e-6), (F32, 1e-6), (F64, 1e-6)] {
        for (rate, channels) in [(8000, 1), (22_050, 2), (48_000, 1), (96_000, 2)] {
            let clip = read_bytes("a.wav", &wav(coding, rate, channels, 4321, tone(rate))).unwrap();
            assert_eq!((clip.rate, clip.samples.len()), (rate, 4321));
            let worst = clip.samples.iter().enumerate().map(|(i, &s)| (f64::from(s) - tone(rate)(i, 0)).abs());
            let worst = worst.fold(0.0, f64::max);
            assert!(worst < tolerance, "{} bit, {rate} Hz, {channels} channels: off by {worst}", coding.1);
        }
    }
}

#[test]
fn channels_are_averaged() {
    let six = wav(I16, 48_000, 6, 1000, |_, c| f64::from(c) / 10.0);
    let clip = read_bytes("six.wav", &six).unwrap();
    assert!(clip.samples.iter().all(|s| (s - 0.25).abs() < 1e-4), "{:?}", &clip.samples[..3]);
}

#[test]
fn compressed_files_made_by_outside_tools() {
    // Each holds one second of 440 Hz at 0.5 of full scale: -9.03 dBFS.
    for (name, rate) in [("tone.mp3", 44_100), ("tone.ogg", 16_000), ("tone.flac", 48_000), ("tone.aiff", 22_050)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name);
        let clip = read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(clip.rate, rate, "{name}");
        assert!((clip.seconds() - 1.0).abs() < 0.06, "{name}: {} s", clip.seconds());
        let middle = &clip.samples[clip.samples.len() / 4..clip.samples.len() * 3 / 4];
        assert!((rms_db(middle) + 9.03).abs() < 0.2, "{name}: {} dB", rms_db(middle));
        let crossings = middle.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count() as f64;
        let hz = crossings * f64::from(rate) / middle.len() as f64;
        assert!((hz - 440.0).abs() < 4.0, "{name}: {hz} Hz");
    }
}

#[test]
fn a_name_that_lies_about_the_format_does_no_harm() {
    assert!(read_bytes("really-a.mp3", &wav(I16, 16_000, 1, 4000, tone(16_000))).is_ok());
}

#[test]
fn broken_files_are_named_and_explained() {
    let good = wav(I16, 16_000, 1, 32_000, tone(16_000));
    let mp3 = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/tone.mp3")).unwrap();
    let mut noise = 1u32;
    let junk: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(5000)
    .collect();
    type Check = fn(&FileError) -> bool;
    let cases: [(&str, Vec<u8>, Check); 9] = [
        ("empty.wav", Vec::new(), |e| matches!(e, FileError::Empty(_))),
        ("header-only.wav", good[..44].to_vec(), |e| matches!(e, FileError::Truncated { .. } | FileError::Empty(_))),
        (
            "half.wav",
            good[..good.len() / 2].to_vec(),
            |e| matches!(e, FileError::Truncated { got, declared, .. } if (got - 1.0).abs() < 0.01 && (declared - 2.0).abs() < 0.01),
        ),
        ("half-header.wav", good[..30].to_vec(), |e| matches!(e, FileError::NotAudio { .. })),
        ("no-samples.wav", wav(I16, 16_000, 1, 0, tone(16_000)), |e| matches!(e, FileError::Empty(_))),
        ("text.wav", b"This is not a sound file. ".repeat(100), |e| matches!(e, FileError::NotAudio { .. })),
        ("junk.mp3", junk, |e| matches!(e, FileError::NotAudio { .. } | FileError::Damaged { .. })),
        ("half.mp3", mp3[..mp3.len() / 2].to_vec(), |e| matches!(e, FileError::Truncated { .. })),
        ("silent.wav", wav(I16, 16_000, 1, 16_000, |_, _| 0.0), |e| matches!(e, FileError::Silent(_))),
    ];
    for (name, bytes, is_right) in cases {
        let error = read_bytes(name, &bytes).expect_err(name);
        assert!(is_right(&error), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(": "), "{name}: {text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let missing = read(&dir.path().join("voice.wav")).unwrap_err();
    assert!(matches!(missing, FileError::Missing(_)) && missing.to_string().contains("/voice.wav: check"), "{missing}");
    assert!(matches!(read(dir.path()), Err(FileError::Unreadable { .. })));
}

#[test]
fn writes_what_another_reader_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.wav");
    let left: Vec<f32> = (0..1000).map(|i| (i as f32 / 500.0) - 1.0).collect();
    write_wav(&path, 24_000, &[&left, &[0.5, 2.0, -2.0, f32::NAN]]).unwrap();
    let mut reader = hound::WavReader::open(&path).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 24_000, 16));
    let all: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    assert_eq!(all.len(), 2000);
    let right: Vec<i16> = all.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(right[..5], [16_384, 32_767, -32_768, 0, 0]);
    assert_eq!((all[0], all[1998]), (-32_768, 32_702));
    // Over an existing file, too; and nothing is left beside it.
    write_wav(&path, 16_000, &[&[0.25; 10]]).unwrap();
    assert_eq!(peak(&read(&path).unwrap().samples), 0.25);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no-such-folder/out.wav");
    let error = write_wav(&nowhere, 16_000, &[&[0.1]]).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{} cannot be written", nowhere.display())), "{error}");
    let path = dir.path().join("out.wav");
    std::fs::write(&path, b"old").unwrap();
    assert!(write_wav(&path, 16_000, &[]).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
