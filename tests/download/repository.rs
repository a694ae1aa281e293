//! A repository of a hub, in the hub's layout: what its list of files says, and its files.

use crate::server::Exchange;
use crate::{body, sha256};
use safetensors::SafeTensors;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Files are kept as large data, with a sha256 in the list, if their name ends like this.
const LARGE: [&str; 3] = [".safetensors", ".pt", ".gguf"];

#[derive(Clone)]
pub struct Repository {
    pub commit: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    fn new(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Repository {
        Repository { commit: "1".repeat(40), files: files.into_iter().map(|(p, b)| (p.to_owned(), b)).collect() }
    }

    /// Two shards and their index, a configuration, and a file of no use.
    pub fn small() -> Repository {
        let map = json!({ "weight_map": { "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors" } });
        Repository::new([
            ("config.json", b"{}".to_vec()),
            ("model.safetensors.index.json", map.to_string().into_bytes()),
            ("model-00001-of-00002.safetensors", body(90_000)),
            ("model-00002-of-00002.safetensors", body(150_000)),
            ("assets/Vocos.pt", body(30_000)),
            ("assets/demo.wav", body(1000)),
            ("README.md", b"# M".to_vec()),
        ])
    }

    /// The tiny omni checkpoint as the full one is laid out, its weights in two shards.
    pub fn tiny_omni() -> Repository {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/omni-tiny");
        let read = |path: &str| std::fs::read(tiny.join(path)).unwrap();
        let weights = read("model.safetensors");
        let mut tensors = SafeTensors::deserialize(&weights).unwrap().tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let (first, second) = tensors.split_at(tensors.len() / 2);
        let mut map = BTreeMap::new();
        let mut shard = |tensors: &[(String, _)], name: &'static str| {
            map.extend(tensors.iter().map(|(tensor, _)| (tensor.clone(), name)));
        };
        shard(first, "model-00001-of-00002.safetensors");
        shard(second, "model-00002-of-00002.safetensors");
        let write = |tensors: &[(String, _)]| safetensors::serialize(tensors.to_vec(), None).unwrap();
        let mut repository = Repository::small();
        repository.files.extend(
            [
                ("config.json", read("config.json")),
                ("tokenizer.json", read("llm_tokenizer/tokenizer.json")),
                ("assets/Vocos.pt", read("Vocos.pt")),
                ("assets/chattts_tokenizer/tokenizer.json", read("chattts_tokenizer/tokenizer.json")),
                ("model-00001-of-00002.safetensors", write(first)),
                ("model-00002-of-00002.safetensors", write(second)),
                ("model.safetensors.index.json", json!({ "weight_map": map }).to_string().into_bytes()),
            ]
            .map(|(path, bytes)| (path.to_owned(), bytes)),
        );
        repository
    }

    /// The answer to `/api/models/REPO/revision/REV?blobs=true`.
    pub fn listing(&self) -> serde_json::Value {
        let siblings = self.files.iter().map(|(path, bytes)| {
            if LARGE.iter().any(|end| path.ends_with(end)) {
                let lfs = json!({ "sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
                json!({ "rfilename": path, "size": bytes.len(), "blobId": "f".repeat(40), "lfs": lfs })
            } else {
                json!({ "rfilename": path, "size": bytes.len(), "blobId": git_blob_id(bytes) })
            }
        });
        json!({ "id": "owner/repo", "sha": self.commit, "siblings": siblings.collect::<Vec<_>>() })
    }

    /// The path that a request for a file of the pinned commit names.
    pub fn path_asked<'x>(&self, x: &'x Exchange) -> Option<&'x str> {
        Some(x.request.path.split_once(&format!("/resolve/{}/", self.commit))?.1)
    }

    /// Answers as a good hub does.
    pub fn answer(&self, x: &mut Exchange) {
        if x.request.path.contains("/api/models/") {
            return x.whole(self.listing().to_string().as_bytes());
        }
        match self.path_asked(x).and_then(|path| self.files.get(path)) {
            Some(bytes) => x.proper(bytes),
            None => x.status("404 Not Found"),
        }
    }
}

/// The id git gives a file: SHA-1 of `blob SIZE`, NUL, bytes.
fn git_blob_id(bytes: &[u8]) -> String {
    use sha1::Digest;
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
