//! The model hub: its address, its token, and what it says a repository holds.
//!
//! Runs on the background runtime. No address is built in but what the build was given (`ANTIPHON_HUB`); the user's
//! `HF_ENDPOINT` goes before it. The token goes to the hub and to nobody it sends us to (the client drops it when it is
//! sent to another host).
//!
//! Why not the `hf-hub` crate (1.0, well kept): it begins a broken file anew, compares no checksum, lays the files out
//! in a cache of links, and brings some 85 crates with it (a second transport, a second cryptography in C); of 17 GB
//! that matters. The layout it speaks is small: `/api/models/REPO/revision/REV?blobs=true` lists commit, sizes and
//! checksums, `/REPO/resolve/REV/PATH` gives a file.

use super::catalog::is_plain_path;
use super::download::{FetchError, Trouble, ask, client, pause, refused, retry, trouble_of};
use super::pull::PullOptions;
use crate::engine::CancelToken;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

/// A list of files larger than this is none.
const LONGEST_LISTING: usize = 16 << 20;

/// The hub's address, from the environment or the build; `None` when neither tells.
pub(crate) fn address() -> Option<String> {
    let set = std::env::var("HF_ENDPOINT").ok().filter(|v| !v.trim().is_empty());
    set.or_else(|| option_env!("ANTIPHON_HUB").map(str::to_owned))
}

/// The user's token for the hub.
pub(crate) fn token() -> Option<String> {
    std::env::var("HF_TOKEN").ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
}

/// A hub that can be asked. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    client: Client,
    base: String,
    token: Option<HeaderValue>,
}

/// A file as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub path: String,
    pub size: u64,
    pub checksum: Checksum,
}

/// What the hub says of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of large files.
    Sha256(String),
    /// Of small ones.
    GitBlob(String),
}

/// What a repository holds at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<Listed>,
}

impl Hub {
    /// # Errors
    /// The reason, as one clause.
    pub fn open(options: &PullOptions) -> Result<Hub, String> {
        let address = options.hub.as_ref().ok_or("its address is not known: set HF_ENDPOINT to it")?;
        let base = Url::parse(address).map_err(|e| format!("\"{address}\": {e}"))?;
        let client = client(&base, options).map_err(|e| e.to_string())?;
        let token = options.token.as_ref().map(|t| HeaderValue::from_str(&format!("Bearer {t}"))).transpose();
        let mut token = token.map_err(|_| "HF_TOKEN holds characters that no token has: set it anew")?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok(Hub { client, base: address.trim_end_matches('/').to_owned(), token })
    }

    /// Whether it is asked with a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A request for something of the hub's.
    pub fn get(&self, url: Url) -> RequestBuilder {
        let request = self.client.get(url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// The address of a file.
    pub fn file(&self, repo: &str, revision: &str, path: &str) -> Result<Url, FetchError> {
        self.url(&format!("{repo}/resolve/{revision}/{path}"))
    }

    fn url(&self, rest: &str) -> Result<Url, FetchError> {
        let address = format!("{}/{rest}", self.base);
        Url::parse(&address).map_err(|e| FetchError::Refused(format!("\"{address}\": {e}")))
    }

    /// What the repository holds at `revision`.
    pub async fn listing(
        &self,
        repo: &str,
        revision: &str,
        options: &PullOptions,
        cancel: &CancelToken,
    ) -> Result<Listing, FetchError> {
        let url = self.url(&format!("api/models/{repo}/revision/{revision}?blobs=true"))?;
        let mut attempts = 0;
        loop {
            let (why, after) = match self.list(&url, options, cancel).await {
                Ok(listing) => return Ok(listing),
                Err(Trouble::Give(error)) => return Err(error),
                Err(Trouble::Retry { why, after }) => (why, after),
            };
            attempts += 1;
            pause(&url, attempts, why, after, options, cancel).await?;
        }
    }

    async fn list(&self, url: &Url, options: &PullOptions, cancel: &CancelToken) -> Result<Listing, Trouble> {
        let mut response = ask(self.get(url.clone()), true, options, cancel).await?;
        if let Some(trouble) = trouble_of(&response, self.has_token()) {
            return Err(trouble);
        }
        let mut body = Vec::new();
        let whole = async {
            while let Some(bytes) = response.chunk().await? {
                body.extend_from_slice(&bytes);
                if body.len() > LONGEST_LISTING {
                    break;
                }
            }
            Ok::<(), reqwest::Error>(())
        };
        let patience = options.stall_timeout;
        match super::download::unless_cancelled(cancel, tokio::time::timeout(patience, whole)).await? {
            Err(_) => Err(retry(format!("its list of files did not come within {patience:?}"))),
            Ok(Err(e)) => Err(retry(e.without_url().to_string())),
            Ok(Ok(())) => read_listing(&body).map_err(refused),
        }
    }
}

/// Reads the answer to `/api/models/REPO/revision/REV?blobs=true`.
fn read_listing(body: &[u8]) -> Result<Listing, String> {
    #[derive(Deserialize)]
    struct Answer {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sibling {
        rfilename: String,
        size: Option<u64>,
        blob_id: Option<String>,
        lfs: Option<Large>,
    }
    #[derive(Deserialize)]
    struct Large {
        sha256: Option<String>,
        size: Option<u64>,
    }
    let odd = |what: &str| format!("its list of files is not as expected: {what}");
    if body.len() > LONGEST_LISTING {
        return Err(odd("it has no end"));
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|e| odd(&e.to_string()))?;
    if !is_hex(&answer.sha, 40) {
        return Err(odd("it names no commit"));
    }
    let listed = |s: Sibling| {
        let (sha256, size) = s.lfs.map_or((None, None), |l| (l.sha256, l.size));
        let checksum = match (sha256, s.blob_id) {
            (Some(sha256), _) if is_hex(&sha256, 64) => Checksum::Sha256(sha256),
            (None, Some(id)) if is_hex(&id, 40) => Checksum::GitBlob(id),
            _ => return None,
        };
        Some(Listed { size: size.or(s.size)?, path: s.rfilename, checksum })
    };
    // What has a name, a size or a checksum that is none cannot be fetched; if it is needed, that shows.
    let files = answer.siblings.into_iter().filter_map(listed).filter(|f| is_plain_path(&f.path)).collect();
    Ok(Listing { commit: answer.sha, files })
}

/// Whether a text is `digits` lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_and_what_could_do_harm_is_left_out() {
        let (commit, blob, sha256) = ("a".repeat(40), "b".repeat(40), "c".repeat(64));
        let body = serde_json::json!({ "sha": commit, "siblings": [
            { "rfilename": "config.json", "size": 7, "blobId": blob },
            { "rfilename": "x/model.bin", "size": 134, "blobId": blob, "lfs": { "sha256": sha256, "size": 9, "pointerSize": 134 } },
            { "rfilename": "../evil", "size": 7, "blobId": blob },
            { "rfilename": ".gitattributes", "size": 7, "blobId": blob },
            { "rfilename": "no-size", "blobId": blob },
            { "rfilename": "no-checksum", "size": 7 },
        ]});
        let listing = read_listing(body.to_string().as_bytes()).unwrap();
        assert_eq!(listing.commit, commit);
        let config = Listed { path: "config.json".into(), size: 7, checksum: Checksum::GitBlob(blob) };
        let model = Listed { path: "x/model.bin".into(), size: 9, checksum: Checksum::Sha256(sha256) };
        assert_eq!(listing.files, [config, model]);

        let wrong = serde_json::json!({ "sha": "main", "siblings": [] }).to_string();
        assert!(read_listing(wrong.as_bytes()).unwrap_err().contains("names no commit"));
        assert!(read_listing(b"<html>").unwrap_err().starts_with("its list of files is not as expected"));
    }
}
