//! An ONNX file as a graph: which node makes a value, which use it, and the convolutions with their weights.
//!
//! Part of the network of a voice; read by `rten-onnx`, which reads it for `rten` too. Plain data, gone once the weights are
//! taken from it.

use super::conv::Weights;
use rten_onnx::onnx::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Why a voice is not of the kind that the kernels here are made for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unexpected(pub String);

/// The graph of a file.
pub struct Graph {
    proto: GraphProto,
    maker: HashMap<String, usize>,
    users: HashMap<String, Vec<usize>>,
    named: HashMap<String, usize>,
    constants: HashMap<String, usize>,
}

impl Graph {
    pub fn read(path: &Path) -> Result<Self, Unexpected> {
        let file = File::open(path).map_err(|e| Unexpected(format!("{}: {e}", path.display())))?;
        let model = ModelProto::parse_file(file).map_err(|e| Unexpected(format!("{}: {e}", path.display())))?;
        Ok(Self::of(model.graph.ok_or_else(|| Unexpected(format!("{} holds no graph", path.display())))?))
    }

    pub fn of(proto: GraphProto) -> Self {
        let (mut maker, mut users, mut named) = (HashMap::new(), HashMap::<_, Vec<_>>::new(), HashMap::new());
        for (i, node) in proto.node.iter().enumerate() {
            maker.extend(node.output.iter().map(|value| (value.clone(), i)));
            for value in &node.input {
                users.entry(value.clone()).or_default().push(i);
            }
            named.extend(node.name.clone().map(|name| (name, i)));
        }
        let name_of = |(i, tensor): (usize, &TensorProto)| Some((tensor.name.clone()?, i));
        let constants = proto.initializer.iter().enumerate().filter_map(name_of).collect();
        Graph { proto, maker, users, named, constants }
    }

    /// The node that makes a value.
    pub fn maker(&self, value: &str) -> Result<&NodeProto, Unexpected> {
        self.maker.get(value).map(|i| &self.proto.node[*i]).ok_or_else(|| Unexpected(format!("nothing makes {value}")))
    }

    /// The nodes that use a value.
    pub fn users(&self, value: &str) -> impl Iterator<Item = &NodeProto> {
        self.users.get(value).into_iter().flatten().map(|i| &self.proto.node[*i])
    }

    /// The one node that uses a value.
    pub fn user(&self, value: &str) -> Result<&NodeProto, Unexpected> {
        let mut users = self.users(value);
        match (users.next(), users.next()) {
            (Some(user), None) => Ok(user),
            _ => Err(Unexpected(format!("{value} is not used exactly once"))),
        }
    }

    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&NodeProto> {
        self.named.get(name).map(|i| &self.proto.node[*i])
    }

    /// A constant of one number.
    pub fn scalar(&self, value: &str) -> Option<f32> {
        match self.numbers(value).ok()?.1[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// The shape and the numbers of a constant.
    fn numbers(&self, value: &str) -> Result<(Vec<usize>, Vec<f32>), Unexpected> {
        let constant = self.constants.get(value).map(|i| &self.proto.initializer[*i]);
        let tensor = constant.ok_or_else(|| Unexpected(format!("{value} is not a constant")))?;
        if tensor.data_type != Some(DataType::FLOAT) {
            return Err(Unexpected(format!("{value} is not of 32-bit numbers")));
        }
        let numbers = match &tensor.raw_data {
            Some(bytes) => {
                let bytes = bytes.borrow();
                bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
            }
            None => tensor.float_data.clone(),
        };
        let shape: Vec<usize> = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
        if shape.iter().product::<usize>() != numbers.len() {
            return Err(Unexpected(format!("{value} holds {} numbers for {shape:?}", numbers.len())));
        }
        Ok((shape, numbers))
    }

    /// The weights of a one-dimensional convolution, transposed or not, that keeps the length of its input (times the
    /// stride).
    pub fn convolution(&self, node: &NodeProto) -> Result<Weights, Unexpected> {
        let name = node.name.as_deref().unwrap_or("a convolution");
        let other = |what: &str| Unexpected(format!("{name}: {what}"));
        let transposed = match node.op_type.as_deref() {
            Some("Conv") => false,
            Some("ConvTranspose") => true,
            _ => return Err(other("not a convolution")),
        };
        let weight = node.input.get(1).ok_or_else(|| other("no weights"))?;
        let (shape, values) = self.numbers(weight)?;
        let [first, second, taps] = shape[..] else { return Err(other("not one-dimensional")) };
        let (outputs, inputs) = if transposed { (second, first) } else { (first, second) };
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(bias) => self.numbers(bias)?.1,
            None => vec![0.0; outputs],
        };
        let number = |name, default| match attribute(node, name).map(|a| (&a.ints[..], a.i)) {
            None => Ok(default),
            Some((&[one], _) | (&[], Some(one))) => usize::try_from(one).map_err(|_| other(name)),
            Some(_) => Err(other(name)),
        };
        let pads = match attribute(node, "pads").map(|a| &a.ints[..]) {
            None => [0, 0],
            Some([left, right]) => [*left, *right].map(|p| usize::try_from(p).unwrap_or(usize::MAX)),
            Some(_) => return Err(other("pads")),
        };
        let (dilation, stride) = (number("dilations", 1)?, number("strides", 1)?);
        let automatic = attribute(node, "auto_pad").and_then(|a| a.s.as_deref()).is_some_and(|s| s != "NOTSET");
        let plain = number("group", 1)? == 1 && number("output_padding", 0)? == 0 && !automatic;
        let reach = taps.saturating_sub(1) * dilation;
        let excess = if transposed { reach.checked_sub(stride.wrapping_sub(1)) } else { Some(reach) };
        let same = excess == pads[0].checked_add(pads[1]) && (transposed || stride == 1);
        if !plain || !same || [taps, inputs, outputs, dilation, stride].contains(&0) || bias.len() != outputs {
            return Err(other("it does not keep the length of what goes in, or is grouped"));
        }
        if transposed && dilation != 1 {
            return Err(other("transposed and dilated"));
        }
        Ok(Weights { values, bias, outputs, inputs, taps, dilation, stride, pads })
    }
}

/// An attribute of a node.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}
