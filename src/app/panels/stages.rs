//! What the stages of a turn are, in the words of the window. Pure.

use crate::metrics::Stage;

/// The stage's name, for people.
pub fn title(stage: Stage) -> String {
    stage.name().replace('_', " ")
}

/// What a stage does, and what makes it slow.
pub const fn explanation(stage: Stage) -> &'static str {
    match stage {
        Stage::Capture => {
            "The microphone's sound on its way to the program. Slow with large buffers of the sound system, and with Bluetooth."
        }
        Stage::Echo => {
            "Takes the assistant's own voice out of the microphone. Takes the same time always, unless the processor is busy."
        }
        Stage::Vad => "Tells speech from silence, 10 ms at a time. Slow only on a busy processor.",
        Stage::EndOfTurn => {
            "The wait after your last word, until it is sure that you have finished. Settings, When you pause, makes it shorter; the talk button needs none."
        }
        Stage::AudioEncode => {
            "Turns your speech into what the model understands, while you speak. Slow with long turns and without a GPU."
        }
        Stage::Stt => {
            "Writes down what you said. Most of it is done while you speak; what is left grows with the length of the turn."
        }
        Stage::LlmPrefill => {
            "The language model reads your words. Grows with what was said before, and at once when the persona is long."
        }
        Stage::LlmDecode => {
            "The language model writes the answer, one token at a time. Slow with large models, little memory bandwidth, other programs."
        }
        Stage::TtsPrefill => "The voice reads the words it is to speak. Grows with the length of a text chunk.",
        Stage::TtsDecode => "The voice makes the sound's tokens. Must be faster than speech, else the answer stalls.",
        Stage::Vocoder => "Turns tokens into sound. Slow on a busy processor.",
        Stage::Seam => "Joins the pieces of sound without a click. Never slow.",
        Stage::PlaybackBuffer => {
            "The sound kept back before the answer begins, so that it does not stall. Grows when the engine is slow or uneven."
        }
        Stage::Device => {
            "From the program to the loudspeaker. Slow with large buffers of the sound system, and with Bluetooth."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_name_and_an_explanation_of_its_own() {
        assert_eq!(title(Stage::EndOfTurn), "end of turn");
        let mut all: Vec<&str> = Stage::ALL.map(explanation).to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Stage::ALL.len());
    }
}
