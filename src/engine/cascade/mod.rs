//! The starter engine: speech to text, a language model, text to speech, from small models with permissive licences.
//!
//! - [`clauses`]: cuts the answer into pieces that can be spoken while the rest is being written

pub mod clauses;
