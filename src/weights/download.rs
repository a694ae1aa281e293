//! One file over HTTP into its `.partial` file, going on from what is already there.
//!
//! Runs on the background runtime. Knows nothing of checksums: it delivers a file of the size asked for, or says why
//! not, and the caller decides by the sha256. What has arrived stays on disk whenever it may still be of use.

use super::WeightsError;
use super::error::Size;
use super::hub::Hub;
use super::progress::Reporter;
use super::pull::PullOptions;
use crate::engine::CancelToken;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Progress of this size makes a connection worth a fresh set of attempts.
const WORTHWHILE: u64 = 1 << 20;
/// However long a server asks to be left alone, no longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a source did not deliver.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// No connection could be made: nothing on that server is to be had now.
    Unreachable(String),
    /// This file is not to be had there.
    Refused(String),
    /// Not the source's fault: no source will do better.
    Stop(WeightsError),
}

/// What to do after an attempt that did not deliver.
pub(crate) enum Trouble {
    Give(FetchError),
    Retry { why: String, after: Option<Duration> },
}

impl From<WeightsError> for Trouble {
    fn from(error: WeightsError) -> Self {
        Trouble::Give(FetchError::Stop(error))
    }
}

/// A client with this room's timeouts and cryptography.
pub(crate) fn client(base: &Url, options: &PullOptions) -> Result<Client, WeightsError> {
    // Fails only when some other part of the program has chosen a provider before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("antiphon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout);
    // A server on this very machine is never behind a proxy.
    if base.host_str().is_some_and(|h| h == "localhost" || h == "[::1]" || h.starts_with("127.")) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|e| WeightsError::Tls(chain(&e)))
}

/// Waits for `work`, but no longer than until `cancel` is set.
pub(crate) async fn unless_cancelled<T>(
    cancel: &CancelToken,
    work: impl Future<Output = T>,
) -> Result<T, WeightsError> {
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        biased;
        () = cancelled => Err(WeightsError::Cancelled),
        value = work => Ok(value),
    }
}

/// One file to fetch.
pub(crate) struct Transfer<'a> {
    pub hub: &'a Hub,
    pub url: Url,
    pub partial: &'a Path,
    /// How many bytes the file must have.
    pub size: u64,
    pub options: &'a PullOptions,
}

impl Transfer<'_> {
    /// Fetches the file into `partial`, trying again after passing troubles.
    pub async fn run(&self, report: &mut Reporter<'_>, cancel: &CancelToken) -> Result<(), FetchError> {
        let at_first = length(self.partial).await;
        let mut attempts = 0;
        loop {
            let before = length(self.partial).await;
            let (why, after) = match self.attempt(at_first, report, cancel).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Give(error)) => return Err(error),
                Err(Trouble::Retry { why, after }) => (why, after),
            };
            attempts = if length(self.partial).await >= before + WORTHWHILE { 1 } else { attempts + 1 };
            pause(&self.url, attempts, why, after, self.options, cancel).await?;
        }
    }

    async fn attempt(&self, at_first: u64, report: &mut Reporter<'_>, cancel: &CancelToken) -> Result<(), Trouble> {
        let mut have = length(self.partial).await;
        if have > self.size {
            discard(self.partial).await?;
            have = 0;
        }
        report.at(have);
        if have == self.size {
            return Ok(());
        }
        let mut request = self.hub.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        // Before anything has come from it, a server that cannot be reached is one to give up at once.
        let response = ask(request, have <= at_first, self.options, cancel).await?;
        let have = self.place_of(&response, have).await?;
        report.at(have);
        self.receive(response, have, report, cancel).await
    }

    /// From which byte on the answer's body goes. What does not fit the answer is dropped.
    async fn place_of(&self, response: &Response, have: u64) -> Result<u64, Trouble> {
        match response.status() {
            StatusCode::OK => match response.content_length() {
                Some(offered) if offered != self.size => Err(self.wrong_size(offered)),
                _ => Ok(0), // the whole file, whether or not a range was asked for
            },
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((_, Some(total))) if total != self.size => Err(self.wrong_size(total)),
                Some((start, _)) if start == have => Ok(have),
                _ => {
                    discard(self.partial).await?;
                    Err(retry("it answered with another range than was asked for".to_owned()))
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                discard(self.partial).await?;
                Err(Trouble::Retry { why: "it has no such range (416)".to_owned(), after: Some(Duration::ZERO) })
            }
            status => Err(trouble_of(response, self.hub.has_token())
                .unwrap_or_else(|| refused(format!("it answers {status}, which is no file")))),
        }
    }

    /// Writes the answer's body into the partial file, from byte `have` on.
    async fn receive(
        &self,
        mut response: Response,
        mut have: u64,
        report: &mut Reporter<'_>,
        cancel: &CancelToken,
    ) -> Result<(), Trouble> {
        let (partial, size, patience) = (self.partial, self.size, self.options.stall_timeout);
        let write_error = || WeightsError::io("cannot write", partial);
        let mut options = File::options();
        if have > 0 {
            options.append(true)
        } else {
            options.write(true).truncate(true)
        };
        let mut file = options.create(true).open(partial).await.map_err(write_error())?;
        let outcome = loop {
            let chunk = tokio::time::timeout(patience, response.chunk());
            match unless_cancelled(cancel, chunk).await {
                Err(cancelled) => break Err(cancelled.into()),
                Ok(Err(_)) => break Err(retry(format!("it stopped sending for {patience:?}"))),
                Ok(Ok(Err(e))) => break Err(retry(chain(&e.without_url()))),
                Ok(Ok(Ok(None))) if have == size => break Ok(()),
                Ok(Ok(Ok(None))) => break Err(retry(format!("it sent only {} of {}", Size(have), Size(size)))),
                Ok(Ok(Ok(Some(bytes)))) => {
                    have += bytes.len() as u64;
                    if have > size {
                        drop(file);
                        discard(partial).await?;
                        return Err(refused(format!("it sends more than the {} expected", Size(size))));
                    }
                    file.write_all(&bytes).await.map_err(write_error())?;
                    report.at(have);
                }
            }
        };
        // Whatever came is flushed, so that the next attempt can go on from it.
        file.flush().await.map_err(write_error())?;
        outcome
    }

    fn wrong_size(&self, offered: u64) -> Trouble {
        refused(format!("its file has {offered} bytes where {} are expected", self.size))
    }
}

async fn length(path: &Path) -> u64 {
    tokio::fs::metadata(path).await.map_or(0, |m| m.len())
}

async fn discard(partial: &Path) -> Result<(), WeightsError> {
    match tokio::fs::remove_file(partial).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(WeightsError::io("cannot remove", partial)(e)),
        _ => Ok(()),
    }
}

fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Sends a request. `first`: a server that cannot be reached is one to give up.
pub(crate) async fn ask(
    request: RequestBuilder,
    first: bool,
    options: &PullOptions,
    cancel: &CancelToken,
) -> Result<Response, Trouble> {
    let patience = options.stall_timeout;
    match unless_cancelled(cancel, tokio::time::timeout(patience, request.send())).await? {
        Err(_) => Err(retry(format!("no answer within {patience:?}"))),
        Ok(Err(e)) if e.is_connect() && first => Err(Trouble::Give(FetchError::Unreachable(chain(&e.without_url())))),
        Ok(Err(e)) if e.is_redirect() || e.is_builder() => Err(refused(chain(&e.without_url()))),
        Ok(Err(e)) => Err(retry(chain(&e.without_url()))),
        Ok(Ok(response)) => Ok(response),
    }
}

/// Waits before another attempt, or gives up after `attempts` of them.
pub(crate) async fn pause(
    url: &Url,
    attempts: u32,
    why: String,
    after: Option<Duration>,
    options: &PullOptions,
    cancel: &CancelToken,
) -> Result<(), FetchError> {
    if attempts > options.retries {
        return Err(FetchError::Refused(format!("{why} ({attempts} attempts)")));
    }
    let wait = after.unwrap_or(options.back_off * 2u32.saturating_pow(attempts - 1)).min(LONGEST_WAIT);
    tracing::info!("{url}: {why}; trying again in {wait:?}");
    unless_cancelled(cancel, tokio::time::sleep(wait)).await.map_err(FetchError::Stop)
}

/// What an answer that is no success means, and what the user can do about it.
pub(crate) fn trouble_of(response: &Response, with_token: bool) -> Option<Trouble> {
    let status = response.status();
    let (remedy, passing) = match status {
        s if s.is_success() => return None,
        StatusCode::UNAUTHORIZED if with_token => (": it does not accept the token in HF_TOKEN; make a new one", false),
        StatusCode::UNAUTHORIZED => (": it wants to know who asks, or has no such repository; set HF_TOKEN", false),
        StatusCode::FORBIDDEN => {
            (": your account may not have this; agree to the terms on the repository's page, and set HF_TOKEN", false)
        }
        StatusCode::NOT_FOUND => (": it has no such file, or no such revision", false),
        StatusCode::TOO_MANY_REQUESTS => (": it has been asked too often; wait some minutes, or set HF_TOKEN", true),
        StatusCode::REQUEST_TIMEOUT => ("", true),
        s if s.is_server_error() => (": the trouble is on its side; try again later", true),
        _ => ("", false),
    };
    let why = format!("it answers {status}{remedy}");
    if !passing {
        return Some(refused(why));
    }
    let seconds = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    Some(Trouble::Retry { why, after: seconds.map(Duration::from_secs) })
}

pub(crate) fn retry(why: String) -> Trouble {
    Trouble::Retry { why, after: None }
}

pub(crate) fn refused(why: String) -> Trouble {
    Trouble::Give(FetchError::Refused(why))
}

/// An error and its causes in one line; the innermost cause is the one that tells.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    text.replace('\n', " ")
}
