//! The parts of a voice's network (VITS) that cost nearly all its time, by kernels of our own: the flow and the decoder.
//!
//! - [`graph`], [`shape`]: what stands in the voice's file, and which network that is
//! - [`flow`], [`decoder`], [`stage`]: the network, as a stream
//! - [`conv`], [`kernel`]: a convolution, and its inner loop; [`rows`] what it reads and writes
//!
//! Lives on the voice thread. Why there are kernels of our own: `rten` lays a convolution's input out as a matrix, which
//! for so few channels takes longer than the product. Here the channels of a moment lie side by side, so that nothing has
//! to be laid out, and the last rows that a layer has read are kept, so that no frame is computed twice.
//! `docs/performance.md` has both beside onnxruntime's.
//!
//! Invariants: the sound is that of the graph, but for rounding; it is the same, bit for bit, however many frames are asked
//! for at a time, and on any number of threads.

pub mod conv;
pub mod decoder;
pub mod flow;
pub mod graph;
pub mod kernel;
pub mod rows;
pub mod shape;
pub mod stage;

use decoder::{Decoder, DecoderState};
use flow::{Flow, FlowState};
use graph::{Graph, Unexpected};
use std::path::Path;

/// The flow and the decoder of a voice.
pub struct Network {
    flow: Flow,
    decoder: Decoder,
}

/// A clause in the middle of being sounded.
pub struct Sounding {
    flow: FlowState,
    decoder: DecoderState,
    /// Frames of the draft that have been taken.
    taken: usize,
    /// Samples that have been given.
    given: usize,
}

impl Sounding {
    /// Samples that have been given.
    pub fn given(&self) -> usize {
        self.given
    }
}

impl Network {
    /// From a voice's file: of the convolution that makes `frames`, of what follows up to `sound`, and of the flow before.
    ///
    /// # Errors
    /// When the voice is built in another way.
    pub fn read(onnx: &Path, frames: &str, sound: &str) -> Result<Self, Unexpected> {
        let graph = Graph::read(onnx)?;
        let (flow, decoder) =
            (Flow::new(&shape::flow(&graph)?)?, Decoder::new(&shape::decoder(&graph, frames, sound)?));
        if decoder.stride() != flow.channels() {
            return Err(Unexpected(format!("the decoder does not take the flow's {} channels", flow.channels())));
        }
        Ok(Network { flow, decoder })
    }

    /// Channels of a frame of the draft.
    pub fn channels(&self) -> usize {
        self.flow.channels()
    }

    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.decoder.hop()
    }

    /// The state before the first frame.
    pub fn begin(&self) -> Sounding {
        Sounding { flow: self.flow.begin(), decoder: self.decoder.begin(), taken: 0, given: 0 }
    }

    /// More sound of a draft `[channels, frames]`: of the `next` frames that have not been given, or a little more; of the
    /// end, what there is. On `threads` threads of the pool it is called in.
    pub fn sound(&self, state: &mut Sounding, draft: &[f32], frames: usize, next: usize, threads: usize) -> Vec<f32> {
        let wanted = state.given.div_ceil(self.hop()) + next;
        let to = self.flow.needs(self.decoder.needs(wanted)).min(frames).max(state.taken);
        let last = to == frames;
        let moments = state.taken..to;
        let rows: Vec<f32> =
            moments.flat_map(|m| (0..self.flow.channels()).map(move |c| draft[c * frames + m])).collect();
        state.taken = to;
        let ready = self.flow.push(&mut state.flow, &rows, last, threads);
        let sound = self.decoder.push(&mut state.decoder, &ready, last, threads);
        state.given += sound.len();
        sound
    }
}

#[cfg(test)]
mod tests;
