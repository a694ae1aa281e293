//! The hub, well and ill.

use crate::server::{Exchange, Server};
use crate::{Bench, body, nobody};
use antiphon::engine::CancelToken;
use antiphon::weights::{Source, WeightsError, verify};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LEN: usize = 200_000;

/// What `a.bin` must hold, a hub that answers by `script` (its third argument is that content), and a bench that asks it.
fn hub_that(script: impl Fn(usize, &mut Exchange, &[u8]) + Send + Sync + 'static) -> (Vec<u8>, Server, Bench) {
    let content = body(LEN);
    let served = content.clone();
    let server = Server::start(move |n, x| script(n, x, &served));
    let bench = Bench::new(&content, &server.url, &[]);
    (content, server, bench)
}

fn good_hub() -> (Vec<u8>, Server, Bench) {
    hub_that(|_, x, content| x.proper(content))
}

#[test]
fn a_file_is_fetched_verified_and_reported_and_only_once() {
    let (content, server, bench) = good_hub();
    let seen = bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.requests()[0].path, "/owner/repo/resolve/main/sub/a.bin");

    let sources: Vec<_> = seen.iter().map(|p| p.source).collect();
    assert_eq!(sources[0], Source::Hub);
    assert!(sources.contains(&Source::Checking));
    let last = seen.last().unwrap();
    assert_eq!((last.source, last.done_bytes, last.file.as_str()), (Source::Ready, LEN as u64, "a.bin"));
    assert!(seen.iter().all(|p| p.model == "m" && p.done_bytes <= p.total_bytes));

    bench.pull().unwrap();
    assert_eq!(server.requests().len(), 1, "the second pull asks nobody");
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke() {
    let (content, server, bench) = hub_that(|n, x, served| {
        if n == 0 {
            x.head("200 OK", &[("Content-Length", LEN.to_string())]);
            x.send(&served[..70_000]);
        } else {
            x.proper(served);
        }
    });
    bench.pull().unwrap();
    bench.assert_installed(&content);
    let ranges = server.ranges();
    assert_eq!(ranges.len(), 2);
    let from = ranges[1].unwrap();
    assert!(from > 0 && from <= 70_000, "resumed from {from}");
}

#[test]
fn an_interrupted_pull_is_resumed_by_the_next() {
    let (content, server, bench) = good_hub();
    bench.interrupted_with(&content[..123_456]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [Some(123_456)]);
}

#[test]
fn a_partial_file_that_is_whole_already_needs_no_request() {
    let content = body(LEN);
    let bench = Bench::new(&content, &nobody(), &[]);
    bench.interrupted_with(&content);
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[test]
fn a_server_that_ignores_the_range_is_taken_from_the_start() {
    let (content, server, bench) = hub_that(|_, x, served| x.whole(served));
    bench.interrupted_with(&content[..50_000]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [Some(50_000)]);
}

#[test]
fn a_server_that_gives_another_range_is_asked_again_for_the_whole() {
    let (content, server, bench) = hub_that(|n, x, served| {
        if n == 0 {
            let range = format!("bytes 10-{}/{LEN}", LEN - 1);
            x.head("206 Partial Content", &[("Content-Range", range), ("Content-Length", (LEN - 10).to_string())]);
            x.send(&served[10..]);
        } else {
            x.proper(served);
        }
    });
    bench.interrupted_with(&content[..50_000]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [Some(50_000), None]);
}

#[test]
fn a_range_the_server_does_not_have_begins_anew() {
    let (content, server, bench) = hub_that(|_, x, served| match x.request.from {
        Some(_) => x.status("416 Range Not Satisfiable"),
        None => x.whole(served),
    });
    bench.interrupted_with(&content[..50_000]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [Some(50_000), None]);
}

#[test]
fn what_an_earlier_pull_left_of_another_file_is_thrown_away() {
    let (content, server, bench) = good_hub();
    bench.interrupted_with(&vec![7; 50_000]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [Some(50_000), None]);

    let bench = Bench::new(&content, &server.url, &[]);
    bench.interrupted_with(&vec![7; LEN + 1]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[test]
fn a_file_with_another_hash_is_deleted_and_said_so() {
    let content = body(LEN);
    let mut other = content.clone();
    other[LEN / 2] ^= 1;
    let server = Server::start(move |_, x| x.proper(&other));
    let bench = Bench::new(&content, &server.url, &[]);
    let message = bench.failure();
    assert!(message.contains("what came has sha256") && message.contains("it was deleted"), "{message}");
    assert!(message.contains("cannot fetch a.bin of m") && message.contains("--from DIR"), "{message}");
    bench.assert_not_installed();
    assert!(!bench.partial().exists());
}

#[test]
fn a_file_longer_than_announced_is_refused() {
    let mut long = body(LEN);
    long.extend([1; 5000]);
    let served = long.clone();
    // without a length, so that the surplus shows only in the body
    let server = Server::start(move |_, x| {
        x.head("200 OK", &[]);
        x.send(&served);
    });
    let bench = Bench::new(&long[..LEN], &server.url, &[]);
    let message = bench.failure();
    assert!(message.contains("it sends more than the 200.0 kB expected"), "{message}");
    bench.assert_not_installed();
    assert!(!bench.partial().exists());
}

#[test]
fn a_file_of_another_length_is_refused_before_it_is_read() {
    let content = body(LEN);
    let served = body(LEN + 1);
    let server = Server::start(move |_, x| x.proper(&served));
    let bench = Bench::new(&content, &server.url, &[]);
    let message = bench.failure();
    assert!(message.contains("its file has 200001 bytes where 200000 are expected"), "{message}");
    assert_eq!(server.requests().len(), 1, "asking again would not help");
    bench.assert_not_installed();
}

#[test]
fn a_server_that_always_breaks_off_is_given_up_and_what_came_is_kept() {
    let (content, server, bench) = hub_that(|_, x, served| {
        let from = x.request.from.unwrap_or(0);
        let range = format!("bytes {from}-{}/{LEN}", LEN - 1);
        let length = (LEN - from).to_string();
        if from == 0 {
            x.head("200 OK", &[("Content-Length", length)]);
            x.send(&served[..1000]);
        } else {
            x.head("206 Partial Content", &[("Content-Range", range), ("Content-Length", length)]);
        }
    });
    let message = bench.failure();
    assert!(message.contains("(4 attempts)"), "{message}");
    assert_eq!(server.requests().len(), 4, "the first attempt and three more");
    bench.assert_not_installed();
    assert_eq!(std::fs::read(bench.partial()).unwrap(), content[..1000]);
}

#[test]
fn an_end_that_comes_too_early_is_noticed_without_an_announced_length() {
    let (content, server, bench) = hub_that(|n, x, served| {
        if n == 0 {
            x.head("200 OK", &[]);
            x.send(&served[..60_000]);
        } else {
            x.proper(served);
        }
    });
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [None, Some(60_000)]);
}

#[test]
fn a_server_that_falls_silent_is_left_and_resumed() {
    let (content, server, bench) = hub_that(|n, x, served| {
        if n == 0 {
            x.head("200 OK", &[("Content-Length", LEN.to_string())]);
            x.send(&served[..40_000]);
            x.until_gone();
        } else {
            x.proper(served);
        }
    });
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [None, Some(40_000)]);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(|_, x| x.until_gone());
    let mut bench = Bench::new(&body(LEN), &server.url, &[]);
    bench.options.stall_timeout = Duration::from_millis(50);
    let message = bench.failure();
    assert!(message.contains("no answer within 50ms (4 attempts)"), "{message}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let (content, server, bench) = hub_that(|n, x, served| match n {
        0 => x.head("503 Service Unavailable", &[("Content-Length", "0".into()), ("Retry-After", "0".into())]),
        1 => x.status("429 Too Many Requests"),
        _ => x.proper(served),
    });
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.requests().len(), 3);
}

/// Each answer is told in words with a remedy; asking again is tried only where it may help.
#[test]
fn a_refusal_is_told_with_its_remedy() {
    for (status, token, words, asked) in [
        ("401 Unauthorized", None, "it wants to know who asks, or has no such repository; set HF_TOKEN", 1),
        ("401 Unauthorized", Some("t"), "it does not accept the token in HF_TOKEN; make a new one", 1),
        ("403 Forbidden", None, "agree to the terms on the repository's page", 1),
        ("404 Not Found", None, "it has no such file, or no such revision", 1),
        ("429 Too Many Requests", None, "it has been asked too often; wait some minutes", 4),
        ("500 Internal Server Error", None, "the trouble is on its side; try again later (4 attempts)", 4),
        ("503 Service Unavailable", None, "the trouble is on its side; try again later (4 attempts)", 4),
    ] {
        let (_, server, mut bench) = hub_that(move |_, x, _| x.status(status));
        bench.options.token = token.map(str::to_owned);
        let message = bench.failure();
        assert!(message.contains(&format!("the hub at {}: it answers {status}: ", server.url)), "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(server.requests().len(), asked, "{status}");
        bench.assert_not_installed();
    }
}

#[test]
fn a_hub_whose_address_nobody_knows_is_said_so() {
    let (_, _, mut bench) = good_hub();
    bench.options.hub = None;
    let message = bench.failure();
    assert!(message.contains("its address is not known: set HF_ENDPOINT to it"), "{message}");
}

#[test]
fn a_redirection_is_followed_with_its_range() {
    let (content, server, bench) = hub_that(|_, x, served| {
        if x.request.path.contains("resolve") {
            x.head("302 Found", &[("Location", "/store/abc".into()), ("Content-Length", "0".into())]);
        } else {
            x.proper(served);
        }
    });
    bench.interrupted_with(&content[..1000]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
    let last = server.requests().pop().unwrap();
    assert_eq!((last.path.as_str(), last.from), ("/store/abc", Some(1000)));
}

#[test]
fn a_hub_address_that_is_none_is_named() {
    let bench = Bench::new(&body(10), "not an address", &[]);
    let message = bench.failure();
    assert!(message.contains("\"not an address\""), "{message}");
}

#[test]
fn too_little_disk_space_is_noticed_before_anything_is_fetched() {
    let (content, server, mut bench) = good_hub();
    bench.options.free_space = Arc::new(|_| Some(LEN as u64 - 1));
    let message = bench.failure();
    assert!(message.contains("needs 200.0 kB free") && message.contains("--home DIR"), "{message}");
    assert_eq!(server.requests(), []);

    // what is there already need not be free
    bench.interrupted_with(&content[..1]);
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_while_fetching_is_said_to_be_full() {
    let (_, _, bench) = good_hub();
    std::fs::create_dir_all(bench.partial().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", bench.partial()).unwrap();
    let error = bench.pull().unwrap_err();
    assert!(matches!(error, WeightsError::OutOfSpace { .. }), "{error}");
    bench.assert_not_installed();
}

#[test]
fn a_cancelled_pull_stops_and_the_next_goes_on() {
    let (content, server, mut bench) = hub_that(|n, x, served| {
        if n == 0 {
            x.head("200 OK", &[("Content-Length", LEN.to_string())]);
            x.send(&served[..80_000]);
            x.until_gone();
        } else {
            x.proper(served);
        }
    });
    bench.options.stall_timeout = Duration::from_secs(60);
    let cancel = CancelToken::default();
    let stop = cancel.clone();
    let stopping = std::thread::spawn({
        let partial = bench.partial();
        move || {
            while std::fs::metadata(&partial).map_or(0, |m| m.len()) < 80_000 {
                std::thread::sleep(Duration::from_millis(2));
            }
            stop.cancel();
        }
    });
    let error = bench.pull_until(&cancel, |_| {}).unwrap_err();
    stopping.join().unwrap();
    assert!(matches!(error, WeightsError::Cancelled), "{error}");
    bench.assert_not_installed();
    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.ranges(), [None, Some(80_000)]);
}

#[test]
fn no_final_file_is_seen_before_it_is_verified() {
    let (content, _, bench) = good_hub();
    let seen_early = Arc::new(AtomicBool::new(false));
    let (early, path) = (seen_early.clone(), bench.file());
    let look = move |p: &antiphon::weights::Progress| {
        if p.source != Source::Ready && path.exists() {
            early.store(true, Ordering::Relaxed);
        }
    };
    bench.pull_until(&CancelToken::default(), look).unwrap();
    assert!(!seen_early.load(Ordering::Relaxed));
    bench.assert_installed(&content);
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let (first_asked, second_waits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, waits) = (first_asked.clone(), second_waits.clone());
    let (content, server, mut bench) = hub_that(move |_, x, served| {
        asked.store(true, Ordering::Release);
        while !waits.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        x.proper(served);
    });
    bench.options.stall_timeout = Duration::from_secs(60);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| bench.pull());
        while !first_asked.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let told = Mutex::new(Vec::new());
        bench
            .pull_until(&CancelToken::default(), |p| {
                told.lock().unwrap().push(p.source);
                second_waits.store(true, Ordering::Release);
            })
            .unwrap();
        first.join().unwrap().unwrap();
        let told = told.into_inner().unwrap();
        assert_eq!(told.first(), Some(&Source::Waiting));
        assert_eq!(told.last(), Some(&Source::Ready));
    });
    bench.assert_installed(&content);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_file_put_there_by_hand_is_verified_and_kept() {
    let content = body(LEN);
    let bench = Bench::new(&content, &nobody(), &[]);
    std::fs::create_dir_all(bench.store.dir_of("m")).unwrap();
    std::fs::write(bench.file(), &content).unwrap();
    bench.pull().unwrap();
    bench.assert_installed(&content);
}

#[test]
fn a_file_put_there_by_hand_is_found_without_a_pull() {
    let content = body(LEN);
    let bench = Bench::new(&content, &nobody(), &[]);
    let model = bench.model();
    std::fs::create_dir_all(bench.store.dir_of("m")).unwrap();
    std::fs::write(bench.file(), &content).unwrap();
    assert!(!bench.store.is_ready(model));
    assert_eq!(bench.store.path_in(model, "a.bin").unwrap(), bench.file());
    assert!(bench.store.is_ready(model), "and is not hashed again");

    std::fs::write(bench.file(), body(LEN + 1)).unwrap();
    let error = bench.store.path_in(model, "a.bin").unwrap_err().to_string();
    assert!(error.contains("a.bin is damaged"), "{error}");
}

#[test]
fn a_damaged_file_is_found_by_verify_and_fetched_again() {
    let (content, server, bench) = good_hub();
    bench.pull().unwrap();
    let model = bench.model();
    let check = || verify(&bench.store, model, &mut |_| {}, &CancelToken::default()).unwrap();
    assert_eq!(check()[0].1.words(), "ready");

    // one byte, with the time of change put back: only hashing can tell
    let changed = std::fs::metadata(bench.file()).unwrap().modified().unwrap();
    let mut bytes = content.clone();
    bytes[5] ^= 0x40;
    std::fs::write(bench.file(), &bytes).unwrap();
    std::fs::File::options().write(true).open(bench.file()).unwrap().set_modified(changed).unwrap();
    assert!(bench.store.is_ready(model));
    assert_eq!(check()[0].1.words(), "damaged");
    assert!(!bench.store.is_ready(model));

    bench.pull().unwrap();
    bench.assert_installed(&content);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_model_is_removed_whole() {
    let (_, _, bench) = good_hub();
    let model = bench.model();
    assert_eq!(bench.store.remove(model).unwrap(), 0);
    bench.pull().unwrap();
    let freed = bench.store.remove(model).unwrap();
    assert!(freed >= LEN as u64, "{freed}");
    bench.assert_not_installed();
    assert!(!bench.store.dir_of("m").exists());
}
