//! The network of a Piper voice (VITS), run by rten in steps: how long every phoneme lasts, a draft of the whole clause
//! as a sequence of frames, the frames made true by the flow, and sound from any window of those frames.
//!
//! The exported network is one graph from ids to sound. Its last parts, the flow and the decoder, are stacks of
//! convolutions that cost nearly all the time and see only `FLOW_CONTEXT` and [`CONTEXT`] frames to each side, so they
//! can be run on windows with the same result: the first sound is there before the clause is done, and a cancelled reply
//! stops at the next window.
//! The graph's own noise has no seed; here it is an input, so a reply can be repeated.
//!
//! Lives on the voice thread. Invariant: windows that follow each other give exactly the sound of one run of the whole.
//!
//! Names of the graph's values are those of Piper's exporter (rhasspy/piper, `src/python/piper_train/export_onnx.py`).

use super::phonemes::PhonemeTable;
use crate::engine::EngineError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Frames of context that one frame's sound depends on, to each side: half the receptive field of the decoder after its
/// first convolution, rounded up. Per stage, one sample for the upsampling and 45 for the widest residual block (kernel 7
/// with dilations 3 and 12), at 8, 64 and 256 samples a frame: 1 + 45/8 + 1/8 + 45/64 + 1/64 + 48/256 = 7.7.
pub const CONTEXT: usize = 8;

/// The same for the flow and the decoder's first convolution: four flows of four layers of kernel 5, then kernel 7.
const FLOW_CONTEXT: usize = 4 * 4 * 2 + 3;

/// Samples per frame: the product of the decoder's upsampling factors, 8 x 8 x 4.
pub const HOP: usize = 256;

/// A voice's configuration file, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct PiperConfig {
    pub audio: AudioConfig,
    pub inference: InferenceConfig,
    pub phoneme_id_map: BTreeMap<String, Vec<i32>>,
    #[serde(default = "one")]
    pub num_speakers: u32,
}

#[derive(Debug, Deserialize)]
pub struct AudioConfig {
    pub sample_rate: u32,
}

/// How lively the voice speaks.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct InferenceConfig {
    /// Variation of the sound.
    pub noise_scale: f32,
    /// 2.0 is half as fast.
    pub length_scale: f32,
    /// Variation of the phonemes' lengths.
    pub noise_w: f32,
}

fn one() -> u32 {
    1
}

/// The values of the graph that are given or taken.
struct Nodes {
    ids: NodeId,
    lengths: NodeId,
    scales: NodeId,
    duration_noise: NodeId,
    durations: NodeId,
    means: NodeId,
    deviations: NodeId,
    noise: NodeId,
    draft: NodeId,
    mask: NodeId,
    frames: NodeId,
    sound: NodeId,
}

/// A loaded voice network.
pub struct Piper {
    model: Model,
    nodes: Nodes,
    pool: Arc<ThreadPool>,
    inference: InferenceConfig,
    rng: StdRng,
}

/// A clause between text and sound.
pub struct Frames {
    /// Before the flow: `[1, 192, frames]`.
    draft: NdTensor<f32, 3>,
    /// After it and the decoder's first convolution: `[1, 256, n]`, the first `n` frames so far.
    ready: NdTensor<f32, 3>,
    /// Frames of every id.
    pub durations: Vec<usize>,
}

impl Frames {
    /// Number of frames, of [`HOP`] samples each.
    pub fn len(&self) -> usize {
        self.draft.size(2)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which share of the ids has been sounded with the first `frames`.
    pub fn share_sounded(&self, frames: usize) -> f32 {
        let mut end = 0;
        let sounded = self.durations.iter().take_while(|d| {
            end += **d;
            end <= frames
        });
        sounded.count() as f32 / self.durations.len().max(1) as f32
    }
}

impl PiperConfig {
    /// Reads the `.onnx.json` beside a voice.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|e| unusable(path, &e))?;
        let config: Self = serde_json::from_str(&text).map_err(|e| unusable(path, &e))?;
        if config.num_speakers > 1 {
            let n = config.num_speakers;
            return Err(EngineError::Unsupported(format!(
                "{} holds {n} speakers; choose a voice with one",
                path.display()
            )));
        }
        Ok(config)
    }

    /// The voice's numbering of phonemes.
    pub fn table(&self) -> Result<PhonemeTable, EngineError> {
        PhonemeTable::new(&self.phoneme_id_map)
    }
}

impl Piper {
    /// Loads the network; it will compute on `threads` threads of its own.
    pub fn load(onnx: &Path, inference: InferenceConfig, threads: usize) -> Result<Self, EngineError> {
        // Packing the weights in advance was measured and gains nothing: convolutions do not use it.
        let model = ModelOptions::with_all_ops().load_file(onnx).map_err(|e| unusable(onnx, &e))?;
        let node = |name: &str| {
            model.node_id(name).map_err(|_| {
                EngineError::Model(format!(
                    "{} has no value named {name}: it was not exported by Piper; choose another voice",
                    onnx.display()
                ))
            })
        };
        let nodes = Nodes {
            ids: node("input")?,
            lengths: node("input_lengths")?,
            scales: node("scales")?,
            duration_noise: node("/dp/RandomNormalLike_output_0")?,
            durations: node("/Ceil_output_0")?,
            means: node("/enc_p/Split_output_0")?,
            deviations: node("/enc_p/Split_output_1")?,
            noise: node("/RandomNormalLike_output_0")?,
            draft: node("/Add_output_0")?,
            mask: node("/Cast_2_output_0")?,
            frames: node("/dec/conv_pre/Conv_output_0")?,
            sound: node("output")?,
        };
        let pool = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        Ok(Self { model, nodes, pool, inference, rng: StdRng::seed_from_u64(0) })
    }

    /// Starts the noise anew, so that what follows can be repeated.
    pub fn seed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    /// The frames of a clause, from its ids (see [`PhonemeTable::encode`]).
    pub fn encode(&mut self, ids: &[i32]) -> Result<Frames, EngineError> {
        let n = ids.len();
        let InferenceConfig { noise_scale, length_scale, noise_w } = self.inference;
        let ids = NdTensor::from_data([1, n], ids.to_vec());
        let lengths = NdTensor::from_data([1], vec![i32::try_from(n).unwrap_or(i32::MAX)]);
        let scales = NdTensor::from_data([3], vec![noise_scale, length_scale, noise_w]);
        let duration_noise = self.normal([1, 2, n]);
        let Nodes { durations, means, deviations, draft, .. } = self.nodes;
        let text = |nodes: &Nodes| -> Vec<(NodeId, ValueOrView<'_>)> {
            vec![
                (nodes.ids, ids.view().into()),
                (nodes.lengths, lengths.view().into()),
                (nodes.scales, scales.view().into()),
            ]
        };

        let mut inputs = text(&self.nodes);
        inputs.push((self.nodes.duration_noise, duration_noise.view().into()));
        let [lasting, mean, deviation] = self.run(inputs, [durations, means, deviations])?;
        let lasting: NdTensor<f32, 3> = tensor(lasting)?;
        // The graph makes at least one frame of anything.
        let each: Vec<usize> = lasting.iter().map(|d| d.max(0.0) as usize).collect();
        let total = each.iter().sum::<usize>().max(1);

        let noise = self.normal([1, mean.shape().get(1).copied().unwrap_or(0), total]);
        let mut inputs = text(&self.nodes);
        inputs.extend([
            (durations, lasting.view().into()),
            (means, ValueOrView::from(&mean)),
            (deviations, ValueOrView::from(&deviation)),
            (self.nodes.noise, noise.view().into()),
        ]);
        let [data] = self.run(inputs, [draft])?;
        Ok(Frames { draft: tensor(data)?, ready: NdTensor::zeros([1, 0, 0]), durations: each })
    }

    /// Runs the flow until at least `n` frames are ready: on the beginning alone when that is much less than the whole
    /// (that part is then done twice), else on all.
    fn make_ready(&self, frames: &mut Frames, n: usize) -> Result<(), EngineError> {
        if frames.ready.size(2) >= n {
            return Ok(());
        }
        let beginning = n + FLOW_CONTEXT;
        let whole = frames.ready.size(2) > 0 || 2 * beginning > frames.len();
        let fed = if whole { frames.len() } else { beginning };
        let draft = frames.draft.slice((.., .., 0..fed)).to_tensor();
        let mask = NdTensor::<f32, 3>::full([1, 1, fed], 1.0);
        let inputs = vec![(self.nodes.draft, draft.into()), (self.nodes.mask, mask.into())];
        let [ready] = self.run(inputs, [self.nodes.frames])?;
        let ready: NdTensor<f32, 3> = tensor(ready)?;
        frames.ready = if whole { ready } else { ready.slice((.., .., 0..n)).to_tensor() };
        Ok(())
    }

    /// The sound of some of the frames: [`HOP`] samples for each, nominally within -1..1.
    pub fn decode(&self, frames: &mut Frames, window: Range<usize>) -> Result<Vec<f32>, EngineError> {
        let from = window.start.saturating_sub(CONTEXT);
        let to = (window.end + CONTEXT).min(frames.len());
        self.make_ready(frames, to)?;
        let part = frames.ready.slice((.., .., from..to)).to_tensor();
        let inputs = vec![(self.nodes.frames, part.into())];
        let [sound] = self.run(inputs, [self.nodes.sound])?;
        let sound: NdTensor<f32, 4> = tensor(sound)?;
        let samples = sound.iter().copied().skip((window.start - from) * HOP).take(window.len() * HOP);
        Ok(samples.collect())
    }

    fn run<const N: usize>(
        &self,
        inputs: Vec<(NodeId, ValueOrView<'_>)>,
        outputs: [NodeId; N],
    ) -> Result<[Value; N], EngineError> {
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        self.model
            .run_n(inputs, outputs, Some(options))
            .map_err(|e| EngineError::Model(format!("the voice could not be computed ({e}); pull the voice again")))
    }

    /// Gaussian noise (Box and Muller's method).
    fn normal(&mut self, shape: [usize; 3]) -> NdTensor<f32, 3> {
        let rng = &mut self.rng;
        NdTensor::from_simple_fn(shape, || {
            let (radius, turn): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
            (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * turn).cos()
        })
    }
}

fn tensor<const N: usize>(value: Value) -> Result<NdTensor<f32, N>, EngineError> {
    value.try_into().map_err(|e| EngineError::Model(format!("the voice gave an unexpected value ({e}); pull it again")))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Model(format!("the voice {} cannot be used: {why}; pull it again", path.display()))
}
