//! Smart Turn v3 (Daily, BSD-2): was that the end of a turn, or a pause for thought?
//!
//! A Whisper-tiny encoder with a classifier on top, run by rten from its ONNX file. Lives on the ear thread, which
//! waits for it; it keeps to its own threads and to no state but scratch space. It listens to how something is said,
//! not to what is said, and is meant to be asked once a speaker has fallen silent.

use super::TurnError;
use crate::dsp::mel::{BINS, LogMel};
use rten::{Model, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Frames of the model's input: 8 s.
const FRAMES: usize = 800;

/// A loaded end-of-turn model.
pub struct SmartTurn {
    model: Model,
    input: NodeId,
    output: NodeId,
    threads: Arc<ThreadPool>,
    mel: LogMel,
}

impl SmartTurn {
    /// Loads the ONNX file (`smart-turn-v3.2-cpu.onnx`). `threads` is how many it may use.
    pub fn load(path: &Path, threads: usize) -> Result<Self, TurnError> {
        let broken = |why: String| TurnError::Model { path: path.display().to_string(), why };
        let model = Model::load_file(path).map_err(|e| broken(e.to_string()))?;
        let input =
            model.find_node("input_features").ok_or_else(|| broken("it has no input 'input_features'".into()))?;
        let [output] = model.output_ids() else { return Err(broken("it should have one output".into())) };
        let (output, threads) = (*output, Arc::new(ThreadPool::with_num_threads(threads)));
        Ok(Self { model, input, output, threads, mel: LogMel::new() })
    }

    /// The probability that the speaker is done. `last_8s` is 16 kHz mono, up to and including the silence so far;
    /// of more than 8 s only the last 8 are heard, and less is preceded by silence.
    pub fn probability(&mut self, last_8s: &[f32]) -> Result<f32, TurnError> {
        let failed = |e: &dyn std::fmt::Display| TurnError::Compute(e.to_string());
        let mel = self.mel.smart_turn(last_8s);
        let features = NdTensor::from_data([1, BINS, FRAMES], mel.data);
        let options = RunOptions::default().with_thread_pool(Some(self.threads.clone()));
        let [output] = self
            .model
            .run_n(vec![(self.input, features.view().into())], [self.output], Some(options))
            .map_err(|e| failed(&e))?;
        let output: rten_tensor::Tensor<f32> = output.try_into().map_err(|e| failed(&e))?;
        output.iter().next().copied().ok_or_else(|| failed(&"it gave no answer"))
    }
}
