//! The catalog of models and how they get here.
//!
//! Owns everything between a model's name and a verified file on this disk: [`catalog`] says what there is,
//! [`store`] where things live, [`pull`](mod@pull) fetches (from the hub, the package mirror or a folder), and
//! [`fit`] what this machine can hold. Nothing here runs on a real-time thread; long work runs on the background
//! runtime and reports through a callback.
//!
//! Invariants:
//! - A file under its final name was complete and had the catalog's sha256 when it got there; everything unfinished
//!   lives in the model's `.partial` folder.
//! - Only the sha256 decides what is accepted, whatever the source: the catalog's, or, for a checkpoint whose checksums
//!   the catalog does not know, the one the hub told at the first pull ([`Pin`]).
//! - Whoever changes a model's folder holds that model's lock.

pub mod catalog;
mod convert;
mod download;
mod error;
pub mod fit;
mod hub;
mod import;
mod manifest;
mod mirror;
mod pin;
mod progress;
pub mod pull;
pub mod store;
mod verify;

pub use catalog::{Catalog, FileEntry, Model, Role};
pub use convert::whisper_from_ctranslate2;
pub use error::{Size, WeightsError};
pub use pin::Pin;
pub use progress::{Progress, Source};
pub use pull::{PullOptions, pull, pull_blocking};
pub use store::{FileState, Installed, Store};
pub use verify::{sha256_of, verify};
