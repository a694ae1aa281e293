use super::super::event::{self, EventSource};
use super::*;
use server::Server;
use sha2::{Digest, Sha256};
use std::time::Duration;

#[path = "../../../tests/download/server.rs"]
#[allow(dead_code, reason = "shared with the download tests, which use all of it")]
mod server;

const LEN: usize = 60_000;

fn content(id: &str) -> Vec<u8> {
    id.bytes().cycle().take(LEN).collect()
}

/// A catalog with the models `a` and `b`, of one file each, a queue, and what it tells.
struct Bench {
    _home: tempfile::TempDir,
    pulls: Arc<Pulls>,
    store: Store,
    events: EventSource,
    catalog: &'static Catalog,
}

impl Bench {
    fn new(hub: &str) -> Bench {
        let entry = |id: &str| {
            let sha256: String = Sha256::digest(content(id)).iter().map(|b| format!("{b:02x}")).collect();
            format!(
                "[[model]]\nid = \"{id}\"\ntitle = \"M\"\nrole = \"llm\"\nlicence = \"MIT\"\npurpose = \"Thinks.\"\nmemory = 1\n\
                 cores = 1\nstarter = true\n[[model.file]]\nname = \"f\"\nsize = {LEN}\nsha256 = \"{sha256}\"\n\
                 hub = {{ repo = \"o/{id}\", revision = \"main\", path = \"f\" }}\n"
            )
        };
        let catalog = Catalog::parse(&format!("{}{}", entry("a"), entry("b"))).unwrap();
        let catalog: &'static Catalog = Box::leak(Box::new(catalog));
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Some(home.path().to_owned())).unwrap();
        let options = PullOptions {
            hub: Some(hub.to_owned()),
            token: None,
            mirror_command: Vec::new(),
            stall_timeout: Duration::from_secs(60),
            retries: 0,
            free_space: Arc::new(|_| None),
            ..PullOptions::default()
        };
        let (sink, events) = event::channel();
        let pulls = Pulls::new(store.clone(), catalog, options, sink);
        Bench { _home: home, pulls, store, events, catalog }
    }

    /// Works the queue off on a thread of its own.
    fn work(&self) -> std::thread::JoinHandle<bool> {
        let pulls = Arc::clone(&self.pulls);
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(pulls.work(|| {}))
        })
    }

    /// The next report about this model for which `wanted` holds.
    #[track_caller]
    fn until(&self, id: &str, wanted: impl Fn(&PullProgress) -> bool) -> PullProgress {
        loop {
            match self.events.next_within(Duration::from_secs(60)).unwrap() {
                Event::Pull(p) if p.id == id && wanted(&p) => return p,
                _ => {}
            }
        }
    }

    /// Waits until so many bytes of the model are on the disk.
    fn arrived(&self, id: &str, bytes: u64) {
        while self.store.bytes_here(self.catalog.model(id).unwrap()) < bytes {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ready(&self, id: &str) -> bool {
        self.store.is_ready(self.catalog.model(id).unwrap())
    }
}

/// A hub whose first answer about `a` stops in the middle and stays open.
fn hub_that_stalls_once() -> Server {
    Server::start(|n, x| {
        let id = if x.request.path.starts_with("/o/a/") { "a" } else { "b" };
        if n == 0 {
            x.head("200 OK", &[("Content-Length", LEN.to_string())]);
            x.send(&content(id)[..20_000]);
            x.until_gone();
        } else {
            x.proper(&content(id));
        }
    })
}

#[test]
fn a_paused_model_lets_the_next_one_go_on_and_is_resumed_where_it_was() {
    let server = hub_that_stalls_once();
    let bench = Bench::new(&server.url);
    assert!(bench.pulls.add(vec!["a".into(), "b".into(), "a".into()], None));
    let working = bench.work();
    let waiting = || match bench.events.next_within(Duration::from_secs(60)).unwrap() {
        Event::PullsWaiting(ids) => ids,
        other => panic!("{other:?}"),
    };
    assert_eq!([waiting(), waiting()], [vec!["a".to_owned(), "b".into()], vec!["b".into()]], "one is taken up");
    let under_way = bench.until("a", |_| true);
    assert_eq!((under_way.state, under_way.total), (PullState::Fetching, 2 * LEN as u64));
    bench.arrived("a", 20_000);
    bench.pulls.pause("a");
    bench.until("a", |p| p.state == PullState::Paused);
    bench.until("b", |p| p.state == PullState::Done);
    assert!(working.join().unwrap());
    assert!(bench.ready("b") && !bench.ready("a"));

    assert!(bench.pulls.resume("a"), "somebody must work again");
    assert!(!bench.pulls.resume("a"), "and only one");
    let working = bench.work();
    let done = bench.until("a", |p| p.state == PullState::Done);
    assert_eq!((done.done, done.total), (LEN as u64, LEN as u64));
    assert!(working.join().unwrap() && bench.ready("a"));
    assert_eq!(server.ranges(), [None, None, Some(20_000)], "a, b, and the rest of a");
}

#[test]
fn a_model_is_called_off_wherever_it_is() {
    let server = hub_that_stalls_once();
    let bench = Bench::new(&server.url);
    assert!(bench.pulls.add(vec!["a".into(), "b".into()], None));
    assert!(!bench.pulls.add(vec!["b".into()], None), "the work has been taken on");
    let working = bench.work();
    bench.arrived("a", 20_000);
    bench.pulls.pause("b");
    bench.until("b", |p| p.state == PullState::Paused);
    bench.pulls.cancel("b");
    bench.until("b", |p| p.state == PullState::Cancelled);
    bench.pulls.cancel("a");
    bench.until("a", |p| p.state == PullState::Cancelled);
    assert!(!working.join().unwrap(), "nothing came");
    assert!(!bench.pulls.resume("a") && !bench.pulls.resume("b"));
    assert_eq!(server.requests().len(), 1);
    assert!(bench.store.bytes_here(bench.catalog.model("a").unwrap()) >= 20_000, "what has arrived is kept");
}

#[test]
fn a_failure_is_told_with_a_remedy_and_ends_the_queue() {
    let server = Server::start(|_, x| x.status("404 Not Found"));
    let bench = Bench::new(&server.url);
    assert!(bench.pulls.add(vec!["a".into(), "b".into()], None));
    let working = bench.work();
    let failed = bench.until("a", |p| matches!(p.state, PullState::Failed { .. }));
    let PullState::Failed { why, remedy } = failed.state else { return };
    assert!(why.to_string().contains("404") && !remedy.is_empty(), "{why}");
    assert!(!working.join().unwrap());
    assert_eq!(server.requests().len(), 1, "the next is not tried");
    assert!(bench.pulls.add(vec!["a".into()], None), "it can be tried again");
}
