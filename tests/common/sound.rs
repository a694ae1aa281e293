//! Sound for tests: the spoken fixtures and simple signals.

/// A fixture of `tests/fixtures/speech`: 16 kHz mono, 16 bit.
pub fn speech(name: &str) -> Vec<f32> {
    let path = format!("{}/tests/fixtures/speech/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    let mut reader = hound::WavReader::open(&path).map_err(|e| format!("{path}: {e}")).expect("the fixture is here");
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (16_000, 1), "{path}");
    reader.samples::<i16>().map(|s| f32::from(s.expect("a whole file")) / 32_768.0).collect()
}

/// White noise of the given root mean square, the same every time.
pub fn noise(samples: usize, rms: f32, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let uniform = move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    // A uniform distribution over -1..1 has the root mean square 1/sqrt(3).
    (0..samples).map(uniform).map(|v| v * rms * 3.0_f32.sqrt()).collect()
}
