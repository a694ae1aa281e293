//! Checkpoints with random numbers in them: real names, real shapes, of any size.
//!
//! For tests and for measuring speed where the real weights are not at hand. This file: sizes, names and shapes, and the
//! configuration; [`mod@write`]: the folder itself, streamed; [`tokenizers`]: vocabularies that load, with the special tokens
//! of the released ones. Owns nothing.
//! Invariant: [`tensors`] of the full size are exactly those of the released checkpoint's speech path.

pub mod tokenizers;
pub mod write;

use std::collections::BTreeMap;
pub use write::Recipe;

/// The sizes of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub vocab: usize,
    pub llm_hidden: usize,
    pub llm_layers: usize,
    pub llm_heads: usize,
    pub llm_kv_heads: usize,
    pub llm_ffn: usize,
    pub audio_width: usize,
    pub audio_layers: usize,
    pub audio_heads: usize,
    pub tts_text: usize,
    pub tts_hidden: usize,
    pub tts_layers: usize,
    pub tts_heads: usize,
    pub tts_ffn: usize,
    /// Rows of the embedding table that nothing reads.
    pub dead_rows: usize,
    pub dvae_bottleneck: usize,
    pub dvae_hidden: usize,
    pub dvae_layers: usize,
    pub vocos_hidden: usize,
    pub vocos_ffn: usize,
    pub vocos_layers: usize,
}

impl Sizes {
    /// The released model's.
    pub const FULL: Self = Self {
        vocab: 151_700,
        llm_hidden: 3584,
        llm_layers: 28,
        llm_heads: 28,
        llm_kv_heads: 4,
        llm_ffn: 18_944,
        audio_width: 1024,
        audio_layers: 24,
        audio_heads: 16,
        tts_text: 21_178,
        tts_hidden: 768,
        tts_layers: 20,
        tts_heads: 12,
        tts_ffn: 3072,
        dead_rows: 32_000,
        dvae_bottleneck: 128,
        dvae_hidden: 256,
        dvae_layers: 12,
        vocos_hidden: 512,
        vocos_ffn: 1536,
        vocos_layers: 8,
    };

    /// Small, with widths that every quantisation takes, for a language vocabulary of `vocab` and a speech vocabulary of
    /// `tts_text`.
    pub fn tiny(vocab: usize, tts_text: usize) -> Self {
        Self {
            vocab,
            llm_hidden: 256,
            llm_layers: 2,
            llm_heads: 4,
            llm_kv_heads: 2,
            llm_ffn: 512,
            audio_width: 64,
            audio_layers: 2,
            audio_heads: 4,
            tts_text,
            tts_hidden: 256,
            tts_layers: 2,
            tts_heads: 4,
            tts_ffn: 512,
            dead_rows: 8,
            dvae_bottleneck: 16,
            dvae_hidden: 32,
            dvae_layers: 2,
            vocos_hidden: 32,
            vocos_ffn: 64,
            vocos_layers: 2,
        }
    }
}

const MEL_BINS: usize = 100;
const FEATURES: usize = 512;
const CODES: usize = 626;
const CODEBOOKS: usize = 4;
const N_FFT: usize = 1024;

/// Names and shapes, in the order of their names.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The tensors of the model's checkpoint, without vision.
pub fn tensors(s: &Sizes) -> Shapes {
    let mut all = Shapes::new();
    let mut put = |name: String, shape: &[usize]| {
        all.insert(name, shape.to_vec());
    };
    let head = s.llm_hidden / s.llm_heads;
    let llm = Stack { hidden: s.llm_hidden, kv: head * s.llm_kv_heads, ffn: s.llm_ffn, biases: true };
    put("llm.model.embed_tokens.weight".into(), &[s.vocab, s.llm_hidden]);
    put("llm.lm_head.weight".into(), &[s.vocab, s.llm_hidden]);
    llm.put("llm.model.", s.llm_layers, &mut put);

    let w = s.audio_width;
    put("apm.conv1.weight".into(), &[w, 80, 3]);
    put("apm.conv1.bias".into(), &[w]);
    put("apm.conv2.weight".into(), &[w, w, 3]);
    put("apm.conv2.bias".into(), &[w]);
    put("apm.embed_positions.weight".into(), &[1500, w]);
    pair("apm.layer_norm", &[w], &mut put);
    for i in 0..s.audio_layers {
        let layer = format!("apm.layers.{i}.");
        for name in ["q_proj", "v_proj", "out_proj"] {
            pair(&format!("{layer}self_attn.{name}"), &[w, w], &mut put);
        }
        put(format!("{layer}self_attn.k_proj.weight"), &[w, w]);
        pair(&format!("{layer}self_attn_layer_norm"), &[w], &mut put);
        pair(&format!("{layer}final_layer_norm"), &[w], &mut put);
        pair(&format!("{layer}fc1"), &[4 * w, w], &mut put);
        pair(&format!("{layer}fc2"), &[w, 4 * w], &mut put);
    }
    pair("audio_projection_layer.linear1", &[s.llm_hidden, w], &mut put);
    pair("audio_projection_layer.linear2", &[s.llm_hidden, s.llm_hidden], &mut put);

    let h = s.tts_hidden;
    pair("tts.projector.linear1", &[h, s.llm_hidden], &mut put);
    pair("tts.projector.linear2", &[h, h], &mut put);
    put("tts.emb_text.weight".into(), &[s.tts_text, h]);
    for q in 0..CODEBOOKS {
        put(format!("tts.emb_code.{q}.weight"), &[CODES, h]);
        put(format!("tts.head_code.{q}.parametrizations.weight.original0"), &[CODES, 1]);
        put(format!("tts.head_code.{q}.parametrizations.weight.original1"), &[CODES, h]);
    }
    put("tts.model.embed_tokens.weight".into(), &[s.dead_rows, h]);
    Stack { hidden: h, kv: h, ffn: s.tts_ffn, biases: false }.put("tts.model.", s.tts_layers, &mut put);

    put("tts.dvae.coef".into(), &[1, MEL_BINS, 1]);
    pair("tts.dvae.downsample_conv.0", &[FEATURES, MEL_BINS, 3], &mut put);
    pair("tts.dvae.downsample_conv.2", &[FEATURES, FEATURES, 4], &mut put);
    for (part, output) in [("encoder", 2 * FEATURES), ("decoder", FEATURES)] {
        let part = format!("tts.dvae.{part}.");
        pair(&format!("{part}conv_in.0"), &[s.dvae_bottleneck, FEATURES, 3], &mut put);
        pair(&format!("{part}conv_in.2"), &[s.dvae_hidden, s.dvae_bottleneck, 3], &mut put);
        for i in 0..s.dvae_layers {
            convnext(&format!("{part}decoder_block.{i}."), "coef", s.dvae_hidden, 4 * s.dvae_hidden, &mut put);
        }
        put(format!("{part}conv_out.weight"), &[output, s.dvae_hidden, 1]);
    }
    put("tts.dvae.out_conv.weight".into(), &[MEL_BINS, FEATURES, 3]);
    for group in 0..2 {
        let quantiser = format!("tts.dvae.vq_layer.quantizer.rvqs.{group}.");
        pair(&format!("{quantiser}project_in"), &[4, FEATURES], &mut put);
        pair(&format!("{quantiser}project_out"), &[FEATURES, 4], &mut put);
    }
    all
}

/// The tensors of the vocoder's file.
pub fn vocoder_tensors(s: &Sizes) -> Shapes {
    let mut all = Shapes::new();
    let mut put = |name: String, shape: &[usize]| {
        all.insert(name, shape.to_vec());
    };
    put("feature_extractor.mel_spec.spectrogram.window".into(), &[N_FFT]);
    put("feature_extractor.mel_spec.mel_scale.fb".into(), &[N_FFT / 2 + 1, MEL_BINS]);
    pair("backbone.embed", &[s.vocos_hidden, MEL_BINS, 7], &mut put);
    pair("backbone.norm", &[s.vocos_hidden], &mut put);
    for i in 0..s.vocos_layers {
        convnext(&format!("backbone.convnext.{i}."), "gamma", s.vocos_hidden, s.vocos_ffn, &mut put);
    }
    pair("backbone.final_layer_norm", &[s.vocos_hidden], &mut put);
    pair("head.out", &[N_FFT + 2, s.vocos_hidden], &mut put);
    put("head.istft.window".into(), &[N_FFT]);
    all
}

/// A decoder stack.
struct Stack {
    hidden: usize,
    kv: usize,
    ffn: usize,
    biases: bool,
}

impl Stack {
    fn put(&self, prefix: &str, layers: usize, put: &mut impl FnMut(String, &[usize])) {
        let (h, kv, ffn) = (self.hidden, self.kv, self.ffn);
        put(format!("{prefix}norm.weight"), &[h]);
        for i in 0..layers {
            let layer = format!("{prefix}layers.{i}.");
            for (name, rows) in [("q", h), ("k", kv), ("v", kv)] {
                put(format!("{layer}self_attn.{name}_proj.weight"), &[rows, h]);
                if self.biases {
                    put(format!("{layer}self_attn.{name}_proj.bias"), &[rows]);
                }
            }
            put(format!("{layer}self_attn.o_proj.weight"), &[h, h]);
            put(format!("{layer}mlp.gate_proj.weight"), &[ffn, h]);
            put(format!("{layer}mlp.up_proj.weight"), &[ffn, h]);
            put(format!("{layer}mlp.down_proj.weight"), &[h, ffn]);
            put(format!("{layer}input_layernorm.weight"), &[h]);
            put(format!("{layer}post_attention_layernorm.weight"), &[h]);
        }
    }
}

/// `{name}.weight` and `{name}.bias`.
fn pair(name: &str, shape: &[usize], put: &mut impl FnMut(String, &[usize])) {
    put(format!("{name}.weight"), shape);
    put(format!("{name}.bias"), &shape[..1]);
}

fn convnext(name: &str, scale: &str, width: usize, inner: usize, put: &mut impl FnMut(String, &[usize])) {
    put(format!("{name}{scale}"), &[width]);
    pair(&format!("{name}dwconv"), &[width, 1, 7], put);
    pair(&format!("{name}norm"), &[width], put);
    pair(&format!("{name}pwconv1"), &[inner, width], put);
    pair(&format!("{name}pwconv2"), &[width, inner], put);
}

/// The `config.json` of a checkpoint whose speech tokenizer has `[spk_emb]`, `[Ptts]` and `[Etts]` at `ids`.
pub fn config(s: &Sizes, ids: [u32; 3]) -> String {
    let [speaker, audio_bos, text_eos] = ids;
    serde_json::json!({
        "model_type": "minicpmo",
        "vocab_size": s.vocab,
        "hidden_size": s.llm_hidden,
        "intermediate_size": s.llm_ffn,
        "num_hidden_layers": s.llm_layers,
        "num_attention_heads": s.llm_heads,
        "num_key_value_heads": s.llm_kv_heads,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": false,
        "audio_pool_step": 2,
        "audio_chunk_length": 1.0,
        "audio_config": {
            "d_model": s.audio_width,
            "encoder_layers": s.audio_layers,
            "encoder_attention_heads": s.audio_heads,
            "encoder_ffn_dim": 4 * s.audio_width,
            "max_source_positions": 1500,
        },
        "tts_config": {
            "model_type": "conditional_chattts",
            "llm_dim": s.llm_hidden,
            "hidden_size": s.tts_hidden,
            "intermediate_size": s.tts_ffn,
            "num_attention_heads": s.tts_heads,
            "num_hidden_layers": s.tts_layers,
            "num_text_tokens": s.tts_text,
            "spk_emb_token_id": speaker,
            "audio_bos_token_id": audio_bos,
            "text_eos_token_id": text_eos,
        },
    })
    .to_string()
}
