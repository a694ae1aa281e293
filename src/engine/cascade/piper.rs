//! The network of a Piper voice (VITS), in steps: how long every phoneme lasts, a draft of the whole clause as a sequence of
//! frames, and from it, some frames at a time, sound.
//!
//! The exported network is one graph from ids to sound. Its last parts, the flow and the decoder, cost nearly all the time;
//! kernels of our own ([`super::vits`]) run them as a stream: the first sound is there before the clause is done, and a
//! cancelled reply stops soon. All else is run by rten; so is a voice that is built in another way than Piper's voices are, a
//! clause at a time.
//! The graph's own noise has no seed; here it is an input, so a reply can be repeated.
//!
//! Lives on the voice thread. Invariant: the pieces of a clause joined are the sound of one run of the whole graph.
//!
//! Names of the graph's values are those of Piper's exporter (rhasspy/piper, `src/python/piper_train/export_onnx.py`).

use super::phonemes::PhonemeTable;
use super::vits::{Network, Sounding};
use crate::engine::EngineError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the decoder begins with, and what it ends in.
const FRAMES: &str = "/dec/conv_pre/Conv_output_0";
const SOUND: &str = "output";

/// Frames on which kernels and graph are compared when a voice is loaded.
const TRIED: usize = 16;

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
    sound: NodeId,
}

/// A loaded voice network.
pub struct Piper {
    model: Model,
    nodes: Nodes,
    /// The flow and the decoder, where they are built as expected.
    network: Option<Network>,
    pool: Arc<ThreadPool>,
    threads: usize,
    inference: InferenceConfig,
    /// 2.0 is twice as fast as the voice was made.
    speed: f32,
    rng: StdRng,
}

/// A clause between text and sound.
pub struct Frames {
    /// Before the flow: `[channels, frames]`.
    draft: Vec<f32>,
    len: usize,
    /// Where the kernels of our own are; `None` where rten does everything.
    sounding: Option<Sounding>,
    /// How many have been sounded.
    sounded: usize,
    /// Frames of every id.
    pub durations: Vec<usize>,
}

impl Frames {
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no more sound to come.
    pub fn is_sounded(&self) -> bool {
        self.sounded >= self.len()
    }

    /// What the flow is given: `[channels, frames]`.
    pub fn draft(&self) -> &[f32] {
        &self.draft
    }

    /// Which share of the ids has been sounded.
    pub fn share_sounded(&self) -> f32 {
        let mut end = 0;
        let sounded = self.durations.iter().take_while(|d| {
            end += **d;
            end <= self.sounded
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
            sound: node(SOUND)?,
        };
        let threads = threads.max(1);
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        let rng = StdRng::seed_from_u64(0);
        let mut piper = Self { model, nodes, network: None, pool, threads, inference, speed: 1.0, rng };
        match Network::read(onnx, FRAMES, SOUND) {
            Ok(network) if piper.agrees(&network)? => piper.network = Some(network),
            Ok(_) => other_voice(onnx, &"its numbers come out differently"),
            Err(why) => other_voice(onnx, &why),
        }
        Ok(piper)
    }

    /// Whether kernels of our own run the flow and the decoder of this voice: else speaking takes several times as long.
    pub fn is_quick(&self) -> bool {
        self.network.is_some()
    }

    /// Whether `network` makes of noise what the graph makes of it.
    fn agrees(&self, network: &Network) -> Result<bool, EngineError> {
        let channels = network.channels();
        let draft = normal(&mut StdRng::seed_from_u64(0), [1, channels, TRIED]).to_vec();
        let expected = self.graph_sound(&draft, TRIED)?;
        let found = network.sound(&mut network.begin(), &draft, TRIED, TRIED, 1);
        let most = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * most;
        Ok(found.len() == expected.len() && found.iter().zip(&expected).all(near))
    }

    /// Starts the noise anew, so that what follows can be repeated.
    pub fn seed(&mut self, seed: u64) {
        self.rng = StdRng::seed_from_u64(seed);
    }

    /// Every phoneme lasts `1 / speed` of its time from now on. Beyond a half and twice a voice is not understood any more:
    /// what is further is brought in.
    pub fn set_speed(&mut self, speed: f32) {
        self.speed = if speed.is_nan() { 1.0 } else { speed.clamp(0.5, 2.0) };
    }

    /// The frames of a clause, from its ids (see [`PhonemeTable::encode`]).
    pub fn encode(&mut self, ids: &[i32]) -> Result<Frames, EngineError> {
        let n = ids.len();
        let InferenceConfig { noise_scale, length_scale, noise_w } = self.inference;
        let ids = NdTensor::from_data([1, n], ids.to_vec());
        let lengths = NdTensor::from_data([1], vec![i32::try_from(n).unwrap_or(i32::MAX)]);
        let scales = NdTensor::from_data([3], vec![noise_scale, length_scale / self.speed, noise_w]);
        let duration_noise = normal(&mut self.rng, [1, 2, n]);
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

        let noise = normal(&mut self.rng, [1, mean.shape().get(1).copied().unwrap_or(0), total]);
        let mut inputs = text(&self.nodes);
        inputs.extend([
            (durations, lasting.view().into()),
            (means, ValueOrView::from(&mean)),
            (deviations, ValueOrView::from(&deviation)),
            (self.nodes.noise, noise.view().into()),
        ]);
        let [data] = self.run(inputs, [draft])?;
        let sounding = self.network.as_ref().map(Network::begin);
        let draft: NdTensor<f32, 3> = tensor(data)?;
        Ok(Frames { draft: draft.to_vec(), len: draft.size(2), sounding, sounded: 0, durations: each })
    }

    /// The sound of about `next` more frames, nominally within -1..1; of those that are left, at the end. A voice that is
    /// built in another way than expected sounds them all at once.
    pub fn sound(&self, frames: &mut Frames, next: usize) -> Result<Vec<f32>, EngineError> {
        let total = frames.len;
        let (Some(network), Some(sounding)) = (&self.network, &mut frames.sounding) else {
            frames.sounded = total;
            return self.graph_sound(&frames.draft, total);
        };
        let mut sound = || network.sound(sounding, &frames.draft, total, next, self.threads);
        let sound = if self.threads == 1 { sound() } else { self.pool.run(sound) };
        frames.sounded = sounding.given() / network.hop();
        Ok(sound)
    }

    /// All the sound of a draft `[channels, frames]`, by the graph.
    fn graph_sound(&self, draft: &[f32], frames: usize) -> Result<Vec<f32>, EngineError> {
        let draft = NdTensor::from_data([1, draft.len() / frames, frames], draft.to_vec());
        let mask = NdTensor::<f32, 3>::full([1, 1, frames], 1.0);
        let inputs = vec![(self.nodes.draft, draft.view().into()), (self.nodes.mask, mask.view().into())];
        let [sound] = self.run(inputs, [self.nodes.sound])?;
        let sound: NdTensor<f32, 4> = tensor(sound)?;
        Ok(sound.to_vec())
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
}

/// Gaussian noise (Box and Muller's method).
fn normal(rng: &mut StdRng, shape: [usize; 3]) -> NdTensor<f32, 3> {
    NdTensor::from_simple_fn(shape, || {
        let (radius, turn): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
        (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * turn).cos()
    })
}

fn other_voice(path: &Path, why: &dyn std::fmt::Display) {
    tracing::warn!("the voice {} speaks, but slowly, because it is not built as Piper's are: {why}", path.display());
}

fn tensor<const N: usize>(value: Value) -> Result<NdTensor<f32, N>, EngineError> {
    value.try_into().map_err(|e| EngineError::Model(format!("the voice gave an unexpected value ({e}); pull it again")))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Model(format!("the voice {} cannot be used: {why}; pull it again", path.display()))
}
