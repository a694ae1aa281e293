//! Vocabularies for checkpoints without a real one: they load, and every id is a word that can be spoken.
//!
//! The released vocabularies cannot be invented; what the program needs of them can: the layout of the language model's
//! byte-level BPE and of the speech model's WordPiece, with all special tokens in the released order at the released
//! ids. The other ids are made-up words of a few syllables, so that a random model's answer is text that the speech
//! model can say. Pure; no files, no threads. Source of the layouts: `tokenizer_config.json` of the released folders.

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// The language model's special tokens that stand at the end of its vocabulary, in order: those of Qwen2.5, then those
/// of MiniCPM-o 2.6. (`<unk>` stands within the vocabulary.)
const LLM_SPECIALS: [&str; 57] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<image>",
    "</image>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
    "<quad>",
    "</quad>",
    "<point>",
    "</point>",
    "<slice>",
    "</slice>",
    "<image_id>",
    "</image_id>",
    "<unit>",
    "</unit>",
    "<asr>",
    "</asr>",
    "<query>",
    "</query>",
    "<|audio_start|>",
    "<|audio|>",
    "<|audio_end|>",
    "<|spk_bos|>",
    "<|spk|>",
    "<|spk_eos|>",
    "<|tts_bos|>",
    "<|tts_eos|>",
    "<|listen|>",
    "<|speak|>",
    "<|interrupt|>",
    "<|vad_start|>",
    "<|vad_end|>",
    "<reserved_43>",
    "<reserved_53>",
];

/// The speech model's special tokens, in order, without the numbered ones that follow.
const TTS_SPECIALS: [&str; 19] = [
    "[Sasr]",
    "[Pasr]",
    "[Easr]",
    "[Stts]",
    "[Ptts]",
    "[Etts]",
    "[Sbreak]",
    "[Pbreak]",
    "[Ebreak]",
    "[uv_break]",
    "[v_break]",
    "[lbreak]",
    "[llbreak]",
    "[undefine]",
    "[laugh]",
    "[spk_emb]",
    "[empty_spk]",
    "[music]",
    "[pure]",
];
const TTS_NUMBERED: [(&str, usize); 4] = [("break", 8), ("laugh", 3), ("oral", 10), ("speed", 10)];

/// How many special tokens end each vocabulary.
const LLM_TAIL: usize = LLM_SPECIALS.len();
const TTS_TAIL: usize = 50;
/// The ids that `<unk>` keeps free behind it, in the released vocabulary.
const AFTER_UNKNOWN: usize = 151_643 - 128_244;
/// The fewest ids that hold all bytes, or all letters and syllables, besides the special tokens.
pub const FEWEST: usize = 512;

/// The id of `<|im_end|>` in a vocabulary of `vocab`.
pub fn turn_end(vocab: usize) -> usize {
    vocab - LLM_TAIL + 2
}

/// The ids of `[spk_emb]`, `[Ptts]` and `[Etts]` in a speech vocabulary of `vocab`.
pub fn speech_ids(vocab: usize) -> [u32; 3] {
    [15, 4, 5].map(|at| (vocab - TTS_TAIL + at) as u32)
}

/// The syllable of a number below 100: a consonant and a vowel.
fn syllable(n: usize) -> String {
    const CONSONANTS: [char; 20] =
        ['b', 'c', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    [CONSONANTS[n / 5 % 20], VOWELS[n % 5]].iter().collect()
}

/// A word of at least two syllables, another for every number.
fn word(n: usize) -> String {
    let mut rest = n + 100;
    let mut syllables = Vec::new();
    while rest > 0 {
        syllables.push(syllable(rest % 100));
        rest /= 100;
    }
    syllables.into_iter().rev().collect()
}

fn added(token: &str, id: usize) -> Value {
    json!({
        "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    })
}

fn tokenizer(added: Vec<Value>, normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value) -> String {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    })
    .to_string()
}

fn numbered(words: impl Iterator<Item = String>) -> serde_json::Map<String, Value> {
    words.enumerate().map(|(id, word)| (word, id.into())).collect()
}

/// `tokenizer.json` of a language model with `vocab` ids (at least [`FEWEST`] and the special tokens): id 0 is "!", as
/// released.
pub fn llm(vocab: usize) -> String {
    let base = vocab - LLM_TAIL;
    // Where it is released; in a small vocabulary, the last.
    let unknown = if base > 2 * AFTER_UNKNOWN { base - AFTER_UNKNOWN } else { base - 1 };
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let words = (0..).map(|n| format!("\u{120}{}", word(n)));
    let plain = bytes.into_iter().map(String::from).chain(words);
    let vocabulary =
        plain.take(unknown).chain(["<unk>".to_string()]).chain((unknown..).map(|n| format!("\u{120}{}", word(n))));
    let mut specials = vec![added("<unk>", unknown)];
    specials.extend(LLM_SPECIALS.iter().enumerate().map(|(i, token)| added(token, base + i)));
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": numbered(vocabulary.take(base)), "merges": [],
    });
    tokenizer(specials, Value::Null, level.clone(), level, model)
}

/// `tokenizer.json` of a speech model with `vocab` ids (at least [`FEWEST`] and the special tokens): letters, digits,
/// punctuation, syllables, then Chinese characters.
pub fn speech(vocab: usize) -> String {
    let base = vocab - TTS_TAIL;
    let first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let marks = ('!'..='~').filter(|c| !c.is_ascii_uppercase()).chain("，。！？、：；“”".chars()).map(String::from);
    let within = ('a'..='z').chain('0'..='9').map(|c| format!("##{c}"));
    let syllables = (0..100).flat_map(|n| [syllable(n), format!("##{}", syllable(n))]);
    let chinese = ('\u{4e00}'..='\u{9fff}').map(String::from);
    let words = first.iter().map(|t| t.to_string()).chain(marks).chain(within).chain(syllables).chain(chinese);
    let mut specials: Vec<Value> = first.iter().enumerate().map(|(id, token)| added(token, id)).collect();
    let tail = TTS_SPECIALS.iter().map(|t| t.to_string());
    let tail = tail.chain(TTS_NUMBERED.iter().flat_map(|&(name, n)| (0..n).map(move |i| format!("[{name}_{i}]"))));
    specials.extend(tail.enumerate().map(|(i, token)| added(&token, base + i)));
    let normalizer = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": true,
    });
    let model = json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": numbered(words.take(base)),
    });
    let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    tokenizer(specials, normalizer, json!({"type": "BertPreTokenizer"}), decoder, model)
}
