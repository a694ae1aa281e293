//! Written text into spoken words, for both engines. Pure: no model, no state beyond an open code fence.

mod chinese;
mod english;
mod english_numbers;
mod markdown;
mod number_words;
pub mod speakable;
mod units;
