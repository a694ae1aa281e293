//! The starter engine: speech-to-text, then a language model, then text-to-speech, from small permissive models.
//! Everything here lives on the engine thread.

pub mod stt;
