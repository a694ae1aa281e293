//! Upstream's defects: each test shows that they are there in the compatible mode and gone in the product.

use super::super::answer::Answer;
use super::super::codes::RandomCodes;
use super::super::compat::{AnswerPieces, Pieces};
use super::super::dialogue::{Dialogue, Opening};
use super::super::load::{Omni, OmniOptions, TextChunk};
use super::super::probe::NoProbe;
use super::super::prompt;
use super::super::speech::{Sound, Speech};
use super::super::vocoder::overlap_add;
use super::super::words::WordFeed;
use super::{EndsAt, Seen, speak, speak_like_upstream, speaker, tiny, tiny_dir};
use crate::engine::sampling::{Sampler, SamplingConfig};
use candle_core::{Device, Tensor};

/// Words the tiny tokenizer knows, so that a word is a token.
const WORDS: [&str; 8] = ["hello ", "the ", "voice ", "is ", "you ", "to ", "a ", "of "];

/// Words in an order that hardly repeats itself.
fn many_words(n: usize) -> String {
    (0..n).map(|i| WORDS[(i * i * 37 + i * 11) / 13 % WORDS.len()]).collect()
}

fn pieces_of(text: &str, characters: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(characters).map(|c| c.iter().collect()).collect()
}

fn strs(pieces: &[String]) -> Vec<&str> {
    pieces.iter().map(String::as_str).collect()
}

fn joined(sounds: &[Sound]) -> Vec<f32> {
    let mut all: Vec<f32> = Vec::new();
    for s in sounds {
        let (mut first, rest) = overlap_add(&all, &s.samples, s.overlap);
        first.extend(rest);
        all = first;
    }
    all
}

/// Q1: upstream takes the token "!", whose id is 0, for padding.
#[test]
fn exclamation_marks_are_kept() {
    let mut omni = tiny();
    let vocab = omni.config.vocab;
    let opening = |id: usize| {
        let logits: Vec<f32> = (0..vocab).map(|i| if i == id { 9.0 } else { -9.0 }).collect();
        Opening {
            logits: Tensor::from_vec(logits, (1, vocab), &Device::Cpu).unwrap(),
            speaker: Tensor::zeros((1, omni.config.llm.hidden), candle_core::DType::F32, &Device::Cpu).unwrap(),
        }
    };
    assert_eq!(omni.mind.tokens.encode("!").unwrap(), [0]);
    let mut dialogue = Dialogue::new(&omni.mind, 512).unwrap();
    dialogue.read(&omni.mind, "say it", &mut NoProbe).unwrap();
    let mark = dialogue.mark();
    let mut answer = Answer::new(&opening(0), Sampler::new(SamplingConfig::GREEDY, 0), 3);
    while !answer.over() {
        answer.step(&omni.mind, &mut dialogue, &mut NoProbe).unwrap();
    }
    assert!(answer.text().starts_with('!'), "{:?}", answer.text());

    dialogue.back_to(&mark);
    let mut sampler = Sampler::new(SamplingConfig::GREEDY, 0);
    let opening = opening(0);
    let mind = &mut omni.mind;
    let mut pieces = AnswerPieces::new(mind, &mut dialogue, &mut sampler, &opening, Vec::new(), 3);
    let piece = pieces.next_piece(&mut NoProbe).unwrap().unwrap();
    assert!(!piece.contains('!') && answer.text().contains(&piece), "{piece:?} of {:?}", answer.text());
}

/// Q2: when the speech model ends before the words do, upstream never says the rest.
#[test]
fn words_after_an_early_end_are_spoken() {
    let mut omni = tiny();
    let text = many_words(60);
    let pieces = pieces_of(&text, 12);
    let all = omni.mouth.tokens.encode(&text).unwrap();
    let mut seen = Seen::default();
    let sounds = speak(&mut omni, &strs(&pieces), &mut EndsAt::new(12), &mut seen);
    assert_eq!(seen.new_text(&omni.mouth), all);
    assert_eq!(sounds.last().unwrap().text_end, text.len());

    let mut seen = Seen::default();
    let (_, left) = speak_like_upstream(&mut omni, &strs(&pieces), &mut EndsAt::new(12), &mut seen);
    assert!(left > 0 && seen.new_text(&omni.mouth).len() < all.len());
}

/// Q3: upstream tokenizes what there is, so a word that arrives in two pieces may lose its second half.
#[test]
fn words_are_never_split() {
    let mut omni = tiny();
    // Nine tokens, then a word in two pieces whose first half is a token too.
    let pieces = ["hello the voice is you to a of hel", "lo assist", "ant the voice is ", "you to a of the voice "];
    let all = omni.mouth.tokens.encode(&pieces.concat()).unwrap();
    let mut seen = Seen::default();
    speak(&mut omni, &pieces, &mut EndsAt::new(60), &mut seen);
    assert_eq!(seen.new_text(&omni.mouth), all);

    let mut seen = Seen::default();
    let pieces = ["hello", " the voice is you to a of the hel", "lo there", " the voice is you to a of hello"];
    speak_like_upstream(&mut omni, &pieces, &mut EndsAt::new(60), &mut seen);
    let all = omni.mouth.tokens.encode(&pieces.concat()).unwrap();
    assert_ne!(seen.new_text(&omni.mouth), all);

    // Wherever the text is cut, the tokens are those of the whole.
    for text in ["It's 12.5 % of $30, isn't it? Yes!\nWell: “hello” 你好，我是你的语音助手。好！ok 3个", "a  b…c"]
    {
        let whole = {
            let mut feed = WordFeed::new();
            let mut units = feed.push(text, &omni.mouth.tokens).unwrap();
            units.extend(feed.finish(&omni.mouth.tokens).unwrap());
            units
        };
        assert_eq!(whole.last().unwrap().text_end, text.len());
        for n in 1..6 {
            let mut feed = WordFeed::new();
            let mut units = Vec::new();
            for piece in pieces_of(text, n) {
                units.extend(feed.push(&piece, &omni.mouth.tokens).unwrap());
            }
            units.extend(feed.finish(&omni.mouth.tokens).unwrap());
            let ids =
                |units: &[super::super::words::Unit]| units.iter().flat_map(|u| u.ids.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&units), ids(&whole), "{text:?} in pieces of {n}");
        }
    }
}

/// Q4: upstream says the first piece as it was written, and later numbers digit by digit; of Markdown it takes out the
/// stars alone.
#[test]
fn numbers_and_markdown_are_made_speakable() {
    let mut omni = tiny();
    let pieces = ["## 23 of", " the `voice`", " is 45 % to", " you and 67", " **hello** the voice is"];
    let spoken = "twenty-three of the voice is forty-five percent to you and sixty-seven hello the voice is";
    let mut seen = Seen::default();
    speak(&mut omni, &pieces, &mut EndsAt::new(60), &mut seen);
    assert_eq!(seen.new_text(&omni.mouth), omni.mouth.tokens.encode(spoken).unwrap());

    let mut seen = Seen::default();
    speak_like_upstream(&mut omni, &pieces, &mut EndsAt::new(60), &mut seen);
    let said = seen.new_text(&omni.mouth);
    let says = |text: &str| {
        let ids = omni.mouth.tokens.encode(text).unwrap();
        said.windows(ids.len()).any(|said| said == ids)
    };
    assert!(says("##") && says("six seven") && !says("sixty"), "{said:?}");
}

/// Q5: upstream's layout has 300 slots; text beyond them without a sentence's end is dropped.
#[test]
fn text_of_any_length_is_spoken() {
    let mut omni = tiny();
    // Fewer slots, to be quick; their number is in no weight.
    omni.mouth.tts.config.text_reserved = 60;
    let text = many_words(100);
    let all = omni.mouth.tokens.encode(&text).unwrap();
    assert!(all.len() > 60);
    let pieces = pieces_of(&text, 40);
    let mut seen = Seen::default();
    // Every token is seen before its segment ends.
    speak(&mut omni, &strs(&pieces), &mut EndsAt::new(320), &mut seen);
    assert_eq!(seen.new_text(&omni.mouth), all);

    let mut seen = Seen::default();
    speak_like_upstream(&mut omni, &strs(&pieces), &mut EndsAt::new(320), &mut seen);
    assert!(seen.new_text(&omni.mouth).len() <= 60);

    // A single word longer than all slots.
    let word = "x1".repeat(50);
    let mut feed = WordFeed::new();
    let mut units = feed.push(&word, &omni.mouth.tokens).unwrap();
    units.extend(feed.finish(&omni.mouth.tokens).unwrap());
    let all: Vec<u32> = units.into_iter().flat_map(|u| u.ids).collect();
    let mut seen = Seen::default();
    speak(&mut omni, &[&word], &mut EndsAt::new(320), &mut seen);
    assert_eq!(seen.new_text(&omni.mouth), all);
}

/// Q6: upstream bans the end in the first ten frames of every stretch of 25.
#[test]
fn the_end_is_banned_only_where_a_segment_begins() {
    let mut omni = tiny();
    let text = "hello the voice";
    for (wanted, product, upstream) in [(27, 27, 35), (3, 10, 10)] {
        let mut seen = Seen::default();
        speak(&mut omni, &[text], &mut EndsAt::new(wanted), &mut seen);
        assert_eq!(seen.steps.len(), product + 1);
        let mut seen = Seen::default();
        speak_like_upstream(&mut omni, &[text], &mut EndsAt::new(wanted), &mut seen);
        assert_eq!(seen.steps.len(), upstream + 1);
    }
}

/// Q7: upstream holds the first chunk until the second is there.
#[test]
fn the_first_chunk_goes_out_at_once() {
    let mut omni = tiny();
    let voice = speaker(&omni);
    let mouth = &mut omni.mouth;
    let mut feed = WordFeed::new();
    let mut speech = Speech::new(mouth, voice);
    speech.say(feed.push(&many_words(40), &mouth.tokens).unwrap());
    let mut steps = Vec::new();
    let mut chooser = EndsAt::new(2000);
    for step in 1..80 {
        assert!(speech.ready(mouth));
        if let Some(sound) = speech.step(mouth, &mut chooser, &mut NoProbe).unwrap() {
            steps.push((step, sound.samples.len(), sound.overlap));
        }
    }
    // 512 samples a frame; only the last 4 frames (2048 samples) are held back, and later chunks fade in over 256.
    assert_eq!(steps, [(16, 12 * 512, 0), (41, 25 * 512 + 256, 256), (66, 25 * 512 + 256, 256)]);

    let mut seen = Seen::default();
    let (said, _) = speak_like_upstream(&mut omni, &["hello "], &mut EndsAt::new(45), &mut seen);
    assert_eq!(said[0].samples.len(), 25 * 512, "given out only after the second stretch");
}

/// Q8: after a roll-over upstream lets the speech look at text slots that hold nothing.
#[test]
fn empty_slots_are_hidden() {
    let mut omni = tiny();
    omni.mouth.tts.config.text_reserved = 60;
    // Two segments: the slots are more than 2/5 full at a sentence's end.
    let text = many_words(30) + "you. " + &many_words(20);
    let pieces = pieces_of(&text, 12);
    let looked = |seen: &Seen, start: usize| {
        seen.steps.iter().filter(|(mask, written)| mask[*written..=start].contains(&0.0)).count()
    };
    let start = omni.mouth.tts.config.audio_start();
    let mut seen = Seen::default();
    speak(&mut omni, &strs(&pieces), &mut EndsAt::new(220), &mut seen);
    assert!(seen.texts.iter().filter(|(_, at)| *at == 0).count() == 2, "there is no roll-over");
    assert_eq!(looked(&seen, start), 0);
    let mut seen = Seen::default();
    speak_like_upstream(&mut omni, &strs(&pieces), &mut EndsAt::new(220), &mut seen);
    assert!(looked(&seen, start) > 0);
}

/// Q9: upstream decodes a chunk with four old frames before it and nothing after it.
#[test]
fn chunks_sound_like_the_whole() {
    let mut omni = tiny();
    let text = many_words(20);
    // The energy of the difference.
    let off = |found: &[f32], whole: &[f32]| {
        assert_eq!(found.len(), whole.len());
        found.iter().zip(whole).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
    };
    let mut frames = Frames::default();
    let sounds = speak(&mut omni, &[&text], &mut EndsAt::new(120), &mut frames);
    let (_, whole) = omni.mouth.vocoder.decode(&frames.all(), &mut NoProbe).unwrap();
    let ours = off(&joined(&sounds), &whole);

    let mut frames = Frames::default();
    let (said, _) = speak_like_upstream(&mut omni, &[&text], &mut EndsAt::new(120), &mut frames);
    let said: Vec<f32> = said.into_iter().flat_map(|u| u.samples).collect();
    let (_, whole) = omni.mouth.vocoder.decode(&frames.last, &mut NoProbe).unwrap();
    let theirs = off(&said, &whole);
    assert!(ours < 0.2 * theirs, "off by {ours}, upstream by {theirs}");
}

/// The frames of an answer, from what went to the vocoder or from the segment.
#[derive(Default)]
struct Frames {
    decoded: Vec<Vec<Vec<u32>>>,
    last: Vec<Vec<u32>>,
}

impl Frames {
    /// Joins what was decoded, each stretch beginning with some of the frames before.
    fn all(&self) -> Vec<Vec<u32>> {
        let mut all: Vec<Vec<u32>> = Vec::new();
        for (i, stretch) in self.decoded.iter().enumerate() {
            // The first chunk has 16 frames, all others 25 new ones, the last what is left.
            let new = match i {
                0 => 16,
                _ => 25.min(120 - all.len()),
            };
            all.extend_from_slice(&stretch[stretch.len() - new..]);
        }
        assert_eq!(all.len(), 120);
        all
    }
}

impl super::Probe for Frames {
    fn generated(&mut self, frames: &[Vec<u32>], _: usize) {
        self.last = frames.to_vec();
    }

    fn vocoded(&mut self, frames: &[Vec<u32>], _: &Tensor, _: &[f32]) {
        self.decoded.push(frames.to_vec());
    }
}

/// Q10: upstream makes 25 frames of ten tokens of text and then waits, though the model was trained to make 50.
#[test]
fn a_block_of_text_gives_fifty_frames() {
    let mut omni = tiny();
    let voice = speaker(&omni);
    let mouth = &mut omni.mouth;
    let mut feed = WordFeed::new();
    let mut speech = Speech::new(mouth, voice);
    // Ten whole words, and one that may go on.
    speech.say(feed.push(&(many_words(10) + "the"), &mouth.tokens).unwrap());
    let mut chooser = EndsAt::new(2000);
    let mut made = 0;
    while speech.ready(mouth) {
        speech.step(mouth, &mut chooser, &mut NoProbe).unwrap();
        made += 1;
    }
    // Positions 302 to 350 see ten tokens.
    assert_eq!(made, 49);
    speech.say(feed.push(&many_words(10), &mouth.tokens).unwrap());
    while speech.ready(mouth) {
        speech.step(mouth, &mut chooser, &mut NoProbe).unwrap();
        made += 1;
    }
    assert_eq!(made, 99);

    // Upstream, with twenty tokens known from the start, makes 25 frames between one block of text and the next, and
    // needs more words for more sound.
    let mut seen = Blocks::default();
    let (first, second) = (many_words(10), many_words(10));
    speak_like_upstream(&mut omni, &[&first, &second, "hello "], &mut EndsAt::new(60), &mut seen);
    assert_eq!(seen.frames_at_text[..2], [0, 25], "{:?}", seen.frames_at_text);
}

/// The text chunk is how many tokens every fifty frames may see: a smaller one lets the speech begin after fewer words.
#[test]
fn a_smaller_text_chunk_begins_after_fewer_words() {
    for tokens in [7, 10] {
        let options = OmniOptions { text_chunk: Some(TextChunk::new(tokens).unwrap()), ..OmniOptions::default() };
        let mut omni = Omni::load(&tiny_dir(), &options, &mut |_, _| {}).unwrap();
        let voice = speaker(&omni);
        let mouth = &mut omni.mouth;
        let (mut feed, mut speech) = (WordFeed::new(), Speech::new(mouth, voice));
        let mut words = 0;
        while !speech.ready(mouth) {
            speech.say(feed.push(WORDS[words % WORDS.len()], &mouth.tokens).unwrap());
            words += 1;
        }
        // One more word shows that the last of them is whole.
        assert_eq!(words, tokens + 1);
    }
}

/// How many frames had been made whenever more text was given.
#[derive(Default)]
struct Blocks {
    frames: usize,
    frames_at_text: Vec<usize>,
}

impl super::Probe for Blocks {
    fn text(&mut self, _: &[u32], _: usize, _: Option<&Tensor>, _: &crate::engine::kv_cache::KvCache) {
        self.frames_at_text.push(self.frames);
    }

    fn step(&mut self, _: &Tensor, _: &Tensor, _: &Tensor, _: &[Vec<f32>]) {
        self.frames += 1;
    }
}

/// What is said does not depend on when the words came.
#[test]
fn the_same_words_and_seed_give_the_same_speech() {
    let mut omni = tiny();
    let text = many_words(30);
    let at_once = speak(&mut omni, &[&text], &mut RandomCodes::new(5), &mut NoProbe);
    let pieces = pieces_of(&text, 3);
    let bit_by_bit = speak(&mut omni, &strs(&pieces), &mut RandomCodes::new(5), &mut NoProbe);
    assert_eq!(joined(&at_once).len(), joined(&bit_by_bit).len());
    let samples = |sounds: &[Sound]| sounds.iter().map(|s| s.samples.clone()).collect::<Vec<_>>();
    assert_eq!(samples(&at_once), samples(&bit_by_bit));
    let other = speak(&mut omni, &[&text], &mut RandomCodes::new(6), &mut NoProbe);
    assert_ne!(samples(&at_once), samples(&other));
}

/// Q11: upstream reads the voice off the whole dialogue, anew for every answer.
#[test]
fn the_voice_is_that_of_the_prompt() {
    let mut omni = tiny();
    let mind = &mut omni.mind;
    let mut dialogue = Dialogue::new(mind, 2048).unwrap();
    dialogue.open(mind, "<|im_start|>user\nhello<|im_end|>\n", None, &mut NoProbe).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let before = dialogue.positions();
    let voice = flat(&dialogue.voice(mind).unwrap());
    assert_eq!(dialogue.positions(), before);
    let mut upstream = Vec::new();
    for words in ["hello", "and you"] {
        dialogue.read(mind, words, &mut NoProbe).unwrap();
        upstream.push(flat(&dialogue.begin_answer(mind, &mut NoProbe).unwrap().speaker));
    }
    assert_eq!(flat(&dialogue_voice_again(mind)), voice);
    let drift = upstream[0].iter().zip(&upstream[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(drift > 1e-3, "upstream's voice should have drifted, {drift}");
}

fn dialogue_voice_again(mind: &mut super::super::dialogue::Mind) -> Tensor {
    let mut dialogue = Dialogue::new(mind, 2048).unwrap();
    dialogue.open(mind, "<|im_start|>user\nhello<|im_end|>\n", None, &mut NoProbe).unwrap();
    dialogue.voice(mind).unwrap()
}

/// Q12: upstream's pooling of what is too short leaves nothing (and its mean crashes); here it is an error that says so,
/// and the session pads the sound.
#[test]
fn too_short_a_sound_is_an_error() {
    let mut omni = tiny();
    let mut dialogue = Dialogue::new(&omni.mind, 512).unwrap();
    let short = vec![0.1; prompt::SHORTEST - 1];
    let error = dialogue.listen(&mut omni.mind, &short, &mut NoProbe).unwrap_err().to_string();
    assert!(error.contains("320") && error.contains("321"), "{error}");
    assert!(dialogue.listen(&mut omni.mind, &vec![0.1; prompt::SHORTEST], &mut NoProbe).is_ok());
}

/// Q12: after 30 s of one turn the encoder runs out of positions and begins anew, as upstream's does; what was heard
/// before stays with the language model.
#[test]
fn nothing_heard_is_lost_when_the_encoder_begins_anew() {
    let mut omni = tiny();
    let mut dialogue = Dialogue::new(&omni.mind, 2048).unwrap();
    dialogue.open(&mut omni.mind, "<|im_start|>user\nhello<|im_end|>\n", None, &mut NoProbe).unwrap();
    let second =
        |n: usize| (0..prompt::UNIT).map(|i| (i as f32 * 0.01 * (n + 3) as f32).sin() * 0.3).collect::<Vec<_>>();
    let (mut grown, mut encoded) = (Vec::new(), Vec::new());
    for n in 0..32 {
        let before = dialogue.positions();
        dialogue.listen(&mut omni.mind, &second(n), &mut NoProbe).unwrap();
        grown.push(dialogue.positions() - before);
        encoded.push(dialogue.heard.len());
    }
    assert_eq!(encoded[27..], [1400, 1450, 50, 100, 150]);
    // 25 positions and the two marks around them, each second; the first also has the head of the turn.
    assert!(grown[0] > 27 && grown[1..].iter().all(|&n| n == 27), "{grown:?}");
}
