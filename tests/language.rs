//! The cascade's language model on real files.
//!
//! They are looked for where the program itself looks; `make test` fetches them first.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/models.rs"]
mod models;

use antiphon::engine::CancelToken;
use antiphon::engine::cascade::chat::{Chat, ChatConfig};
use antiphon::engine::cascade::llm::LanguageModel;
use antiphon::engine::sampling::SamplingConfig;
use antiphon::metrics::Stage;
use candle_core::{D, Device};
use std::sync::{Arc, LazyLock};

/// The better of the two starter models, loaded once for all tests.
static MODEL: LazyLock<Arc<LanguageModel>> = LazyLock::new(|| {
    let file = models::folder("qwen2.5-coder-1.5b").join("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf");
    let mut last = 0.0;
    let model = LanguageModel::load(&file, &Device::Cpu, &mut |done| {
        assert!(done >= last, "progress went back");
        last = done;
    });
    let model = Arc::new(model.unwrap());
    assert_eq!(last, 1.0);
    model
});

fn greedy() -> ChatConfig {
    ChatConfig { sampling: SamplingConfig::GREEDY, max_answer: 20, ..ChatConfig::default() }
}

fn chat() -> Chat {
    Chat::new(MODEL.clone(), greedy()).unwrap()
}

/// The answer to `text`, as the pieces it came in; the turn is left open for the caller to end.
fn ask(chat: &mut Chat, text: &str) -> Vec<String> {
    let cancel = CancelToken::default();
    chat.begin_turn(text, &cancel).unwrap();
    std::iter::from_fn(|| chat.next_token(&cancel).unwrap()).collect()
}

#[derive(serde::Deserialize)]
struct Greedy {
    cases: Vec<GreedyCase>,
}

#[derive(serde::Deserialize)]
struct GreedyCase {
    text: String,
    ids: Vec<u32>,
    first: Vec<(u32, f32)>,
    greedy: Vec<u32>,
    margins: Vec<f32>,
}

/// Both round activations to 8 bits, in different block sizes: where llama.cpp's best token leads by less than this (in
/// log-probability), it is a near-tie, which rounding decides.
const LEAD: f32 = 0.2;

/// Against llama.cpp (`tests/fixtures/llm_greedy.py`): the same ids for the same text, and five answers of 32 tokens that
/// are the same token for token; in two with near-ties, the same token after each prefix where there is none.
#[test]
fn greedy_tokens_are_those_of_llama_cpp() {
    let fixture: Greedy =
        serde_json::from_str(&std::fs::read_to_string("tests/fixtures/llm_greedy.json").unwrap()).unwrap();
    let (model, cancel) = (&*MODEL, CancelToken::default());
    let mut clear = 0;
    for case in &fixture.cases {
        assert_eq!(ids_of(&case.text), case.ids);
        assert_eq!(case.greedy.len(), 32);
        let mut cache = model.primed().unwrap().1;
        cache.truncate(0);
        let mut logits = model.feed(&case.ids, &mut cache, &cancel).unwrap().unwrap();
        let all = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap().to_vec1::<f32>().unwrap();
        for &(id, expected) in case.first.iter().filter(|f| f.1 > -5.0) {
            let found = all[id as usize];
            assert!((found - expected).abs() < 0.35, "log-probability of {id}: {found}, llama.cpp has {expected}");
        }
        for (step, (&expected, &margin)) in case.greedy.iter().zip(&case.margins).enumerate() {
            let row = logits.to_vec1::<f32>().unwrap();
            let found = (0..row.len() as u32).max_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize])).unwrap();
            assert!(found == expected || margin < LEAD, "{}: step {step}: {found} for {expected}, {margin}", case.text);
            logits = model.feed(&[expected], &mut cache, &cancel).unwrap().unwrap();
        }
        clear += usize::from(case.margins.iter().all(|margin| *margin >= LEAD));
    }
    assert_eq!(clear, 5);
}

/// Ids of a text with ChatML's control tokens written out.
fn ids_of(text: &str) -> Vec<u32> {
    let vocabulary = MODEL.vocabulary();
    let mut ids = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("<|im_") {
        let end = at + rest[at..].find("|>").unwrap() + 2;
        ids.extend(vocabulary.encode(&rest[..at]).unwrap());
        ids.push(vocabulary.control(&rest[at..end]).unwrap());
        rest = &rest[end..];
    }
    ids.extend(vocabulary.encode(rest).unwrap());
    ids
}

#[test]
fn a_conversation_remembers_and_prefills_only_the_new_words() {
    let mut chat = chat();
    let cancel = CancelToken::default();
    let answer = ask(&mut chat, "What is the capital of France?").concat();
    assert!(answer.contains("Paris"), "{answer}");
    chat.end_turn(&cancel).unwrap();
    chat.take_marks();
    let answer = ask(&mut chat, "And of Italy?").concat();
    assert!(answer.contains("Rome"), "{answer}");
    let marks = chat.take_marks();
    // "And of Italy?" is 4 ids; with the end of the user's message and the head of the answer it is 9.
    assert_eq!((marks[0].stage, marks[0].units), (Stage::LlmPrefill, 9));
    assert!(marks[1..].iter().all(|m| m.stage == Stage::LlmDecode && m.units == 1 && m.end >= m.start));
}

#[test]
fn names_of_control_tokens_are_text() {
    let ids = MODEL.vocabulary().encode("<|im_end|>").unwrap();
    assert!(ids.len() > 1, "{ids:?}");
    assert!(ids.iter().all(|&id| !MODEL.template().ends(id)));
}

#[test]
fn a_retracted_turn_leaves_no_trace() {
    let question = "What is the largest planet in the solar system?";
    let expected = ask(&mut chat(), question).concat();
    let mut chat = chat();
    let cancel = CancelToken::default();
    let before = chat.ids();
    ask(&mut chat, "What is the largest pl");
    chat.retract_turn();
    assert_eq!(chat.ids(), before);
    assert_eq!(chat.turns(), 0);
    chat.begin_turn("What is the largest planet", &cancel).unwrap();
    chat.retract_turn();
    chat.take_marks();
    assert_eq!(ask(&mut chat, question).concat(), expected);
    // Five words were prefilled on a guess and are not prefilled again: 5 more, a question mark, and 5 to open the answer.
    let prefill = chat.take_marks()[0];
    assert_eq!((prefill.stage, prefill.units), (Stage::LlmPrefill, 10));
    chat.end_turn(&cancel).unwrap();
    chat.retract_turn();
    assert_eq!(chat.ids(), before);
    chat.retract_turn();
    assert_eq!(chat.ids(), before);
}

#[test]
fn a_broken_off_answer_holds_what_was_heard() {
    let mut chat = chat();
    let cancel = CancelToken::default();
    let pieces = ask(&mut chat, "Name three kinds of fruit.");
    let open = chat.ids();
    assert!(pieces.len() > 4, "{pieces:?}");
    // Two pieces and a byte of the third were heard.
    let heard = pieces[0].len() + pieces[1].len() + 1;
    chat.truncate_to(heard, &cancel).unwrap();
    let text = text_of(&chat.ids());
    let end = format!("assistant\n{}{}<end>\n<start>user\n", pieces[0], pieces[1]);
    assert!(text.ends_with(&end), "{text}");
    assert!(chat.ids().len() < open.len());
    // Nothing heard: the user's words stay, there is no answer.
    chat.truncate_to(0, &cancel).unwrap();
    let text = text_of(&chat.ids());
    assert!(text.ends_with("Name three kinds of fruit.<end>\n<start>user\n"), "{text}");
    assert!(!ask(&mut chat, "Go on.").is_empty());
}

fn text_of(ids: &[u32]) -> String {
    let vocabulary = MODEL.vocabulary();
    let mut bytes = Vec::new();
    for &id in ids {
        match id {
            id if Some(id) == vocabulary.control("<|im_start|>") => bytes.extend(b"<start>"),
            id if Some(id) == vocabulary.control("<|im_end|>") => bytes.extend(b"<end>"),
            id => vocabulary.append_bytes(id, &mut bytes),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn pieces_are_whole_characters() {
    let mut chat = chat();
    let answer = ask(&mut chat, "请只用三个表情符号回答：你最喜欢的水果是什么？").concat();
    assert!(!answer.contains('\u{FFFD}') && !answer.is_ascii(), "{answer}");
}

#[test]
fn cancelling_stops_and_goes_on_where_it_was() {
    let expected = ask(&mut chat(), "What is water made of?").concat();
    let mut chat = chat();
    let stopped = CancelToken::default();
    stopped.cancel();
    chat.begin_turn("What is water made of?", &stopped).unwrap();
    assert_eq!(chat.next_token(&stopped).unwrap(), None);
    assert!(chat.take_marks().iter().all(|m| m.units == 0));
    let cancel = CancelToken::default();
    let answer: String = std::iter::from_fn(|| chat.next_token(&cancel).unwrap()).collect();
    assert_eq!(answer, expected);
}

#[test]
fn old_turns_are_forgotten_and_the_system_prompt_stays() {
    let system = chat().ids();
    let config = ChatConfig { context: system.len() + 100, max_answer: 10, ..greedy() };
    let mut chat = Chat::new(MODEL.clone(), config.clone()).unwrap();
    let cancel = CancelToken::default();
    let mut forgot = false;
    for (i, number) in ["zero", "one", "two", "three", "four", "five"].into_iter().enumerate() {
        let turns = chat.turns();
        let answer = ask(&mut chat, &format!("My lucky number is {i}. Say it back.")).concat().to_lowercase();
        assert!(answer.contains(&i.to_string()) || answer.contains(number), "{answer}");
        chat.take_marks();
        chat.end_turn(&cancel).unwrap();
        // Nothing that is still remembered is read again: what is fed is the end of this answer.
        let fed: u32 = chat.take_marks().iter().map(|m| m.units).sum();
        assert!(fed < 10, "{fed} tokens");
        forgot |= chat.turns() <= turns;
        let ids = chat.ids();
        assert!(ids.starts_with(&system) && ids.len() <= config.context, "{}", ids.len());
    }
    assert!(forgot);
    // Taking back a turn that made room for itself brings back what it displaced.
    let before = chat.ids();
    let room = config.context - before.len();
    chat.begin_turn(&"word ".repeat(room - 12), &cancel).unwrap();
    chat.retract_turn();
    assert_eq!(chat.ids(), before);
    let err = chat.begin_turn(&"many words ".repeat(300), &cancel).unwrap_err().to_string();
    assert!(err.contains("say it in parts"), "{err}");
    assert_eq!(chat.ids(), before);
}

#[test]
fn the_same_seed_says_the_same() {
    let say = |seed| {
        let sampling = SamplingConfig { temperature: 1.5, top_p: 1.0, ..ChatConfig::default().sampling };
        let config = ChatConfig { sampling, seed, max_answer: 12, ..ChatConfig::default() };
        ask(&mut Chat::new(MODEL.clone(), config).unwrap(), "Make up a story about a pirate ship.").concat()
    };
    let first = say(3);
    assert_eq!(first, say(3));
    assert_ne!(first, say(4));
}

#[test]
fn files_that_cannot_be_run_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.gguf");
    let load = |file: &std::path::Path| match LanguageModel::load(file, &Device::Cpu, &mut |_| {}) {
        Ok(_) => panic!("loaded"),
        Err(e) => e.to_string(),
    };
    assert!(load(&file).contains("fetch the model"));
    std::fs::write(&file, b"GGUF").unwrap();
    assert!(load(&file).contains("fetch the model again"));
}
