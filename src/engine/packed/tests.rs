use super::*;
use candle_core::Device;

/// Numbers without a pattern, -1 to 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

const KINDS: [GgmlDType; 2] = [GgmlDType::Q4K, GgmlDType::Q6K];

fn weight(kind: GgmlDType, rows: usize, width: usize) -> QTensor {
    // Rows of different sizes and with an offset, so that scales and minima matter.
    let values =
        noise(rows * width, 7).into_iter().enumerate().map(|(i, v)| v * (1.0 + (i / width) as f32 / 9.0) + 0.3);
    let dense = Tensor::from_vec(values.collect::<Vec<_>>(), (rows, width), &Device::Cpu).unwrap();
    QTensor::quantize(&dense, kind).unwrap()
}

/// The product in f32 with the weights as `candle` unpacks them.
fn exact(weight: &QTensor, x: &Tensor) -> Vec<Vec<f32>> {
    x.matmul(&weight.dequantize(&Device::Cpu).unwrap().t().unwrap()).unwrap().to_vec2().unwrap()
}

fn largest(rows: &[Vec<f32>]) -> f32 {
    rows.iter().flatten().fold(0.0, |most, v| most.max(v.abs()))
}

/// Inputs that 8 bits hold exactly leave nothing to round: what remains is the order of the sums.
#[test]
fn products_of_whole_numbers_are_those_of_the_unpacked_weights() {
    if !supported() {
        return assert!(Packed::new(&weight(GgmlDType::Q4K, 16, 256)).unwrap().is_none());
    }
    for (kind, (rows, width)) in KINDS.into_iter().flat_map(|k| [(16, 256), (48, 768), (32, 1536)].map(|s| (k, s))) {
        let weight = weight(kind, rows, width);
        let packed = Packed::new(&weight).unwrap().unwrap();
        assert_eq!((packed.rows(), packed.width()), (rows, width));
        for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 20] {
            let mut whole: Vec<f32> = noise(n * width, n as u32).iter().map(|v| (v * 127.0).round()).collect();
            // The largest of every block, so that a step is exactly one.
            whole.iter_mut().step_by(BLOCK).for_each(|v| *v = -127.0);
            let x = Tensor::from_vec(whole, (n, width), &Device::Cpu).unwrap();
            let (expected, found) = (exact(&weight, &x), packed.forward(&x).unwrap().to_vec2::<f32>().unwrap());
            let size = largest(&expected);
            for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
                assert!(
                    (expected - found).abs() < 2e-6 * size,
                    "{kind:?} {rows}x{width}, {n} inputs: {found} for {expected}"
                );
            }
        }
    }
}

/// Any inputs: the rounding of the inputs to 8 bits is all that is lost.
#[test]
fn products_of_any_numbers_differ_by_the_rounding_of_the_inputs() {
    for (kind, n) in KINDS.into_iter().flat_map(|kind| [(kind, 1), (kind, 11)]) {
        let weight = weight(kind, 64, 1024);
        let Some(packed) = Packed::new(&weight).unwrap() else { return assert!(!supported()) };
        let x = Tensor::from_vec(noise(n * 1024, 99), (n, 1024), &Device::Cpu).unwrap();
        let (expected, found) = (exact(&weight, &x), packed.forward(&x).unwrap().to_vec2::<f32>().unwrap());
        let of = |rows: &[Vec<f32>]| rows.iter().flatten().map(|v| f64::from(v * v)).sum::<f64>();
        let apart: f64 =
            expected.iter().flatten().zip(found.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let relative = (apart / of(&expected)).sqrt();
        assert!(relative > 0.0 && relative < 0.01, "{kind:?}: {relative}");
    }
}

/// A block that is all zeros has no largest value to divide by.
#[test]
fn silence_gives_zeros() {
    for kind in KINDS {
        let Some(packed) = Packed::new(&weight(kind, 16, 512)).unwrap() else { return assert!(!supported()) };
        let found = packed.forward(&Tensor::zeros((2, 512), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), vec![vec![0.0; 16]; 2]);
    }
}

/// What the kernel is not for is left to `candle`.
#[test]
fn other_shapes_and_formats_are_refused() {
    let eight =
        QTensor::quantize(&Tensor::zeros((16, 256), candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::Q8_0);
    assert!(Packed::new(&eight.unwrap()).unwrap().is_none());
    assert!(Packed::new(&weight(GgmlDType::Q4K, 24, 256)).unwrap().is_none());
}
