//! What the starter engine's stages would take at best on this machine: the bytes they must read over the measured
//! bandwidth, or the operations they must do over the measured rate, whichever is longer.
//!
//! Pure, once the headers of the models are read. A floor is no goal for every stage: it says how far there is to go.

use crate::engine::EngineError;
use crate::engine::HEARING_RATE;
use crate::engine::cascade::CascadePaths;
use crate::engine::floor::Measured;
use crate::engine::gguf::Gguf;
use crate::engine::tensor_source::SafetensorsSource;
use crate::metrics::{Stage, StageReport};

/// Multiplications and additions of a frame (256 samples) in the decoder and the flow of a Piper voice of medium quality:
/// the decoder's three upsamplings and nine residual blocks 22.3 M, the flow's sixteen layers and the first convolution
/// 7.4 M, twice. Counted from the shapes of the graph's convolutions.
const OPERATIONS_A_FRAME: f64 = 2.0 * 29.7e6;
const FRAME: f64 = 256.0;
/// Bytes of a weight in Q8_0.
const EIGHT_BITS: f64 = 34.0 / 32.0;
/// The encoder's positions per second.
const POSITIONS: f64 = 50.0;

/// What each stage must read and do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needs {
    /// Bytes of weights for one token of the language model, and operations.
    pub token_bytes: f64,
    pub token_operations: f64,
    /// Operations for one position of the audio encoder.
    pub position_operations: f64,
    /// Bytes for one step of the transcribing decoder.
    pub step_bytes: f64,
}

impl Needs {
    /// Reads the models' headers.
    pub fn of(paths: &CascadePaths) -> Result<Self, EngineError> {
        let gguf = Gguf::open(&paths.llm_gguf)?;
        let tied = !gguf.has("output.weight");
        let (mut token_bytes, mut values) = (0.0, 0.0);
        for (name, info) in &gguf.content().tensor_infos {
            // Of the table of embeddings one row is read, unless it is the way out too.
            if name != "token_embd.weight" || tied {
                let (n, kind) = (info.shape.elem_count() as f64, info.ggml_dtype);
                token_bytes += n / kind.block_size() as f64 * kind.type_size() as f64;
                values += n;
            }
        }
        let (mut encoder, mut decoder) = (0.0, 0.0);
        let whisper = SafetensorsSource::open_one(paths.whisper_dir.join("model.safetensors"))?;
        for (name, shape) in whisper.shapes().into_iter().filter(|(_, shape)| shape.len() == 2) {
            let values = shape.iter().product::<usize>() as f64;
            if name.starts_with("model.encoder.layers.") {
                encoder += values;
            } else if every_step(&name) {
                decoder += values;
            }
        }
        Ok(Needs {
            token_bytes,
            token_operations: 2.0 * values,
            position_operations: 2.0 * encoder,
            step_bytes: decoder * EIGHT_BITS,
        })
    }

    /// Milliseconds that `stage` would take at best for what it did in a turn; `None` for stages without a floor.
    pub fn floor_ms(&self, machine: &Measured, stage: &StageReport) -> Option<f64> {
        let (units, pieces) = (stage.units as f64, stage.count as f64);
        let compute = |operations: f64, rate: f64| operations / rate.max(1.0) * 1000.0;
        Some(match stage.stage {
            Stage::LlmDecode => machine.read_ms(self.token_bytes) * units,
            Stage::LlmPrefill => {
                let read = machine.read_ms(self.token_bytes) * pieces;
                read.max(compute(self.token_operations * units, machine.packed))
            }
            Stage::AudioEncode => {
                let positions = units / f64::from(HEARING_RATE) * POSITIONS;
                compute(self.position_operations * positions, machine.packed)
            }
            Stage::Stt => machine.read_ms(self.step_bytes) * units,
            Stage::TtsDecode => compute(OPERATIONS_A_FRAME * units / FRAME, machine.dense),
            _ => return None,
        })
    }
}

/// Whether a step of Whisper's decoder reads this matrix. Keys and values of the sound are computed once, not every step.
fn every_step(name: &str) -> bool {
    let once = name.contains("encoder_attn.k_proj") || name.contains("encoder_attn.v_proj");
    name == "model.decoder.embed_tokens.weight" || (name.starts_with("model.decoder.layers.") && !once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_longer_of_reading_and_computing() {
        let needs = Needs { token_bytes: 1e9, token_operations: 2e9, position_operations: 40e6, step_bytes: 50e6 };
        let machine = Measured { threads: 1, bandwidth: 25e9, dense: 100e9, packed: 200e9 };
        let did = |stage, count, units| StageReport {
            stage,
            total_ms: 0.0,
            count,
            units,
            first_start_ms: 0.0,
            last_end_ms: 0.0,
        };
        let floor = |stage, count, units| needs.floor_ms(&machine, &did(stage, count, units));
        assert_eq!(floor(Stage::LlmDecode, 10, 10), Some(400.0));
        assert_eq!(floor(Stage::LlmPrefill, 1, 2), Some(40.0), "two tokens: reading");
        assert_eq!(floor(Stage::LlmPrefill, 1, 30), Some(300.0), "thirty: computing");
        assert_eq!(floor(Stage::AudioEncode, 1, 32_000), Some(20.0));
        assert_eq!(floor(Stage::Stt, 1, 5), Some(10.0));
        assert!((floor(Stage::TtsDecode, 1, 256_000).unwrap() - 594.0).abs() < 1e-9);
        assert_eq!(floor(Stage::Seam, 1, 1), None);
    }
}
