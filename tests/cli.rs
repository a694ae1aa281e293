//! The command line, from outside: what it does with bad input, and with input that is good but unusual. Every failure
//! is one line on standard error that names the thing and says what to do, a code from `docs/json.md`, and no output
//! file. Formats are tried on the scripted engine, which needs no model; the last test asks the real one.

use anyhow::{Context, Result};
use hound::{SampleFormat, WavSpec};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Exit codes, as documented.
const DONE: i32 = 0;
const BAD_INPUT: i32 = 2;
const NO_MODEL: i32 = 3;
const NO_DEVICE: i32 = 4;
#[cfg(unix)]
const INTERRUPTED: i32 = 130;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What came of a run.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// Asserts that it failed as documented: with this code, one line, which has all of these words.
    #[track_caller]
    fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not in: {self:?}");
        }
        assert_eq!(self.out, "", "{self:?}");
    }
}

/// A folder of its own, with settings of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Place> {
        Ok(Place(tempfile::tempdir()?))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn antiphon(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon"));
        command.env("XDG_CONFIG_HOME", self.at("config")).env_remove("RUST_LOG").env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    /// `converse` on the scripted engine, from `question` to `answer.wav`.
    fn converse(&self, question: &Path) -> Result<Ran> {
        let answer = self.at("answer.wav");
        let args: [&OsStr; 7] = [
            "converse".as_ref(),
            "--engine".as_ref(),
            "scripted".as_ref(),
            "--in".as_ref(),
            question.as_ref(),
            "--out".as_ref(),
            answer.as_ref(),
        ];
        let ran = run(self.antiphon().args(args))?;
        assert_eq!(answer.exists(), ran.code == Some(DONE), "an answer where there is one, and only there: {ran:?}");
        Ok(ran)
    }

    /// The question in another format: in these channels, at this multiple of its rate, in these bits.
    fn question(
        &self,
        channels: u16,
        times: u32,
        bits_per_sample: u16,
        sample_format: SampleFormat,
    ) -> Result<PathBuf> {
        let mut reader = hound::WavReader::open(root("assets/question.wav"))?;
        let path = self.at("question.wav");
        let sample_rate = reader.spec().sample_rate * times;
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut writer = hound::WavWriter::create(&path, spec)?;
        for sample in reader.samples::<i16>() {
            let sample = i32::from(sample?);
            // Each sample several times over: not how sound is resampled, but the same words.
            for _ in 0..times * u32::from(channels) {
                match (sample_format, bits_per_sample) {
                    (SampleFormat::Float, _) => writer.write_sample(sample as f32 / 32768.0)?,
                    (SampleFormat::Int, 8) => writer.write_sample(sample >> 8)?,
                    (SampleFormat::Int, bits) => writer.write_sample(sample << (bits - 16))?,
                }
            }
        }
        writer.finalize()?;
        Ok(path)
    }
}

fn run(command: &mut Command) -> Result<Ran> {
    let output = command.output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("text that is not UTF-8");
    let ran = Ran { code: output.status.code(), out: text(output.stdout)?, err: text(output.stderr)? };
    assert!(!ran.err.contains("panicked"), "{ran:?}");
    Ok(ran)
}

#[test]
fn a_question_that_is_missing_is_named() -> Result<()> {
    Place::new()?.converse(Path::new("no-such-question.wav"))?.failed(BAD_INPUT, &["no-such-question.wav", "check"]);
    Ok(())
}

#[test]
fn a_question_that_is_a_folder_is_named() -> Result<()> {
    let place = Place::new()?;
    std::fs::create_dir(place.at("folder.wav"))?;
    place.converse(&place.at("folder.wav"))?.failed(BAD_INPUT, &["folder.wav"]);
    Ok(())
}

#[test]
fn a_question_without_a_byte_is_empty() -> Result<()> {
    let place = Place::new()?;
    std::fs::write(place.at("nothing.wav"), [])?;
    place.converse(&place.at("nothing.wav"))?.failed(BAD_INPUT, &["nothing.wav", "empty"]);
    Ok(())
}

#[test]
fn a_question_without_a_sample_is_empty() -> Result<()> {
    let place = Place::new()?;
    let path = place.at("header.wav");
    let spec = WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    hound::WavWriter::create(&path, spec)?.finalize()?;
    place.converse(&path)?.failed(BAD_INPUT, &["header.wav", "empty"]);
    Ok(())
}

#[test]
fn a_truncated_question_is_refused() -> Result<()> {
    let place = Place::new()?;
    let whole = std::fs::read(root("assets/question.wav"))?;
    // in its header, after its header, in its sound
    for (length, remedy) in [(30, ""), (44, "again"), (whole.len() / 2, "again")] {
        let path = place.at(&format!("cut-{length}.wav"));
        std::fs::write(&path, &whole[..length])?;
        place.converse(&path)?.failed(BAD_INPUT, &[&format!("cut-{length}.wav"), remedy]);
    }
    Ok(())
}

#[test]
fn a_question_that_is_no_sound_is_refused() -> Result<()> {
    let place = Place::new()?;
    std::fs::write(place.at("letter.wav"), "Dear Sir or Madam, why is the sky blue?\n".repeat(50))?;
    place.converse(&place.at("letter.wav"))?.failed(BAD_INPUT, &["letter.wav", "wav"]);
    Ok(())
}

#[test]
fn a_question_in_which_nobody_speaks_is_refused() -> Result<()> {
    let place = Place::new()?;
    for (name, loudness) in [("silent.wav", 0), ("hiss.wav", 30)] {
        let path = place.at(name);
        let spec = WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = hound::WavWriter::create(&path, spec)?;
        let mut state = 1_u32;
        for _ in 0..32_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            writer.write_sample(((state >> 16) as i32 % (2 * loudness + 1) - loudness) as i16)?;
        }
        writer.finalize()?;
        place.converse(&path)?.failed(BAD_INPUT, &[name]);
    }
    Ok(())
}

#[test]
fn every_usual_format_is_heard() -> Result<()> {
    let formats = [
        (1, 1, 8, SampleFormat::Int),
        (1, 1, 24, SampleFormat::Int),
        (1, 1, 32, SampleFormat::Int),
        (1, 1, 32, SampleFormat::Float),
        (2, 2, 16, SampleFormat::Int),
        (1, 4, 16, SampleFormat::Int), // 96 kHz
        (6, 2, 16, SampleFormat::Int),
    ];
    for (channels, times, bits, format) in formats {
        let place = Place::new()?;
        let ran = place.converse(&place.question(channels, times, bits, format)?)?;
        assert_eq!(ran.code, Some(DONE), "{channels} channels, rate x {times}, {bits} bits {format:?}: {ran:?}");
        audible(&place.at("answer.wav"))?;
    }
    let place = Place::new()?;
    let ran = place.converse(&root("tests/fixtures/cli/question.mp3"))?;
    assert_eq!(ran.code, Some(DONE), "mp3: {ran:?}");
    audible(&place.at("answer.wav"))
}

/// Asserts that a file has sound in it.
fn audible(wav: &Path) -> Result<()> {
    let loudest = hound::WavReader::open(wav)?
        .samples::<i16>()
        .try_fold(0, |most, sample| Ok::<_, hound::Error>(most.max(sample?.unsigned_abs())))?;
    assert!(loudest > 300, "{} is silent: its loudest sample is {loudest}", wav.display());
    Ok(())
}

#[test]
fn an_unknown_engine_is_named_beside_the_known_ones() -> Result<()> {
    let place = Place::new()?;
    let ran = run(place
        .antiphon()
        .args(["converse", "--engine", "steam", "--out", "never.wav", "--in"])
        .arg(root("assets/question.wav")))?;
    assert_eq!(ran.code, Some(BAD_INPUT), "{ran:?}");
    for word in ["steam", "cascade", "omni"] {
        assert!(ran.err.contains(word), "'{word}' is not in: {ran:?}");
    }
    Ok(())
}

#[test]
fn an_answer_that_has_no_place_is_refused_before_the_work() -> Result<()> {
    let place = Place::new()?;
    let answer = place.at("no-such-folder").join("answer.wav");
    let ran = run(place
        .antiphon()
        .args(["converse", "--engine", "scripted", "--in"])
        .arg(root("assets/question.wav"))
        .arg("--out")
        .arg(&answer))?;
    ran.failed(BAD_INPUT, &["no-such-folder"]);
    Ok(())
}

#[test]
fn a_missing_model_is_named_with_the_command_that_fetches_it() -> Result<()> {
    let place = Place::new()?;
    let ran = run(place
        .antiphon()
        .env("ANTIPHON_HOME", place.at("empty"))
        .args(["converse", "--out"])
        .arg(place.at("answer.wav"))
        .arg("--in")
        .arg(root("assets/question.wav")))?;
    ran.failed(NO_MODEL, &["antiphon models pull"]);
    assert!(!place.at("answer.wav").exists());
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_window_without_a_display_says_what_works_without_one() -> Result<()> {
    let place = Place::new()?;
    let ran = run(place.antiphon().env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET"))?;
    ran.failed(NO_DEVICE, &["display", "converse"]);
    Ok(())
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_panic() -> Result<()> {
    let place = Place::new()?;
    for args in ["doctor", "models list", "--help"] {
        let mut child = place.antiphon().args(args.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{args}: {err}");
    }
    Ok(())
}

/// An answer that would take a minute is broken off as soon as its first words are on the way.
#[test]
#[cfg(unix)]
fn an_interrupted_answer_leaves_nothing_behind() -> Result<()> {
    let place = Place::new()?;
    let script = place.at("script.json");
    let sound = r#""sound": { "tone": { "hz": 330.0 } }, "seconds": 1.0"#;
    std::fs::write(
        &script,
        format!(
            r#"{{ "turns": [{{ "heard": "Tell me a long story", "steps": [
            {{ "audio": {{ {sound}, "delay_ms": 0 }} }}, {{ "audio": {{ {sound}, "delay_ms": 60000 }} }} ] }}] }}"#
        ),
    )?;
    let mut antiphon = place
        .antiphon()
        .args(["--engine", "scripted", "--script"])
        .arg(&script)
        .args(["-v", "converse", "--in"])
        .arg(root("assets/question.wav"))
        .arg("--out")
        .arg(place.at("answer.wav"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(antiphon.try_wait()?, None, "it is still answering");
    rustix::process::kill_process(rustix::process::Pid::from_child(&antiphon), rustix::process::Signal::INT)?;
    let asked = Instant::now();
    let code = antiphon.wait()?.code();
    println!("ended in {} ms", asked.elapsed().as_millis());
    assert_eq!(code, Some(INTERRUPTED));
    let left: Vec<_> = std::fs::read_dir(place.0.path())?.collect::<std::io::Result<Vec<_>>>()?;
    let left: Vec<_> = left.iter().map(std::fs::DirEntry::file_name).filter(|name| name != "script.json").collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new(), "files that nobody asked for");
    Ok(())
}

#[test]
fn help_and_version_are_there() -> Result<()> {
    let place = Place::new()?;
    let help = run(place.antiphon().arg("--help"))?;
    assert_eq!(help.code, Some(DONE), "{help:?}");
    for command in ["converse", "models", "doctor"] {
        assert!(help.out.contains(command), "'{command}' is not in: {help:?}");
    }
    let version = run(place.antiphon().arg("--version"))?;
    assert_eq!((version.code, version.out.trim()), (Some(DONE), concat!("antiphon ", env!("CARGO_PKG_VERSION"))));
    Ok(())
}

#[test]
fn the_question_is_understood_and_answered() -> Result<()> {
    let place = Place::new()?;
    let ran = run(place
        .antiphon()
        .args(["converse", "--json", "--out"])
        .arg(place.at("answer.wav"))
        .arg("--in")
        .arg(root("assets/question.wav")))?;
    assert_eq!(ran.code, Some(DONE), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1, "one object on one line: {ran:?}");
    let dialogue: serde_json::Value = serde_json::from_str(&ran.out)?;
    assert_eq!(dialogue["turns"].as_array().map(Vec::len), Some(1), "{dialogue}");
    let turn = &dialogue["turns"][0];
    let text = |field: &str| turn[field].as_str().unwrap_or_default().to_lowercase();
    assert!(text("heard").contains("sky") && text("heard").contains("blue"), "{turn}");
    assert!(text("answer").split_whitespace().count() >= 3, "{turn}");
    assert!(turn["ttfa_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{turn}");
    assert!(turn["speech_seconds"].as_f64().is_some_and(|seconds| seconds > 0.5), "{turn}");
    let stages: Vec<_> =
        turn["stages"].as_array().into_iter().flatten().filter_map(|row| row["stage"].as_str()).collect();
    for stage in ["stt", "llm_prefill", "llm_decode", "tts_decode"] {
        assert!(stages.contains(&stage), "'{stage}' is not in {stages:?}");
    }
    audible(&place.at("answer.wav"))
}

/// The omni engine, from a checkpoint of random numbers to a spoken answer.
#[test]
fn a_random_checkpoint_answers_and_every_stage_is_told() -> Result<()> {
    let place = Place::new()?;
    let model = place.at("tiny");
    let made = run(place.antiphon().args(["dev", "random-checkpoint", "--size", "tiny", "--out"]).arg(&model))?;
    assert_eq!(made.code, Some(DONE), "{made:?}");
    assert!(made.out.contains("tiny") && made.out.contains("MB"), "{made:?}");
    assert!(!place.at("tiny.partial").exists());
    run(place.antiphon().args(["dev", "random-checkpoint", "--out"]).arg(&model))?.failed(1, &["not an empty folder"]);

    let ran = run(place
        .antiphon()
        .env("RUST_LOG", "antiphon=info")
        .args([
            "converse",
            "--engine",
            "omni",
            "--quantize",
            "q4_k",
            "--text-chunk",
            "8",
            "--answer-tokens",
            "40",
            "--seed",
            "2",
            "--json",
        ])
        .arg("--model")
        .arg(&model)
        .arg("--voice")
        .arg(root("tests/fixtures/speech/pause.wav"))
        .arg("--in")
        .arg(root("assets/question.wav"))
        .arg("--out")
        .arg(place.at("answer.wav")))?;
    assert_eq!(ran.code, Some(DONE), "{ran:?}");
    assert!(ran.err.contains("the model needs") && ran.err.contains("free"), "the memory is told: {ran:?}");
    let dialogue: serde_json::Value = serde_json::from_str(&ran.out)?;
    assert_eq!(dialogue["engine"], "omni", "{dialogue}");
    let turn = &dialogue["turns"][0];
    // The model answers sound without writing the question down: there are no words of it, but its length.
    assert_eq!(turn["heard"], "", "{turn}");
    let seconds = turn["question_seconds"].as_f64().context("no length of the question")?;
    assert!((0.5..5.0).contains(&seconds), "{seconds} s");
    assert!(turn["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{turn}");
    let stages: Vec<_> =
        turn["stages"].as_array().into_iter().flatten().filter_map(|row| row["stage"].as_str()).collect();
    for stage in ["audio_encode", "llm_prefill", "llm_decode", "tts_prefill", "tts_decode", "vocoder", "seam"] {
        assert!(stages.contains(&stage), "'{stage}' is not in {stages:?}");
    }
    audible(&place.at("answer.wav"))
}

#[test]
fn what_the_omni_engine_cannot_be_told_is_named() -> Result<()> {
    let place = Place::new()?;
    let tiny = root("tests/fixtures/omni-tiny");
    let refused = |args: &[&str], words: &[&str]| -> Result<()> {
        let mut command = place.antiphon();
        command.args(["say", "Hello.", "--engine", "omni", "--model"]).arg(&tiny).args(args);
        let ran = run(command.arg("--out").arg(place.at("answer.wav")))?;
        assert_eq!(ran.code, Some(BAD_INPUT), "{ran:?}");
        for word in words {
            assert!(ran.err.contains(word), "'{word}' is not in: {ran:?}");
        }
        Ok(())
    };
    refused(&["--text-chunk", "5"], &["text chunk", "7, 8, 9, 10"])?;
    refused(&["--language", "fr"], &["en, zh"])?;
    refused(&["--quantize-speech", "q2"], &["q8_0, q4_k"])?;
    refused(&["--llm", "none.gguf"], &["none.gguf", "GGUF"])?;
    Ok(())
}
