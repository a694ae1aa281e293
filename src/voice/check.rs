//! Whether a recording will do as a reference voice, and what to do if not. Pure.
//!
//! Every aspect gets a figure, a grade and, unless it is fine, a sentence of advice. Where the limits are from stands
//! beside each of them; those without a source are marked as judgement.

use super::hum::{self, Tone};
use super::recording::{LONG_SILENCE_S, LONGEST_S, Recording, Span, UNHEARD};
use crate::dsp::level::SILENCE_DB;
use serde::{Deserialize, Serialize};

/// How good something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    #[default]
    Ok,
    /// It will work, less well than it could.
    Usable,
    NotUsable,
}

impl Grade {
    /// The grade in words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Grade::Ok => "good",
            Grade::Usable => "usable",
            Grade::NotUsable => "not usable",
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Seconds that will be used.
    Length,
    /// The share of it in which somebody speaks.
    Speech,
    /// The active speech level, dBFS.
    Level,
    /// The share of samples that are clipped.
    Clipping,
    /// Decibels from the background up to the voice.
    Noise,
    /// Silences of more than a second.
    Silences,
    /// Decibels from the loudest steady tone up to the voice.
    Hum,
    /// Decibels between quiet and loud moments: a voice rises and falls.
    Swing,
}

/// What to do about an aspect that is not fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Longer,
    NoVoice,
    LittleSpeech,
    Silent,
    TooLoud,
    TooQuiet,
    Clipped,
    Noisy,
    Breaks,
    Hum,
    Flat,
}

impl Advice {
    /// In words, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Advice::Longer => "record 5 to 15 seconds of one person speaking",
            Advice::NoVoice => "no voice was found: choose a recording of one person speaking, without music",
            Advice::LittleSpeech => {
                "much of it is not speech: speak without long breaks and without music, or choose another stretch"
            }
            Advice::Silent => "there is no sound in it: check the microphone, or choose another stretch",
            Advice::TooLoud => "too loud: step back from the microphone, or turn its gain down",
            Advice::TooQuiet => "too quiet: speak closer to the microphone, or turn its gain up",
            Advice::Clipped => "the sound is cut off at its loudest: turn the microphone's gain down and record again",
            Advice::Noisy => {
                "noisy: choose a quieter room, close the window, switch off fans, and speak closer to the microphone"
            }
            Advice::Breaks => "speak on without breaks, or choose a stretch without them",
            Advice::Hum => "keep the cable away from mains leads, switch off what hums or plays, and record again",
            Advice::Flat => "it does not rise and fall as a voice does: choose speech without noise or music behind it",
        }
    }
}

/// One aspect of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub aspect: Aspect,
    pub grade: Grade,
    /// In the unit that [`Aspect`] says.
    pub value: f64,
    /// What was found, in words.
    pub what: String,
    /// What to do about it; empty when nothing needs to be done.
    pub advice: String,
}

impl Finding {
    /// What to do about it, if anything.
    pub fn advised(&self) -> Option<Advice> {
        (self.grade != Grade::Ok).then(|| match self.aspect {
            Aspect::Length => Advice::Longer,
            Aspect::Speech if self.value < VOICELESS => Advice::NoVoice,
            Aspect::Speech => Advice::LittleSpeech,
            Aspect::Level if self.value <= f64::from(SILENCE_DB) => Advice::Silent,
            Aspect::Level if self.value > LOUDEST => Advice::TooLoud,
            Aspect::Level => Advice::TooQuiet,
            Aspect::Clipping => Advice::Clipped,
            Aspect::Noise => Advice::Noisy,
            Aspect::Silences => Advice::Breaks,
            Aspect::Hum => Advice::Hum,
            Aspect::Swing => Advice::Flat,
        })
    }
}

/// What was found in a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Length of the whole recording.
    pub seconds: f64,
    /// The stretch that was looked at, and will be used.
    pub span: Span,
    /// The worst of the findings.
    pub grade: Grade,
    /// In the order of [`Aspect`].
    pub findings: Vec<Finding>,
}

impl Check {
    /// The figure of an aspect, if it could be measured.
    pub fn value(&self, aspect: Aspect) -> Option<f64> {
        self.findings.iter().find(|f| f.aspect == aspect).map(|f| f.value)
    }

    /// What is not fine, the worst first.
    pub fn faults(&self) -> Vec<&Finding> {
        let mut faults: Vec<&Finding> = self.findings.iter().filter(|f| f.grade != Grade::Ok).collect();
        faults.sort_by_key(|f| std::cmp::Reverse(f.grade));
        faults
    }

    /// Why the recording is not usable, in one line; empty when it is.
    pub fn refusal(&self) -> String {
        let reasons = self.faults().into_iter().filter(|f| f.grade == Grade::NotUsable);
        reasons.map(|f| format!("{}: {}", f.what, f.advice)).collect::<Vec<_>>().join("; ")
    }
}

/// Two limits that part good from usable, and usable from not usable.
struct Limits {
    good: f64,
    usable: f64,
}

impl Limits {
    fn at_least(&self, value: f64) -> Grade {
        match value {
            v if v >= self.good => Grade::Ok,
            v if v >= self.usable => Grade::Usable,
            _ => Grade::NotUsable,
        }
    }
}

/// Seconds. Upstream advises 5 to 15 s (MiniCPM-V issue 842); three seconds is what zero-shot cloning is published with
/// (VALL-E, Wang et al. 2023), and nothing shorter.
const LENGTH: Limits = Limits { good: 5.0, usable: 3.0 };
/// Judgement: read speech is speech for three quarters of the time; below a third the model hears mostly the room.
const SPEECH: Limits = Limits { good: 0.55, usable: 0.33 };
/// Share. With less, nobody speaks in it at all (judgement).
const VOICELESS: f64 = 0.05;
/// dBFS. Speech in telephony is kept at -26 (ITU-T P.56, G.191); 16 dB below that is a microphone across the room; 30 dB
/// below, a 16-bit recording has lost its consonants, which lie up to 20 dB under the vowels, to its own noise.
const LEVEL: Limits = Limits { good: -42.0, usable: -56.0 };
/// dBFS. The crest of speech is at least 11 dB over its level: louder than this it has been squeezed.
const LOUDEST: f64 = -9.0;
/// Shares. A few samples are not heard. One sample in a hundred is heard in every word (judgement).
const CLIPPED: (f64, f64) = (UNHEARD, 0.01);
/// Decibels. LibriTTS calls speech clean from 20 dB on (Zen et al. 2019); with less than 8 dB the noise covers the
/// consonants (judgement).
const NOISE: Limits = Limits { good: 20.0, usable: 8.0 };
/// Decibels. A tone 30 dB under the voice is heard in its pauses; 10 dB under, it is part of the voice (judgement).
const HUM: Limits = Limits { good: 30.0, usable: 10.0 };
/// Decibels. Sentences swing by 20 dB and more from syllable to syllable; steady noise by 2, a held chord by 5 (measured).
const SWING: f64 = 8.0;

impl Recording {
    /// Judges a stretch of the recording; without one, the [proposed](Recording::propose) one.
    pub fn check(&self, span: Option<Span>) -> Check {
        let wanted = span.unwrap_or_else(|| self.propose()).within(self.seconds());
        let mut findings = vec![length(wanted.seconds())];
        let speech_s = self.speech_s(wanted);
        let level_db = self.level_db(wanted);
        if level_db > f64::from(SILENCE_DB) {
            findings.push(speech(speech_s / wanted.seconds().max(1e-9)));
            findings.push(level(level_db));
            findings.push(clipping(self.clipped_share(wanted)));
            findings.extend(self.snr_db(wanted).map(noise));
            findings.push(silences(self.long_silences(wanted)));
            findings.push(hum_below(hum::loudest(self.samples(wanted)), level_db));
            findings.push(swing(self.swing_db(wanted)));
        } else {
            findings.push(finding(Aspect::Level, Grade::NotUsable, level_db, "silence".to_owned()));
        }
        let grade = findings.iter().map(|f| f.grade).max().unwrap_or_default();
        Check { seconds: self.seconds(), span: wanted, grade, findings }
    }
}

fn finding(aspect: Aspect, grade: Grade, value: f64, what: String) -> Finding {
    let found = Finding { aspect, grade, value, what, advice: String::new() };
    Finding { advice: found.advised().map_or("", Advice::words).to_owned(), ..found }
}

fn length(seconds: f64) -> Finding {
    debug_assert!(seconds <= LONGEST_S + 1e-6);
    finding(Aspect::Length, LENGTH.at_least(seconds), seconds, format!("{seconds:.1} s long"))
}

fn speech(share: f64) -> Finding {
    finding(Aspect::Speech, SPEECH.at_least(share), share, format!("speech {:.0} % of the time", share * 100.0))
}

fn level(db: f64) -> Finding {
    let grade = if db > LOUDEST { Grade::Usable } else { LEVEL.at_least(db) };
    finding(Aspect::Level, grade, db, format!("level {db:.0} dBFS"))
}

fn clipping(share: f64) -> Finding {
    let grade = match share {
        s if s <= CLIPPED.0 => Grade::Ok,
        s if s <= CLIPPED.1 => Grade::Usable,
        _ => Grade::NotUsable,
    };
    let what = if share == 0.0 { "not clipped".to_owned() } else { format!("{:.2} % clipped", share * 100.0) };
    finding(Aspect::Clipping, grade, share, what)
}

fn noise(snr_db: f64) -> Finding {
    let what = format!("background {snr_db:.0} dB below the voice");
    finding(Aspect::Noise, NOISE.at_least(snr_db), snr_db, what)
}

fn silences(count: usize) -> Finding {
    let grade = if count > 1 { Grade::Usable } else { Grade::Ok };
    let what = match count {
        0 => "no long silence".to_owned(),
        1 => "one long silence".to_owned(),
        n => format!("{n} silences of more than {LONG_SILENCE_S:.0} s"),
    };
    finding(Aspect::Silences, grade, count as f64, what)
}

fn hum_below(tone: Option<Tone>, level_db: f64) -> Finding {
    let Some(tone) = tone else {
        return finding(Aspect::Hum, Grade::Ok, f64::from(-SILENCE_DB), "no hum".to_owned());
    };
    let below = level_db - tone.level_db;
    let what = format!("a steady tone at {:.0} Hz, {below:.0} dB below the voice", tone.hz);
    finding(Aspect::Hum, HUM.at_least(below), below, what)
}

fn swing(db: f64) -> Finding {
    let grade = if db < SWING { Grade::NotUsable } else { Grade::Ok };
    finding(Aspect::Swing, grade, db, format!("rises and falls by {db:.0} dB"))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
