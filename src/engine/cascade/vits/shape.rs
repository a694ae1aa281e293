//! The decoder and the flow of a voice, found in its graph: how many stages, blocks and layers, of which kernels, strides and
//! dilations, with which weights. Voices of low, medium and high quality differ in all of it.
//!
//! Part of the network of a voice. The decoder is followed from value to value; the flow, which exporters write down in
//! more than one way, is found by the names that its layers have in Piper's source (rhasspy/piper, `vits/models.py`), and
//! what was found is tried against the graph before it is used ([`super::super::piper`]).

use super::conv::Weights;
use super::decoder::DecoderWeights;
use super::flow::CouplingWeights;
use super::graph::{Graph, Unexpected, attribute};
use super::stage::{StageWeights, UnitWeights};
use rten_onnx::onnx::NodeProto;

/// ONNX's own slope of a leaky rectifier.
const SLOPE: f32 = 0.01;

/// The decoder that makes `output` of what the convolution that makes `first` is given.
pub fn decoder(graph: &Graph, first: &str, output: &str) -> Result<DecoderWeights, Unexpected> {
    let pre = graph.convolution(graph.maker(first)?)?;
    let (slope, mut active) = rectified(graph.user(first)?)?;
    let (mut stages, mut width) = (Vec::new(), pre.outputs);
    loop {
        let node = graph.user(active)?;
        if !is(node, "ConvTranspose") {
            break;
        }
        let (stage, next) = stage(graph, node)?;
        fits(node, stage.up.inputs == width)?;
        width = stage.up.outputs;
        stages.push(stage);
        active = next;
    }
    let node = graph.user(active)?;
    let post = graph.convolution(node)?;
    fits(node, post.outputs == 1 && post.inputs == width && post.stride == 1 && !stages.is_empty())?;
    let tanh = graph.user(made(node)?)?;
    fits(tanh, is(tanh, "Tanh"))?;
    let mut end = made(tanh)?;
    if end != output {
        let node = graph.user(end)?;
        fits(node, is(node, "Unsqueeze"))?;
        end = made(node)?;
    }
    if end != output {
        return Err(Unexpected(format!("the decoder ends in {end} instead of {output}")));
    }
    Ok(DecoderWeights { pre, slope, stages, post })
}

/// A stage that begins with `node`, and the value it ends in.
fn stage<'a>(graph: &'a Graph, node: &'a NodeProto) -> Result<(StageWeights, &'a str), Unexpected> {
    let up = graph.convolution(node)?;
    let start = made(node)?;
    let mut blocks = Vec::new();
    // Each block that is found, and what it or the sum of several gives.
    let mut sums: Vec<(&str, Vec<usize>)> = Vec::new();
    for node in graph.users(start).filter(|n| is(n, "LeakyRelu")) {
        let (slope, active) = rectified(node)?;
        for convolution in graph.users(active) {
            let (block, end) = block(graph, start, slope, convolution, up.outputs)?;
            sums.push((end, vec![blocks.len()]));
            blocks.push(block);
        }
    }
    let slopes = blocks.iter().map(|b: &Vec<UnitWeights>| b[0].layers[0].0);
    fits(node, !blocks.is_empty() && slopes.clone().zip(slopes.skip(1)).all(|(a, b)| a == b))?;
    while sums.len() > 1 {
        let pair = |i: usize, j: usize| {
            let both = |n: &&NodeProto| is(n, "Add") && n.input.iter().any(|v| v == sums[j].0);
            graph.user(sums[i].0).ok().filter(|n| i != j && both(n)).map(|node| (i, j, node))
        };
        let mut all = (0..sums.len()).flat_map(|i| (0..sums.len()).map(move |j| (i, j)));
        let Some((i, j, add)) = all.find_map(|(i, j)| pair(i, j)) else {
            return Err(Unexpected(format!("the blocks behind {start} are not added up")));
        };
        let mut order = sums[i].1.clone();
        order.extend(&sums[j].1);
        sums.retain(|(_, of)| !order.contains(&of[0]));
        sums.push((made(add)?, order));
    }
    let (mut value, order) = sums.remove(0);
    let mut scale = 1.0;
    let next = graph.user(value)?;
    if is(next, "Div") || is(next, "Mul") {
        let by = next.input.iter().filter(|v| *v != value).find_map(|v| graph.scalar(v));
        let by = by.filter(|_| next.input.first().is_some_and(|v| v == value) || is(next, "Mul"));
        let by = by.ok_or_else(|| Unexpected(format!("{value} is scaled by what is no constant")))?;
        scale = if is(next, "Div") { 1.0 / by } else { by };
        value = made(next)?;
    }
    let (slope, active) = rectified(graph.user(value)?)?;
    let mut blocks: Vec<Option<_>> = blocks.into_iter().map(Some).collect();
    let blocks = order.into_iter().filter_map(|i| blocks[i].take()).collect();
    Ok((StageWeights { up, blocks, scale, slope }, active))
}

/// A block whose first convolution, of `start` rectified with `slope`, is `node`; and the value it ends in.
fn block<'a>(
    graph: &'a Graph,
    start: &'a str,
    slope: f32,
    node: &'a NodeProto,
    width: usize,
) -> Result<(Vec<UnitWeights>, &'a str), Unexpected> {
    let layer = |slope: f32, node: &NodeProto| {
        let weights = graph.convolution(node)?;
        fits(node, is(node, "Conv") && weights.inputs == width && weights.outputs == width)?;
        Ok::<(f32, Weights), Unexpected>((slope, weights))
    };
    let (mut units, mut layers) = (Vec::new(), vec![layer(slope, node)?]);
    let (mut from, mut value) = (start, made(node)?);
    loop {
        let user = graph.user(value)?;
        if is(user, "LeakyRelu") {
            let (slope, active) = rectified(user)?;
            let node = graph.user(active)?;
            layers.push(layer(slope, node)?);
            value = made(node)?;
            continue;
        }
        fits(user, is(user, "Add") && user.input.iter().any(|v| v == from))?;
        units.push(UnitWeights { layers: std::mem::take(&mut layers) });
        from = made(user)?;
        // A unit that follows reads it twice: rectified, and to add to it.
        let mut users: Vec<&NodeProto> = graph.users(from).collect();
        users.sort_by_key(|n| !is(n, "LeakyRelu"));
        let [first, second] = users[..] else { return Ok((units, from)) };
        fits(first, is(first, "LeakyRelu") && is(second, "Add"))?;
        let (slope, active) = rectified(first)?;
        let node = graph.user(active)?;
        layers.push(layer(slope, node)?);
        value = made(node)?;
    }
}

/// The couplings of the flow, in the order in which they run when it is inverted.
pub fn flow(graph: &Graph) -> Result<Vec<CouplingWeights>, Unexpected> {
    // The couplings have even numbers; between them the channels are turned round.
    let of = |i: usize| graph.node(&format!("/flow/flows.{i}/pre/Conv")).map(|pre| (i, pre));
    let found: Vec<_> = (0..).step_by(2).map_while(of).collect();
    let coupling = |(i, pre): &(usize, &NodeProto)| {
        let part = |name: String| graph.node(&format!("/flow/flows.{i}/{name}/Conv"));
        let layer = |l: usize| Some((part(format!("enc/in_layers.{l}"))?, part(format!("enc/res_skip_layers.{l}"))?));
        let layers = (0..).map_while(layer);
        let post = part("post".into()).ok_or_else(|| Unexpected(format!("coupling {i} of the flow has no end")))?;
        Ok(CouplingWeights {
            pre: graph.convolution(pre)?,
            layers: layers
                .map(|(wide, mix)| Ok((graph.convolution(wide)?, graph.convolution(mix)?)))
                .collect::<Result<_, _>>()?,
            post: graph.convolution(post)?,
        })
    };
    found.iter().rev().map(coupling).collect()
}

fn is(node: &NodeProto, kind: &str) -> bool {
    node.op_type.as_deref() == Some(kind)
}

fn made(node: &NodeProto) -> Result<&str, Unexpected> {
    node.output.first().map(String::as_str).ok_or_else(|| Unexpected("a node makes nothing".into()))
}

fn fits(node: &NodeProto, does: bool) -> Result<(), Unexpected> {
    let name = node.name.as_deref().unwrap_or("a node");
    if does { Ok(()) } else { Err(Unexpected(format!("{name} is not what a decoder has there"))) }
}

/// The slope of a leaky rectifier, and what it makes.
fn rectified(node: &NodeProto) -> Result<(f32, &str), Unexpected> {
    let slope = attribute(node, "alpha").and_then(|a| a.f).unwrap_or(SLOPE);
    fits(node, is(node, "LeakyRelu") && (0.0..=1.0).contains(&slope))?;
    Ok((slope, made(node)?))
}
