//! Greedy decoding with Whisper's rules: what may be written, when to stop, and whether it was speech at all.
//!
//! One run owns its cache and ends with it. The thresholds are OpenAI's (`transcribe.py`) where Whisper has them.

use super::decoder::{CrossAttention, Decoder, SelfCache};
use super::tokens::Tokens;
use super::{CancelToken, Language};
use crate::engine::EngineError;

/// Nothing was said when Whisper is this sure of it and unsure of the words.
const NO_SPEECH: f32 = 0.6;
/// Below this mean log-probability a transcript is doubtful.
const DOUBTFUL: f32 = -1.0;
/// Below this one it is noise, whatever Whisper makes of it.
const HOPELESS: f32 = -1.6;
/// What Whisper makes of noise, with fair confidence, from having been taught on subtitles; not believed when it thinks
/// that there may be no speech.
const PHANTOMS: [&str; 4] = ["you", "thank you", "bye", "thanks for watching"];
const MAYBE_NO_SPEECH: f32 = 0.5;
/// Nobody speaks more tokens a second than this for long; a model gone astray does.
const TOKENS_A_SECOND: f32 = 12.0;
const TOKENS_AT_LEAST: usize = 12;

/// What was heard in one stretch of sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The words, trimmed. As decoded: ask [`is_speech`](Self::is_speech) whether to believe them.
    pub text: String,
    /// The text's tokens: the draft for another pass over the same sound.
    pub tokens: Vec<u32>,
    /// The language's code, `None` for an English-only model.
    pub language: Option<String>,
    /// Whisper's own probability that nothing was said.
    pub no_speech: f32,
    /// Mean of the log-probabilities of the tokens written.
    pub mean_log_prob: f32,
    /// Whether decoding ran in circles or past all likely length and was cut.
    pub astray: bool,
    /// How many times the decoder ran: fewer than tokens where the draft was right.
    pub steps: usize,
}

impl Transcript {
    /// Whether this is likely something that was said, not noise that was dressed in words.
    pub fn is_speech(&self) -> bool {
        let unheard = self.no_speech > NO_SPEECH && self.mean_log_prob < DOUBTFUL;
        let babble = self.astray && self.mean_log_prob < DOUBTFUL;
        let plain = self.text.trim_end_matches(['.', '!', ',']).to_lowercase();
        let phantom = self.no_speech > MAYBE_NO_SPEECH && PHANTOMS.contains(&plain.as_str());
        !(self.text.is_empty() || phantom || unheard || babble || self.mean_log_prob < HOPELESS)
    }
}

/// One run over one stretch of sound.
pub(super) struct Greedy<'a> {
    pub decoder: &'a Decoder,
    pub tokens: &'a Tokens,
    pub sound: &'a CrossAttention,
    pub cancel: &'a CancelToken,
}

impl Greedy<'_> {
    pub fn run(&self, seconds: f32, language: &Language, draft: &[u32]) -> Result<Option<Transcript>, EngineError> {
        let t = self.tokens;
        let limit = self.limit(seconds);
        let mut draft = &draft[..draft.len().min(limit)];
        let mut cache = SelfCache::default();
        let mut steps = 1;

        let mut opening = vec![t.start];
        let mut first_row = None;
        if !t.languages.is_empty() {
            let id = match language {
                Language::Known(code) => t.language(code)?,
                Language::Detect => {
                    let row = self.score(&opening, 0, &mut cache, 0)?.swap_remove(0);
                    steps += 1;
                    let best = likeliest(t.languages.iter().map(|&id| (id, row[id as usize])));
                    first_row = Some(row);
                    best
                }
            };
            opening.extend([id, t.transcribe]);
        }
        opening.push(t.no_timestamps);
        let language = opening.get(1).filter(|id| t.languages.contains(id)).and_then(|&id| t.language_code(id));

        // One pass over the opening and the draft; of its scores, those of the start (was anything said?) and those
        // from the opening's end on (the text) matter.
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let known = usize::from(first_row.is_some());
        let prompt: Vec<u32> = opening.iter().chain(draft).copied().collect();
        let states = self.decoder.forward(&prompt[known..], known, &mut cache, self.sound)?;
        let text_from = opening.len() - 1 - known;
        let start_row = match first_row {
            Some(row) => row,
            None => self.decoder.logits(&states.narrow(0, 0, 1)?)?.swap_remove(0),
        };
        let no_speech = probability(&start_row, t.no_speech);
        let mut rows = self.decoder.logits(&states.narrow(0, text_from, draft.len() + 1)?)?;

        let mut text: Vec<u32> = Vec::new();
        let (mut row, mut sum, mut astray) = (0, 0.0, false);
        loop {
            let (id, log_prob) = self.choose(&mut rows[row], text.is_empty());
            sum += log_prob;
            if id == t.end {
                break;
            }
            text.push(id);
            if let Some(once) = circle(&text) {
                text.truncate(once);
                astray = true;
                break;
            }
            if text.len() >= limit {
                astray = true;
                break;
            }
            if draft.get(row) == Some(&id) {
                row += 1;
                continue;
            }
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            rows = self.score(&[id], opening.len() + text.len() - 1, &mut cache, 0)?;
            steps += 1;
            (row, draft) = (0, &[]);
        }
        let words = t.text(&text)?.trim().to_owned();
        let mean_log_prob = sum / (text.len() + 1) as f32;
        Ok(Some(Transcript { text: words, tokens: text, language, no_speech, mean_log_prob, astray, steps }))
    }

    /// How many tokens of text at most.
    fn limit(&self, seconds: f32) -> usize {
        let likely = TOKENS_AT_LEAST + (seconds * TOKENS_A_SECOND) as usize;
        // The opening takes four positions; OpenAI's own limit is half the context.
        likely.min(self.decoder.config.max_positions / 2 - 4)
    }

    /// The scores after each of `tokens[from..]`, at positions `at..`.
    fn score(
        &self,
        tokens: &[u32],
        at: usize,
        cache: &mut SelfCache,
        from: usize,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let states = self.decoder.forward(tokens, at, cache, self.sound)?;
        self.decoder.logits(&states.narrow(0, from, tokens.len() - from)?)
    }

    /// The likeliest token that may be written here, and its log-probability among those that may.
    fn choose(&self, row: &mut [f32], first: bool) -> (u32, f32) {
        let t = self.tokens;
        for &id in &t.suppressed {
            row[id as usize] = f32::NEG_INFINITY;
        }
        // Special tokens and times stand above the end of text.
        row[t.end as usize + 1..].fill(f32::NEG_INFINITY);
        if first {
            row[t.blank as usize] = f32::NEG_INFINITY;
            row[t.end as usize] = f32::NEG_INFINITY;
        }
        let id = likeliest((0..).zip(row.iter().copied()));
        (id, -log_sum_exp(row, row[id as usize]))
    }
}

fn likeliest(scores: impl Iterator<Item = (u32, f32)>) -> u32 {
    scores.fold((0, f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best }).0
}

/// `ln Σ exp(row - reference)`.
fn log_sum_exp(row: &[f32], reference: f32) -> f32 {
    row.iter().map(|v| (v - reference).exp()).sum::<f32>().ln()
}

fn probability(row: &[f32], id: u32) -> f32 {
    (-log_sum_exp(row, row[id as usize])).exp()
}

/// Whether the end of `text` goes in circles; if so, its length with only the first round left. A short round has to
/// come often ("no, no, no" is speech), a long one three times.
fn circle(text: &[u32]) -> Option<usize> {
    const SHORTEST_RUN: usize = 10;
    (1..=text.len() / 3).find_map(|period| {
        let tail = text.iter().rev();
        let run = tail.clone().zip(tail.skip(period)).take_while(|(a, b)| a == b).count() + period;
        (run >= 3 * period && run >= SHORTEST_RUN).then(|| text.len() - run + period)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_and_cut_to_one_round() {
        assert_eq!(circle(&[5, 6, 7, 8]), None);
        assert_eq!(circle(&[9, 9, 9, 9, 9]), None, "no, no, no is speech");
        assert_eq!(circle(&[1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]), Some(2));
        assert_eq!(circle(&[1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 5]), Some(5));
        assert_eq!(circle(&[1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 6]), None);
    }

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let row = [1.0, 2.0, 3.0];
        // e^3 / (e + e^2 + e^3)
        assert!((probability(&row, 2) - 0.665_240_96).abs() < 1e-6);
        assert!((probability(&row, 0) - 0.090_030_57).abs() < 1e-6);
    }

    #[test]
    fn doubtful_words_are_not_speech() {
        let sure = Transcript {
            text: "Hello".into(),
            tokens: vec![1],
            language: None,
            no_speech: 0.9,
            mean_log_prob: -0.2,
            astray: false,
            steps: 1,
        };
        assert!(sure.is_speech());
        assert!(!Transcript { text: "Thank you.".into(), ..sure.clone() }.is_speech());
        assert!(Transcript { text: "Thank you.".into(), no_speech: 0.3, ..sure.clone() }.is_speech());
        assert!(!Transcript { mean_log_prob: -1.1, ..sure.clone() }.is_speech());
        assert!(!Transcript { text: String::new(), ..sure.clone() }.is_speech());
        assert!(Transcript { no_speech: 0.1, mean_log_prob: -1.1, ..sure.clone() }.is_speech());
        assert!(!Transcript { no_speech: 0.1, mean_log_prob: -1.1, astray: true, ..sure.clone() }.is_speech());
        assert!(!Transcript { no_speech: 0.1, mean_log_prob: -2.0, ..sure }.is_speech());
    }
}
