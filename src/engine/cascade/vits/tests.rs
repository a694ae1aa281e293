//! Kernels against convolutions written out in f64; whole small decoders, of every kind that Piper's voices are of, against
//! rten's run of the same graph.

use super::conv::{Conv, Finish, Shape, Weights};
use super::decoder::Decoder;
use super::graph::Graph;
use super::kernel::Run;
use super::shape;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rten::{Model, ValueOrView};
use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use rten_simd::isa::GenericIsa;
use rten_simd::ops::BitOps;
use rten_simd::{Isa, SimdOp};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::cell::RefCell;

fn noise(n: usize, rng: &mut StdRng) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// What a convolution gives, in f64: `[rows][outputs]` of `x` `[rows + reach][stride]`.
fn plain(w: &Weights, x: &[f32], stride: usize, rows: usize) -> Vec<Vec<f64>> {
    let one = |row: usize, output: usize| {
        let terms = (0..w.taps).flat_map(|k| (0..w.inputs).map(move |i| (k, i)));
        let sum = terms.map(|(k, i)| {
            let weight = f64::from(w.values[(output * w.inputs + i) * w.taps + k]);
            weight * f64::from(x[(row + k * w.dilation) * stride + i])
        });
        f64::from(w.bias[output]) + sum.sum::<f64>()
    };
    (0..rows).map(|row| (0..w.outputs).map(|output| one(row, output)).collect()).collect()
}

/// Runs convolutions of awkward sizes with the vectors of `isa`, every way of finishing among them.
fn try_sizes<I: Isa>(isa: I) {
    let mut rng = StdRng::seed_from_u64(1);
    let lanes = isa.f32().len();
    for (inputs, outputs, taps, dilation, rows) in [
        (1, 1, 1, 1, 1),
        (3, 5, 3, 2, 7),
        (7, lanes, 5, 6, 13),
        (16, 2 * lanes, 7, 12, 25),
        (5, 3 * lanes, 2, 1, 12),
        (32, 4 * lanes + 1, 3, 1, 41),
        (17, 2 * lanes - 1, 11, 5, 3),
    ] {
        let w = Weights {
            values: noise(outputs * inputs * taps, &mut rng),
            bias: noise(outputs, &mut rng),
            outputs,
            inputs,
            taps,
            dilation,
            stride: 1,
            pads: [0, (taps - 1) * dilation],
        };
        let stride = inputs + 2;
        let shape = Shape { input_stride: stride, columns: outputs, inputs, taps, dilation };
        let value = |c: usize, i: usize, k: usize| w.values.get((c * inputs + i) * taps + k).copied().unwrap_or(0.0);
        let conv = Conv::pack(lanes, shape, &value, &|c| w.bias.get(c).copied().unwrap_or(0.0));
        let width = conv.columns() + lanes;
        let x = noise((rows + (taps - 1) * dilation) * stride, &mut rng);
        let (residual, before) = (noise(rows * width, &mut rng), noise(rows * width, &mut rng));
        let expected = plain(&w, &x, stride, rows);
        // Sums of so many products of numbers below one.
        let near = 1e-6 * (taps * inputs) as f64;
        for (added, onto, slope) in [(false, false, 1.0), (true, false, 0.1), (true, true, 0.01)] {
            let (mut sums, mut active) = (before.clone(), before.clone());
            let mut finish = Finish::new(width);
            finish.residual = added.then_some(&residual[..]);
            (finish.plain, finish.onto) = (Some(&mut sums[..]), onto);
            (finish.active, finish.scale) = (Some((&mut active[..], slope)), 0.5);
            Run { conv: &conv, input: &x, rows, finish }.eval(isa);
            for (row, expected) in expected.iter().enumerate() {
                for (column, expected) in expected.iter().enumerate() {
                    let at = row * width + column;
                    let more = if added { f64::from(residual[at]) } else { 0.0 };
                    let sum = expected + more + if onto { f64::from(before[at]) } else { 0.0 };
                    let half = sum / 2.0;
                    let rectified = if half > 0.0 { half } else { half * f64::from(slope) };
                    let what = format!("{inputs} to {outputs}, {taps} taps, row {row}, column {column}");
                    assert!((f64::from(sums[at]) - sum).abs() < near, "{what}: {} for {sum}", sums[at]);
                    assert!((f64::from(active[at]) - rectified).abs() < near, "{what}, rectified");
                }
                // Beyond the columns nothing is written.
                let beyond = row * width + conv.columns()..(row + 1) * width;
                assert_eq!(sums[beyond.clone()], before[beyond]);
            }
        }
    }
}

/// With every kind of vector that this processor has.
#[test]
fn convolutions_are_those_of_the_definition() {
    try_sizes(GenericIsa::new());
    #[cfg(target_arch = "x86_64")]
    {
        use rten_simd::isa::{Avx2Isa, Avx512Isa};
        if let Some(isa) = Avx2Isa::new() {
            try_sizes(isa);
        }
        if let Some(isa) = Avx512Isa::new() {
            try_sizes(isa);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(isa) = rten_simd::isa::ArmNeonIsa::new() {
        try_sizes(isa);
    }
}

/// Writes a graph down, value by value.
struct Writer {
    graph: GraphProto,
    rng: StdRng,
}

impl Writer {
    fn node(&mut self, kind: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("v{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            name: Some(format!("n{}", self.graph.node.len())),
            op_type: Some(kind.into()),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: Some(DataType::FLOAT),
            raw_data: Some(RefCell::new(values.iter().flat_map(|v| v.to_le_bytes()).collect())),
            ..TensorProto::default()
        });
        name
    }

    fn weights(&mut self, dims: [usize; 3], size: f32) -> String {
        let values: Vec<f32> = noise(dims.iter().product(), &mut self.rng).iter().map(|v| v * size).collect();
        self.constant(&dims, &values)
    }

    fn leaky(&mut self, x: &str, slope: f32) -> String {
        let alpha = AttributeProto {
            name: Some("alpha".into()),
            f: Some(slope),
            r#type: Some(AttributeType::FLOAT),
            ..AttributeProto::default()
        };
        self.node("LeakyRelu", &[x], vec![alpha])
    }

    fn conv(&mut self, x: &str, (inputs, outputs): (usize, usize), taps: usize, dilation: usize) -> String {
        let weight = self.weights([outputs, inputs, taps], 1.5 / (inputs as f32 * taps as f32).sqrt());
        let bias = noise(outputs, &mut self.rng);
        let bias = self.constant(&[outputs], &bias);
        let pad = (taps - 1) * dilation;
        let pads = [pad / 2, pad - pad / 2];
        let attributes = vec![ints("strides", &[1]), ints("dilations", &[dilation]), ints("pads", &pads)];
        self.node("Conv", &[x, &weight, &bias], attributes)
    }

    /// A decoder whose blocks have one (`layers` 1) or two convolutions to a unit: for each stage its channels, stride and
    /// kernel; for each block its kernel and dilations.
    fn decoder(
        layers: usize,
        stages: &[(usize, usize, usize)],
        blocks: &[(usize, &[usize])],
    ) -> (GraphProto, String, String) {
        let mut w = Writer { graph: GraphProto::default(), rng: StdRng::seed_from_u64(layers as u64) };
        w.graph.input.push(ValueInfoProto { name: Some("z".into()), r#type: None });
        let first = w.conv("z", (12, 24), 7, 1);
        let (mut x, mut width) = (first.clone(), 24);
        for (channels, stride, kernel) in stages {
            let active = w.leaky(&x, 0.1);
            let weight = w.weights([width, *channels, *kernel], 1.5 / (width as f32 * 2.0).sqrt());
            let bias = noise(*channels, &mut w.rng);
            let bias = w.constant(&[*channels], &bias);
            let crop = kernel - stride;
            let pads = [crop / 2, crop - crop / 2];
            let attributes = vec![ints("strides", &[*stride]), ints("dilations", &[1]), ints("pads", &pads)];
            let start = w.node("ConvTranspose", &[&active, &weight, &bias], attributes);
            width = *channels;
            let active = w.leaky(&start, 0.1);
            let mut sum: Option<String> = None;
            for (kernel, dilations) in blocks {
                let (mut from, mut active) = (start.clone(), active.clone());
                for (i, dilation) in dilations.iter().enumerate() {
                    if i > 0 {
                        active = w.leaky(&from, 0.1);
                    }
                    let mut y = w.conv(&active, (width, width), *kernel, *dilation);
                    for _ in 1..layers {
                        let active = w.leaky(&y, 0.2);
                        y = w.conv(&active, (width, width), *kernel, 1);
                    }
                    from = w.node("Add", &[&y, &from], vec![]);
                }
                sum = Some(match sum {
                    None => from,
                    Some(others) => w.node("Add", &[&others, &from], vec![]),
                });
            }
            let by = w.constant(&[], &[blocks.len() as f32]);
            x = w.node("Div", &[&sum.unwrap(), &by], vec![]);
        }
        let active = w.leaky(&x, 0.01);
        let post = w.conv(&active, (width, 1), 7, 1);
        let sound = w.node("Tanh", &[&post], vec![]);
        w.graph.output.push(ValueInfoProto { name: Some(sound.clone()), r#type: None });
        (w.graph, first, sound)
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        ints: values.iter().map(|v| *v as i64).collect(),
        r#type: Some(AttributeType::INTS),
        ..AttributeProto::default()
    }
}

/// What rten makes of `z` `[12, frames]`.
fn by_rten(graph: &GraphProto, sound: &str, z: &[f32]) -> Vec<f32> {
    let opset = OperatorSetIdProto { domain: None, version: Some(15) };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph.clone()),
        opset_import: vec![opset],
        ..ModelProto::default()
    };
    let model = Model::load(model.write_buf().unwrap()).unwrap();
    let (z, sound) = (NdTensor::from_data([1, 12, z.len() / 12], z.to_vec()), model.node_id(sound).unwrap());
    let input: ValueOrView<'_> = z.view().into();
    let [out] = model.run_n(vec![(model.node_id("z").unwrap(), input)], [sound], None).unwrap();
    let out: NdTensor<f32, 3> = out.try_into().unwrap();
    out.to_vec()
}

/// Gives `z` `[12, frames]` to a decoder in pieces of these sizes, the last again and again.
fn streamed(decoder: &Decoder, z: &[f32], pieces: &[usize], threads: usize) -> Vec<f32> {
    let (mut state, frames) = (decoder.begin(), z.len() / 12);
    let (mut sound, mut at, mut turn) = (Vec::new(), 0, 0);
    while at < frames {
        let to = (at + pieces[turn.min(pieces.len() - 1)]).min(frames);
        let mut rows = vec![0.0; (to - at) * decoder.stride()];
        for (row, m) in rows.chunks_exact_mut(decoder.stride()).zip(at..to) {
            (0..12).for_each(|c| row[c] = z[c * frames + m]);
        }
        sound.extend(decoder.push(&mut state, &rows, to == frames, threads));
        assert!(
            to == frames || sound.len() < decoder.hop() || decoder.needs(sound.len() / decoder.hop()) <= to,
            "sound out of nothing"
        );
        (at, turn) = (to, turn + 1);
    }
    sound
}

type Blocks = &'static [(usize, &'static [usize])];
type Stages = &'static [(usize, usize, usize)];
/// Piper's medium voices; its high ones; its low ones; and odd numbers where there are even ones in those.
const KINDS: [(usize, Stages, Blocks); 4] = [
    (1, &[(16, 8, 16), (12, 8, 16), (8, 4, 8)], &[(3, &[1, 2]), (5, &[2, 6]), (7, &[3, 12])]),
    (2, &[(32, 8, 16), (16, 2, 4), (8, 2, 4)], &[(3, &[1, 3, 5]), (7, &[1, 3, 5]), (11, &[1, 3, 5])]),
    (1, &[(20, 8, 16), (33, 4, 8)], &[(3, &[1, 2])]),
    (2, &[(17, 3, 8), (5, 2, 2), (9, 1, 3)], &[(2, &[1, 3]), (4, &[2])]),
];

#[test]
fn decoders_of_every_kind_give_what_rten_gives() {
    for (layers, stages, blocks) in KINDS {
        let (graph, first, sound) = Writer::decoder(layers, stages, blocks);
        let weights = shape::decoder(&Graph::of(graph.clone()), &first, &sound).unwrap();
        assert_eq!(weights.stages.len(), stages.len());
        assert!(weights.stages.iter().all(|s| s.blocks.len() == blocks.len()));
        assert!(weights.stages[0].blocks[0].iter().all(|u| u.layers.len() == layers));
        let decoder = Decoder::new(&weights);
        for frames in [1, 2, 9, 31] {
            let z = noise(12 * frames, &mut StdRng::seed_from_u64(frames as u64));
            let expected = by_rten(&graph, &sound, &z);
            let found = streamed(&decoder, &z, &[frames], 1);
            assert_eq!((found.len(), expected.len()), (frames * decoder.hop(), frames * decoder.hop()));
            assert!(expected.iter().any(|x| x.abs() > 0.1), "there is something to compare");
            // Thirty layers of sums in another order; the last is bent by the hyperbolic tangent to -1..1.
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{layers} layers, {stages:?}, {frames} frames: off by {worst}");
        }
    }
}

#[test]
fn sound_does_not_depend_on_the_pieces_or_the_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (layers, stages, blocks) in KINDS {
        let (graph, first, sound) = Writer::decoder(layers, stages, blocks);
        let decoder = Decoder::new(&shape::decoder(&Graph::of(graph), &first, &sound).unwrap());
        let z = noise(12 * 40, &mut StdRng::seed_from_u64(5));
        let whole = streamed(&decoder, &z, &[40], 1);
        for pieces in [&[1][..], &[28, 3, 5], &[39, 1], &[2, 0, 0, 7]] {
            assert_eq!(streamed(&decoder, &z, pieces, 1), whole, "{pieces:?}");
        }
        assert_eq!(pool.install(|| streamed(&decoder, &z, &[13, 40], 3)), whole);
    }
}

#[test]
fn the_first_sound_needs_no_more_frames_than_said() {
    let (graph, first, sound) = Writer::decoder(1, KINDS[0].1, KINDS[0].2);
    let decoder = Decoder::new(&shape::decoder(&Graph::of(graph), &first, &sound).unwrap());
    // Of the kind of `en_US-joe-medium`: 45 moments ahead in each stage, and half a kernel at both ends.
    assert_eq!((decoder.hop(), decoder.needs(1)), (256, 1 + 8 + 3));
    let needed = decoder.needs(5);
    let row = vec![0.5; decoder.stride()];
    let enough = decoder.push(&mut decoder.begin(), &row.repeat(needed), false, 1);
    let less = decoder.push(&mut decoder.begin(), &row.repeat(needed - 1), false, 1);
    assert!(enough.len() >= 5 * 256 && less.len() < 5 * 256, "{} and {}", enough.len(), less.len());
}

#[test]
fn graphs_of_another_shape_are_refused_by_name() {
    type Change = fn(&mut GraphProto);
    let changes: [(Change, &str); 5] = [
        (|g| g.node.last_mut().unwrap().op_type = Some("Sigmoid".into()), "n"),
        (|g| g.node[1].attribute[0].f = Some(1.5), "n1 "),
        (|g| g.node[2].attribute[0].ints = vec![3], "n2: it does not keep the length"),
        (|g| g.initializer[0].data_type = Some(DataType::FLOAT16), "c0 is not of 32-bit numbers"),
        (|g| g.node[5].input[1] = "z".into(), "n5 is not what a decoder has there"),
    ];
    for (change, expected) in changes {
        let (mut graph, first, sound) = Writer::decoder(1, KINDS[2].1, KINDS[2].2);
        assert!(shape::decoder(&Graph::of(graph.clone()), &first, &sound).is_ok());
        change(&mut graph);
        let why = shape::decoder(&Graph::of(graph), &first, &sound).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
}
