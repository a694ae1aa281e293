//! What was said, compared with what was to be said: by words, through the real speech-to-text.

use super::models;
use antiphon::dsp::resample::convert;
use antiphon::engine::CancelToken;
use antiphon::engine::cascade::stt::SpeechToText;
use antiphon::engine::text::speakable::speakable;
use antiphon::engine::whisper::{Language, Precision, Whisper};
use candle_core::Device;
use std::sync::Arc;

/// How many words of `text` a listener to `pcm` got wrong, how many there are, and what was understood.
pub fn misunderstood(text: &str, pcm: &[f32], rate: u32) -> (usize, usize, String) {
    let understood = transcribe(pcm, rate);
    let said = words(&speakable(text));
    (wrong_words(&said, &words(&understood)), said.len(), understood)
}

/// What Whisper understands of `pcm`.
fn transcribe(pcm: &[f32], rate: u32) -> String {
    let whisper = Whisper::load(&models::folder("whisper-base"), Precision::Eight, &Device::Cpu).expect("whisper");
    let mut stt = SpeechToText::new(Arc::new(whisper), Language::Known("en".into()));
    stt.push(&convert(pcm, rate, 16_000).expect("16 kHz"));
    stt.finish(&CancelToken::default(), &mut |_| {}).expect("a transcript").expect("not cancelled")
}

/// The words without case and punctuation.
fn words(text: &str) -> Vec<String> {
    let plain: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Words to be changed, added or left out to make one text of the other.
pub fn wrong_words<T: PartialEq>(said: &[T], heard: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, a) in said.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in heard.iter().enumerate() {
            let next = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[heard.len()]
}
