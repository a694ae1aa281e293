//! The starter engine: speech to text, a small language model, text to speech, one after the other.

pub mod chat;
pub mod llm;
pub mod template;
pub mod vocabulary;
