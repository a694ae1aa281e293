//! The starter engine: speech to text, a language model, text to speech, from small models with permissive licences.
//!
//! - [`clauses`]: cuts the answer into pieces that can be spoken while the rest is being written
//! - [`phonemes`]: a clause's text to the phonemes of its voice; [`letter_to_sound`] for words no lexicon has
//! - [`tts`]: a voice; [`piper`] its network, [`shaper`] its level and pauses

pub mod clauses;
pub mod letter_to_sound;
pub mod phonemes;
pub mod piper;
pub mod shaper;
pub mod tts;
//! The starter engine: speech to text, a small language model, text to speech, one after the other.

pub mod chat;
pub mod llm;
pub mod template;
pub mod vocabulary;
