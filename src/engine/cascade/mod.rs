//! The starter engine: speech to text, a language model, text to speech, from small models with permissive licences.
//!
//! - [`stt`]: what the user said, as it comes
//! - [`chat`]: one conversation with a language model ([`llm`]); [`template`] and [`vocabulary`] are how it reads
//! - [`clauses`]: cuts the answer into pieces that can be spoken while the rest is being written
//! - [`phonemes`]: a clause's text to the phonemes of its voice; [`letter_to_sound`] for words no lexicon has
//! - [`tts`]: a voice; [`piper`] its network, [`vits`] the parts of it that have kernels of our own, [`shaper`] its level and
//!   pauses; [`speaker`] its thread
//! - [`session`]: all of it together; [`alone`]: its stages one by one, for benchmarks

pub mod alone;
pub mod chat;
pub mod clauses;
pub mod letter_to_sound;
pub mod llm;
pub mod phonemes;
pub mod piper;
pub mod session;
pub mod shaper;
pub mod speaker;
pub mod stt;
pub mod template;
pub mod tts;
pub mod vits;
pub mod vocabulary;

pub use session::{CascadeEngine, CascadeOptions, CascadePaths};
