//! The conversation of the recordings, call by call: prompts, language model, speech model, sound.

use crate::golden::Golden;
use crate::table::Table;
use antiphon::engine::CancelToken;
use antiphon::engine::kv_cache::KvCache;
use antiphon::engine::omni::codes::{ChooseCodes, Moment};
use antiphon::engine::omni::compat::{AnswerPieces, CompatSpeech, Pieces};
use antiphon::engine::omni::dialogue::Dialogue;
use antiphon::engine::omni::load::Omni;
use antiphon::engine::omni::probe::Probe;
use antiphon::engine::omni::prompt::{self, UNIT};
use antiphon::engine::omni::tokens::SPEECH_END;
use antiphon::engine::sampling::{Sampler, SamplingConfig};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

/// Where the recordings' prompts have sound.
const SOUND: &str = "(<audio>./</audio>)";
/// The recordings' language model call (SPEC 14).
const ANSWER_TOKENS: usize = 48;

/// What passed by: as much of it as was recorded.
#[derive(Default)]
struct Log {
    llm: Vec<(Tensor, Tensor)>,
    texts: Vec<(Vec<u32>, usize, Option<Tensor>, Tensor)>,
    steps: Vec<[Vec<f32>; 4]>,
    generated: Vec<(Vec<Vec<u32>>, usize)>,
    sounds: Vec<(Vec<Vec<u32>>, Vec<f32>)>,
    failed: Option<candle_core::Error>,
}

impl Log {
    fn keep(&mut self, result: candle_core::Result<()>) {
        self.failed = self.failed.take().or(result.err());
    }
}

impl Probe for Log {
    fn llm(&mut self, embeds: &Tensor, hidden: &Tensor) {
        self.llm.push((embeds.clone(), hidden.clone()));
    }

    fn text(&mut self, ids: &[u32], at: usize, speaker: Option<&Tensor>, cache: &KvCache) {
        let n = ids.len();
        let keys = cache
            .layer(cache.layers() - 1)
            .map_err(candle_core::Error::wrap)
            .and_then(|(k, _)| k.narrow(1, at, n)?.contiguous()?.copy());
        match keys {
            Ok(keys) => self.texts.push((ids.to_vec(), at, speaker.cloned(), keys)),
            Err(e) => self.keep(Err(e)),
        }
    }

    fn step(&mut self, embeds: &Tensor, mask: &Tensor, hidden: &Tensor, logits: &[Vec<f32>]) {
        let kept = (|| {
            let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            self.steps.push([flat(embeds)?, flat(mask)?, flat(hidden)?, logits.concat()]);
            Ok(())
        })();
        self.keep(kept);
    }

    fn generated(&mut self, frames: &[Vec<u32>], text: usize) {
        self.generated.push((frames.to_vec(), text));
    }

    fn vocoded(&mut self, frames: &[Vec<u32>], _: &Tensor, sound: &[f32]) {
        self.sounds.push((frames.to_vec(), sound.to_vec()));
    }
}

/// The recordings' sampling: the likeliest code that is not the end, and an end forced after `frames` frames of a
/// segment, once more than ten have been made in the stretch at hand.
struct Forced {
    frames: usize,
    made: usize,
}

impl ChooseCodes for Forced {
    fn segment(&mut self) {
        self.made = 0;
    }

    fn choose(&mut self, logits: &[Vec<f32>], at: Moment) -> Vec<u32> {
        self.made += 1;
        let mut frame: Vec<u32> = logits
            .iter()
            .map(|row| {
                let codes = &row[..row.len() - 1];
                let best = codes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                codes.iter().position(|&l| l == best).unwrap_or(0) as u32
            })
            .collect();
        if self.made > self.frames && at.in_call >= 10 {
            frame[0] = logits[0].len() as u32 - 1;
        }
        frame
    }
}

/// The scripted text, a few characters at a time.
struct Script {
    pieces: std::vec::IntoIter<String>,
}

impl Script {
    fn new(text: &str, characters: usize) -> Self {
        let all: Vec<char> = text.chars().collect();
        let mut pieces: Vec<String> = all.chunks(characters.max(1)).map(|c| c.iter().collect()).collect();
        pieces.push(SPEECH_END.to_string());
        Self { pieces: pieces.into_iter() }
    }
}

impl Pieces for Script {
    fn next_piece(&mut self, _: &mut dyn Probe) -> Result<Option<String>, antiphon::engine::EngineError> {
        Ok(self.pieces.next())
    }
}

/// After how many frames the recordings force an end, read off the first segment that ends from `call` on: the rule's
/// number and every other one that gives the same length are the same rule.
fn forced_after(golden: &Golden, call: usize, calls: usize) -> Result<usize> {
    let lengths: Vec<usize> =
        golden.series("tts.generate.", ".new_ids")?.iter().skip(call).take(calls).map(|r| r.shape[1]).collect();
    let end = lengths.windows(2).position(|w| w[1] <= w[0]).unwrap_or(lengths.len().saturating_sub(1));
    lengths.get(end).copied().context("there are no recorded stretches")
}

pub fn compare(golden: &Golden, omni: &mut Omni, table: &mut Table) -> Result<()> {
    let mut log = Log::default();
    let session = conversation(golden, omni, table, &mut log)?;
    let prefills = log.texts.len();
    let speaker = match golden.find(&format!("tts.prefill_text.{prefills}.spk_hidden"))? {
        Some(hidden) => Tensor::from_vec(hidden.floats(), hidden.shape, &Device::Cpu)?,
        None => anyhow::bail!("there is no recorded speaker for the script"),
    };
    let mut pieces = Script::new(golden.text("script")?, golden.number("script_stream_piece")?);
    let outputs = golden.series("script.out.", ".wav")?;
    let frames = forced_after(golden, session, outputs.len())?;
    let mut said = Vec::new();
    let first = pieces.next_piece(&mut log)?.context("the script is empty")?;
    CompatSpeech {
        speaker: omni.mouth.tts.speaker(&speaker)?,
        mouth: &mut omni.mouth,
        chooser: &mut Forced { frames, made: 0 },
        probe: &mut log,
        cancel: &CancelToken::default(),
        emit: &mut |u| {
            said.push(u);
            true
        },
    }
    .speak(first, &mut pieces)?;
    table.equal("script.out count", 0, &said.len(), &outputs.len());
    for (i, (found, expected)) in said.iter().zip(&outputs).enumerate() {
        table.values("script.out.wav", i, &found.samples, &expected.floats());
    }
    let texts: Vec<String> = said.into_iter().map(|u| u.text).collect();
    table.equal("script_texts", 0, &texts, &golden.texts("script_texts")?);
    if let Some(e) = log.failed.take() {
        return Err(e.into());
    }
    language(golden, omni, table, &log)?;
    speech(golden, omni, table, &log)
}

/// The session of the recordings: system prompt, the user's units, one answer, the first unit again. Gives how many
/// stretches of speech there were.
fn conversation(golden: &Golden, omni: &mut Omni, table: &mut Table, log: &mut Log) -> Result<usize> {
    let wav = golden.get("in.wav16k")?.floats();
    let reference = golden.get("in.ref16k")?.floats();
    let prompts = golden.texts("prompts")?;
    let ids = golden.series("prefill.", ".input_ids")?;
    let bounds = golden.series("prefill.", ".audio_bounds")?;
    let mind = &mut omni.mind;
    let mut dialogue = Dialogue::new(mind, omni.config.llm.max_positions)?;
    let spelled = |mind: &antiphon::engine::omni::dialogue::Mind, i: usize, pcm: &[f32]| {
        prompts[i].replace(SOUND, &prompt::placeholders(mind.ear.positions(pcm.len()), mind.ear.group()))
    };
    let check =
        |table: &mut Table, mind: &antiphon::engine::omni::dialogue::Mind, i: usize, found: &Vec<u32>, pcm: &[f32]| {
            table.equal("prefill.input_ids", i, found, &ids[i].ids());
            let spans = prompt::audio_bounds(found, mind.tokens.audio_start, mind.tokens.audio_end);
            let spans: Vec<Vec<u32>> = spans.iter().map(|(a, b)| vec![*a as u32, *b as u32]).collect();
            table.equal("prefill.audio_bounds", i, &spans, &bounds[i].id_rows());
            table.equal("prompts", i, found, &mind.tokens.encode(&spelled(mind, i, pcm))?);
            anyhow::Ok(())
        };

    let message = spelled(mind, 0, &reference);
    let sound = prompts[0].contains(SOUND).then_some(reference.as_slice());
    let found = dialogue.open(mind, &message, sound, log)?;
    check(table, mind, 0, &found, &reference)?;
    let units: Vec<&[f32]> = wav.chunks(UNIT).collect();
    for (i, unit) in units.iter().enumerate() {
        let (found, _) = dialogue.listen(mind, unit, log)?;
        check(table, mind, i + 1, &found, unit)?;
    }

    let outputs = golden.series("session.out.", ".wav")?;
    let opening = dialogue.begin_answer(mind, log)?;
    let hidden = golden.get("tts.prefill_text.0.spk_hidden")?;
    table.values("tts.prefill_text.spk_hidden", 0, &opening.speaker.flatten_all()?.to_vec1::<f32>()?, &hidden.floats());
    let speaker = omni.mouth.tts.speaker(&opening.speaker)?;
    let prompt = mind.tokens.encode(prompt::ANSWER)?;
    let greedy = SamplingConfig { repetition_penalty: 1.05, penalty_window: usize::MAX, ..SamplingConfig::GREEDY };
    let mut sampler = Sampler::new(greedy, 0);
    let mut pieces = AnswerPieces::new(mind, &mut dialogue, &mut sampler, &opening, prompt, ANSWER_TOKENS);
    let mut said = Vec::new();
    let first = pieces.next_piece(log)?.context("there is no answer")?;
    CompatSpeech {
        speaker,
        mouth: &mut omni.mouth,
        chooser: &mut Forced { frames: forced_after(golden, 0, outputs.len())?, made: 0 },
        probe: log,
        cancel: &CancelToken::default(),
        emit: &mut |u| {
            said.push(u);
            true
        },
    }
    .speak(first, &mut pieces)?;
    table.equal("session.out count", 0, &said.len(), &outputs.len());
    for (i, (found, expected)) in said.iter().zip(&outputs).enumerate() {
        table.values("session.out.wav", i, &found.samples, &expected.floats());
    }
    let texts: Vec<String> = said.into_iter().map(|u| u.text).collect();
    table.equal("session_texts", 0, &texts, &golden.texts("session_texts")?);

    for (i, unit) in (units.len() + 1..prompts.len()).zip(&units) {
        let (found, _) = dialogue.listen(mind, unit, log)?;
        check(table, mind, i, &found, unit)?;
    }
    Ok(log.generated.len())
}

fn language(golden: &Golden, omni: &Omni, table: &mut Table, log: &Log) -> Result<()> {
    for (i, logits) in golden.series("llm.call", ".logits")?.iter().enumerate() {
        let (embeds, hidden) = log.llm.get(i).context("there were fewer calls of the language model")?;
        let found = omni.mind.llm.logits(hidden)?.flatten_all()?.to_vec1::<f32>()?;
        table.values("llm.call.logits", i, &found, &logits.floats());
        let expected = match golden.find(&format!("llm.call{i}.inputs_embeds"))? {
            Some(recorded) => recorded.floats(),
            None => {
                let ids = golden.get(&format!("llm.call{i}.input_ids"))?.ids();
                omni.mind.llm.embed(&ids)?.flatten_all()?.to_vec1()?
            }
        };
        table.values("llm.call.inputs", i, &embeds.flatten_all()?.to_vec1::<f32>()?, &expected);
    }
    Ok(())
}

fn speech(golden: &Golden, omni: &Omni, table: &mut Table, log: &Log) -> Result<()> {
    let recorded = golden.series("tts.prefill_text.", ".ids")?;
    table.equal("tts.prefill_text count", 0, &log.texts.len(), &recorded.len());
    for (i, ((ids, at, speaker, keys), expected)) in log.texts.iter().zip(&recorded).enumerate() {
        let name = |part: &str| format!("tts.prefill_text.{i}.{part}");
        table.equal("tts.prefill_text.ids", i, ids, &expected.ids());
        let positions: Vec<u32> = (*at..at + ids.len()).map(|p| p as u32).collect();
        table.equal("tts.prefill_text.pos", i, &positions, &golden.get(&name("pos"))?.ids());
        table.values("tts.prefill_text.k_last_layer", i, &flat(keys)?, &golden.get(&name("k_last_layer"))?.floats());
        let projected = golden.find(&name("spk_proj"))?;
        table.equal("tts.prefill_text has speaker", i, &speaker.is_some(), &projected.is_some());
        if let (Some(speaker), Some(projected)) = (speaker, projected) {
            table.values("tts.prefill_text.spk_proj", i, &flat(speaker)?, &projected.floats());
        }
    }

    let recorded = golden.series("tts.generate.", ".new_ids")?;
    table.equal("tts.generate count", 0, &log.generated.len(), &recorded.len());
    for (i, ((frames, text), expected)) in log.generated.iter().zip(&recorded).enumerate() {
        table.equal("tts.generate.new_ids", i, frames, &expected.id_rows());
        let slots = omni.config.tts.audio_start() + 1;
        let shown = omni.config.tts.text_start() + text + 1;
        let mask: Vec<u32> = (0..slots).map(|s| u32::from(s < shown || s + 1 == slots)).collect();
        table.equal("tts.generate.text_mask", i, &mask, &golden.get(&format!("tts.generate.{i}.text_mask"))?.ids());
    }

    for (i, mask) in golden.series("tts.step.", ".mask")?.iter().enumerate() {
        let [embeds, own_mask, hidden, logits] = log.steps.get(i).context("there were fewer steps of speech")?;
        table.equal("tts.step.mask", i, own_mask, &mask.floats());
        for (part, found) in [("inputs_embeds", embeds), ("hidden", hidden), ("logits", logits)] {
            let expected = golden.get(&format!("tts.step.{i}.{part}"))?.floats();
            table.values(&format!("tts.step.{part}"), i, found, &expected);
        }
    }

    let recorded = golden.series("dvae.", ".codes")?;
    table.equal("dvae count", 0, &log.sounds.len(), &recorded.len());
    for (i, ((frames, sound), expected)) in log.sounds.iter().zip(&recorded).enumerate() {
        table.equal("dvae.codes", i, frames, &expected.id_rows());
        table.values("vocos.wav in the conversation", i, sound, &golden.get(&format!("vocos.{i}.wav"))?.floats());
    }
    Ok(())
}

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.contiguous()?.flatten_all()?.to_vec1::<f32>()?)
}
