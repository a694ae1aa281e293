//! Snapshots of a repository: pinned at the first pull, held to afterwards, and every way in which that can fail.

use crate::repository::Repository;
use crate::server::{Exchange, Server};
use crate::{Bench, nobody, sha256};
use antiphon::engine::CancelToken;
use antiphon::weights::{FileState, WeightsError, verify};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const SECOND: &str = "model-00002-of-00002.safetensors";
const SNAPSHOT: &str = r#"
[model.snapshot]
repo = "owner/repo"
revision = "main"
about = 300_000
files = ["config.json", "model.safetensors.index.json", "model-*.safetensors", "assets/Vocos.pt"]
"#;

/// A hub with this repository that answers by `script`, and a bench that asks it.
fn hub_that(
    repository: &Repository,
    script: impl Fn(usize, &mut Exchange, &Repository) + Send + Sync + 'static,
) -> (Server, Bench) {
    let served = repository.clone();
    let server = Server::start(move |n, x| script(n, x, &served));
    let bench = Bench::with(SNAPSHOT, &server.url);
    (server, bench)
}

fn good_hub() -> (Repository, Server, Bench) {
    let repository = Repository::small();
    let (server, bench) = hub_that(&repository, |_, x, r| r.answer(x));
    (repository, server, bench)
}

/// The ranges asked for of one file.
fn ranges_of(server: &Server, path: &str) -> Vec<Option<usize>> {
    server.requests().iter().filter(|r| r.path.ends_with(path)).map(|r| r.from).collect()
}

impl Bench {
    fn partial_of(&self, path: &str) -> PathBuf {
        self.store.dir_of("m").join(".partial").join(format!("{path}.partial"))
    }

    fn leave_unfinished(&self, path: &str, bytes: &[u8]) {
        let partial = self.partial_of(path);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(partial, bytes).unwrap();
    }

    #[track_caller]
    fn assert_holds(&self, repository: &Repository) {
        let dir = self.store.folder_in(self.model()).unwrap();
        for path in [
            "config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            SECOND,
            "assets/Vocos.pt",
        ] {
            assert!(fs::read(dir.join(path)).unwrap() == repository.files[path], "{path} has other bytes");
        }
        assert!(!dir.join("README.md").exists() && !dir.join("assets/demo.wav").exists(), "only what is needed");
        assert!(!dir.join(".partial").exists(), "nothing unfinished is left");
    }

    #[track_caller]
    fn assert_absent(&self, path: &str) {
        assert!(!self.store.dir_of("m").join(path).exists());
        assert!(!self.store.is_ready(self.model()));
        let error = self.store.folder_in(self.model()).unwrap_err();
        assert!(matches!(error, WeightsError::NotInstalled { .. }), "{error}");
    }
}

#[test]
fn a_snapshot_is_fetched_pinned_and_checked_without_network_afterwards() {
    let (repository, server, mut bench) = good_hub();
    let seen = bench.pull().unwrap();
    bench.assert_holds(&repository);
    assert_eq!(server.requests()[0].path, "/api/models/owner/repo/revision/main?blobs=true");
    let pin = bench.store.pin_of(bench.model()).unwrap();
    assert_eq!(pin.revision(), Some(repository.commit.as_str()));
    let written = fs::read_to_string(bench.store.dir_of("m").join("pinned.json")).unwrap();
    assert!(written.contains(&sha256(&repository.files[SECOND])) && written.contains("150000"), "{written}");

    // one bar over all files, which only grows
    let total: u64 =
        ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", SECOND, "assets/Vocos.pt"]
            .iter()
            .map(|path| repository.files[*path].len() as u64)
            .sum();
    let last = seen.last().unwrap();
    assert_eq!((last.all_done, last.all_total), (total, total));
    assert!(seen.windows(2).all(|w| w[0].all_done <= w[1].all_done));

    let asked = server.requests().len();
    bench.options.hub = Some(nobody());
    bench.pull().unwrap();
    let states = verify(&bench.store, bench.model(), &mut |_| {}, &CancelToken::default()).unwrap();
    assert!(states.len() == 5 && states.iter().all(|(_, s)| *s == FileState::Ready), "{states:?}");
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_dropped_connection_costs_only_the_rest_of_its_file() {
    let repository = Repository::small();
    let dropped = AtomicBool::new(false);
    let (server, bench) = hub_that(&repository, move |_, x, r| {
        if r.path_asked(x) == Some(SECOND) && !dropped.swap(true, Ordering::Relaxed) {
            x.head("200 OK", &[("Content-Length", "150000".to_owned())]);
            x.send(&r.files[SECOND][..100_000]);
        } else {
            r.answer(x);
        }
    });
    bench.pull().unwrap();
    bench.assert_holds(&repository);
    let ranges = ranges_of(&server, SECOND);
    assert!(matches!(ranges[..], [None, Some(from)] if from > 0 && from <= 100_000), "{ranges:?}");
    assert_eq!(ranges_of(&server, "model-00001-of-00002.safetensors"), [None]);
}

#[test]
fn a_branch_that_moves_between_two_pulls_changes_nothing() {
    let old = Repository::small();
    let mut new = Repository { commit: "2".repeat(40), ..old.clone() };
    new.files.insert(SECOND.to_owned(), vec![9; 150_000]);
    let main = Arc::new(Mutex::new(old.clone()));
    let (now, kept) = (main.clone(), old.clone());
    let broken = AtomicBool::new(true);
    let server = Server::start(move |_, x| {
        // files of any commit can be had; the branch is at the latest
        if kept.path_asked(x) == Some(SECOND) && broken.swap(false, Ordering::Relaxed) {
            x.head("200 OK", &[("Content-Length", "150000".to_owned())]);
            x.send(&kept.files[SECOND][..40_000]);
        } else if kept.path_asked(x).is_some() {
            kept.answer(x);
        } else {
            now.lock().unwrap().answer(x);
        }
    });
    let mut bench = Bench::with(SNAPSHOT, &server.url);
    bench.options.retries = 0;
    bench.failure();
    bench.assert_absent(SECOND);

    *main.lock().unwrap() = new.clone();
    bench.pull().unwrap();
    bench.assert_holds(&old);
    assert_eq!(ranges_of(&server, SECOND), [None, Some(40_000)]);
    let asked = server.requests().len();
    bench.pull().unwrap();
    assert_eq!(server.requests().len(), asked);

    // whoever wants the new one asks for it
    bench.store.remove(bench.model()).unwrap();
    bench.pull().unwrap();
    bench.assert_holds(&new);
}

#[test]
fn a_file_with_other_bytes_than_listed_is_refused() {
    for (path, words) in [(SECOND, "what came has sha256"), ("config.json", "what came has the git id")] {
        let repository = Repository::small();
        let (_, bench) = hub_that(&repository, move |_, x, r| {
            if r.path_asked(x) == Some(path) {
                let mut other = r.files[path].clone();
                other[0] ^= 1;
                x.proper(&other);
            } else {
                r.answer(x);
            }
        });
        let message = bench.failure();
        assert!(message.contains(&format!("cannot fetch {path} of m")) && message.contains(words), "{message}");
        bench.assert_absent(path);
        assert!(!bench.partial_of(path).exists());
    }
}

#[test]
fn a_length_that_is_a_lie_is_noticed() {
    for (by, words) in [(1_i64, "has 150001 bytes where 150000 are expected"), (-1, "has 149999 bytes where 150000")] {
        let repository = Repository::small();
        let (_, bench) = hub_that(&repository, move |_, x, r| {
            if r.path_asked(x) == Some(SECOND) {
                x.whole(&vec![0; (150_000 + by) as usize]);
            } else {
                r.answer(x);
            }
        });
        let message = bench.failure();
        assert!(message.contains(words), "{message}");
        bench.assert_absent(SECOND);
    }
    // announced rightly, sent short, again and again
    let repository = Repository::small();
    let (_, bench) = hub_that(&repository, move |_, x, r| {
        if r.path_asked(x) == Some(SECOND) {
            x.head("200 OK", &[("Content-Length", "150000".to_owned())]);
        } else {
            r.answer(x);
        }
    });
    let message = bench.failure();
    assert!(message.contains("(4 attempts)"), "{message}");
}

#[test]
fn a_disk_without_room_is_noticed_before_the_first_byte() {
    let (_, server, mut bench) = good_hub();
    bench.options.free_space = Arc::new(|_| Some(200_000));
    let message = bench.failure();
    assert!(message.contains("needs 270.1 kB free") && message.contains("--home DIR"), "{message}");
    assert_eq!(server.requests().len(), 1, "nothing but the list");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_is_said_to_be_full_and_the_rest_comes_later() {
    let (repository, server, bench) = good_hub();
    let partial = bench.partial_of(SECOND);
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let error = bench.pull().unwrap_err();
    assert!(matches!(error, WeightsError::OutOfSpace { .. }), "{error}");
    bench.assert_absent(SECOND);
    fs::remove_file(partial).unwrap();
    bench.pull().unwrap();
    bench.assert_holds(&repository);
    assert_eq!(ranges_of(&server, "model-00001-of-00002.safetensors"), [None], "what was there is not fetched again");
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let repository = Repository::small();
    let stored = repository.clone();
    let elsewhere = Server::start(move |_, x| {
        let path = x.request.path.trim_start_matches('/').to_owned();
        x.proper(&stored.files[&path]);
    });
    let target = elsewhere.url.clone();
    let (server, mut bench) = hub_that(&repository, move |_, x, r| match r.path_asked(x).map(str::to_owned) {
        Some(path) => x.head("302 Found", &[("Location", format!("{target}/{path}")), ("Content-Length", "0".into())]),
        None => r.answer(x),
    });
    bench.options.token = Some("secret".into());
    bench.leave_unfinished(SECOND, &repository.files[SECOND][..50_000]);
    bench.pull().unwrap();
    bench.assert_holds(&repository);
    assert!(server.requests().iter().all(|r| r.authorization.as_deref() == Some("Bearer secret")));
    assert_eq!(elsewhere.requests().len(), 5);
    assert!(elsewhere.requests().iter().all(|r| r.authorization.is_none()), "the token was forwarded");
    assert_eq!(ranges_of(&elsewhere, SECOND), [Some(50_000)]);
}

#[test]
fn a_list_that_is_refused_or_makes_no_sense_is_told() {
    for (status, words) in [
        ("401 Unauthorized", "set HF_TOKEN"),
        ("403 Forbidden", "agree to the terms"),
        ("404 Not Found", "no such revision"),
        ("429 Too Many Requests", "(4 attempts)"),
        ("502 Bad Gateway", "try again later (4 attempts)"),
    ] {
        let (_, bench) = hub_that(&Repository::small(), move |_, x, _| x.status(status));
        let message = bench.failure();
        assert!(message.contains("cannot fetch the list of files of m"), "{message}");
        assert!(message.contains(status) && message.contains(words), "{message}");
    }
    let (_, bench) = hub_that(&Repository::small(), |_, x, _| x.whole(b"<html>welcome</html>"));
    assert!(bench.failure().contains("its list of files is not as expected"));
    let bench = Bench::with(SNAPSHOT, &nobody());
    assert!(bench.failure().contains("Check the network, or fetch it elsewhere and use --from DIR"));
}

#[test]
fn a_repository_without_a_needed_file_is_refused_before_the_large_ones() {
    for (path, words) in
        [("assets/Vocos.pt", "has no assets/Vocos.pt"), (SECOND, "has no model-00002-of-00002.safetensors")]
    {
        let mut repository = Repository::small();
        repository.files.remove(path);
        let (server, bench) = hub_that(&repository, |_, x, r| r.answer(x));
        let message = bench.failure();
        assert!(message.contains(words), "{message}");
        assert!(ranges_of(&server, "model-00001-of-00002.safetensors").is_empty());
    }
}

#[test]
fn terms_come_before_the_first_request() {
    let repository = Repository::small();
    let served = repository.clone();
    let server = Server::start(move |_, x| served.answer(x));
    let bench = Bench::with(&format!("terms = \"Be kind.\"\n{SNAPSHOT}"), &server.url);
    let message = bench.failure();
    assert!(message.contains("m has a licence to be agreed to (MIT)"), "{message}");
    assert_eq!(server.requests(), []);
    bench.store.accept_terms(bench.model()).unwrap();
    bench.pull().unwrap();
    bench.assert_holds(&repository);
}

/// Writes the repository's files into a folder.
fn write_to(repository: &Repository, dir: &Path) {
    for (path, bytes) in &repository.files {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), bytes).unwrap();
    }
}

#[test]
fn a_folder_with_a_checkpoint_is_taken_and_pinned_as_it_is() {
    let repository = Repository::small();
    let brought = tempfile::tempdir().unwrap();
    write_to(&repository, &brought.path().join("some/where"));
    let mut bench = Bench::with(SNAPSHOT, &nobody());
    bench.options.from = Some(brought.path().to_owned());
    bench.pull().unwrap();
    bench.assert_holds(&repository);
    assert!(bench.store.pin_of(bench.model()).unwrap().origin().contains("from a folder"));

    fs::remove_file(brought.path().join("some/where").join(SECOND)).unwrap();
    let mut bench = Bench::with(SNAPSHOT, &nobody());
    bench.options.from = Some(brought.path().to_owned());
    let message = bench.failure();
    assert!(message.contains("holds no copy of m: it lacks model-00002-of-00002.safetensors"), "{message}");
    bench.assert_absent("config.json");
}

#[cfg(unix)]
#[test]
fn a_cache_of_the_hubs_own_tools_vouches_for_its_files() {
    let repository = Repository::small();
    let brought = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (brought.path().join("blobs"), brought.path().join("snapshots").join(&repository.commit));
    fs::create_dir_all(&blobs).unwrap();
    for (path, bytes) in &repository.files {
        let blob = blobs.join(sha256(bytes));
        fs::write(&blob, bytes).unwrap();
        fs::create_dir_all(snapshot.join(path).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&blob, snapshot.join(path)).unwrap();
    }
    let mut bench = Bench::with(SNAPSHOT, &nobody());
    bench.options.from = Some(brought.path().to_owned());
    bench.pull().unwrap();
    bench.assert_holds(&repository);
    assert_eq!(bench.store.pin_of(bench.model()).unwrap().revision(), Some(repository.commit.as_str()));

    fs::write(blobs.join(sha256(&repository.files[SECOND])), vec![0; 150_000]).unwrap();
    let mut bench = Bench::with(SNAPSHOT, &nobody());
    bench.options.from = Some(brought.path().to_owned());
    let message = bench.failure();
    assert!(message.contains("is not the one the catalog means"), "{message}");
}

#[test]
fn a_folder_is_held_to_what_the_hub_told_before() {
    let repository = Repository::small();
    let (_, mut bench) = hub_that(&repository, |_, x, r| match r.path_asked(x) {
        Some(SECOND) => x.status("404 Not Found"),
        _ => r.answer(x),
    });
    bench.failure();
    let brought = tempfile::tempdir().unwrap();
    write_to(&repository, brought.path());
    fs::write(brought.path().join(SECOND), vec![0; 150_000]).unwrap();
    bench.options.from = Some(brought.path().to_owned());
    assert!(bench.failure().contains("is not the one the catalog means"));
    write_to(&repository, brought.path());
    bench.pull().unwrap();
    bench.assert_holds(&repository);
}

#[test]
fn a_list_with_paths_out_of_the_folder_fetches_nothing_there() {
    let repository = Repository::small();
    let (_, bench) = hub_that(&repository, |_, x, r| {
        let mut listing = r.listing();
        if let Some(files) = listing["siblings"].as_array_mut() {
            let lfs = json!({ "sha256": "0".repeat(64), "size": 1 });
            files.push(json!({ "rfilename": "model-/../../../evil.safetensors", "size": 1, "lfs": lfs }));
        }
        match x.request.path.contains("/api/") {
            true => x.whole(listing.to_string().as_bytes()),
            false => r.answer(x),
        }
    });
    bench.pull().unwrap();
    bench.assert_holds(&repository);
}
