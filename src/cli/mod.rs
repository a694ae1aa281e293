//! The command line's doors, one file per command. The only room, beside the binary, that names `clap`.

pub mod doctor;
pub mod models;
