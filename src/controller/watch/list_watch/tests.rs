//! Watches against an API server that is played.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{Request as HttpRequest, Response};
use futures::future::{Ready, ready};
use futures::stream;
use parking_lot::Mutex;
use serde_json::json;
use tower::Service;
use uuid::Uuid;

use super::*;
use crate::api::Unfit;
use crate::cache::Cache;
use crate::cache::object::{EnvironmentObject, LeaseObject, RunObject};
use crate::controller::watch::source;

/// An API server that answers each request by a function of its path and query.
#[derive(Clone)]
struct Played<F>(F);

impl<F, B> Service<HttpRequest<B>> for Played<F>
where
    F: Fn(&str) -> Response<Body>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
        ready(Ok((self.0)(asked)))
    }
}

fn client(answer: impl Fn(&str) -> Response<Body> + Clone + Send + 'static) -> Client {
    Client::new(Played(answer), "default")
}

fn answer(code: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(code).body(body.into()).unwrap()
}

fn gone() -> Response<Body> {
    let status =
        json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
    answer(410, status.to_string())
}

fn empty_list(version: u64, more: bool) -> Response<Body> {
    let metadata = json!({ "resourceVersion": version.to_string(), "continue": if more { "next" } else { "" } });
    answer(200, json!({ "metadata": metadata, "items": [] }).to_string())
}

const SETTINGS: WatchSettings = WatchSettings {
    watch_timeout: Duration::from_secs(55),
    resync_interval: Duration::from_secs(600),
};

/// How many requests a watch makes in ten minutes of virtual time.
async fn requests_in_ten_minutes(answer: impl Fn(&str) -> Response<Body> + Clone + Send + 'static) -> usize {
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let client = client(move |asked| {
        *counted.lock() += 1;
        answer(asked)
    });
    let source = source::leases(None);
    let following = follow::<LeaseObject>(&client, &source, SETTINGS, |_| {});
    assert!(tokio::time::timeout(Duration::from_secs(600), following).await.is_err());
    *count.lock()
}

#[tokio::test(start_paused = true)]
async fn a_version_that_expires_again_and_again_is_asked_for_less_and_less_often() {
    let while_paging = |asked: &str| {
        if asked.contains("continue=") {
            gone()
        } else {
            empty_list(1, true)
        }
    };
    let requests = requests_in_ten_minutes(while_paging).await;
    assert!((20..=140).contains(&requests), "{requests} requests while paging");
    let at_once = |asked: &str| {
        if asked.contains("watch=") {
            gone()
        } else {
            empty_list(1, false)
        }
    };
    let requests = requests_in_ten_minutes(at_once).await;
    assert!((20..=140).contains(&requests), "{requests} requests at the watch");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_opened_less_and_less_often() {
    let ends = |asked: &str| {
        if asked.contains("watch=") {
            answer(200, "")
        } else {
            empty_list(1, false)
        }
    };
    let requests = requests_in_ten_minutes(ends).await;
    assert!((10..=80).contains(&requests), "{requests} requests");
    let breaks = |asked: &str| {
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]);
        if asked.contains("watch=") {
            answer(200, Body::from_stream(broken))
        } else {
            empty_list(1, false)
        }
    };
    let requests = requests_in_ten_minutes(breaks).await;
    assert!((10..=80).contains(&requests), "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lasts_is_opened_again_at_once() {
    let lasts = |asked: &str| {
        let ends_after = stream::once(async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            Ok::<_, Infallible>(Bytes::new())
        });
        if asked.contains("watch=") {
            answer(200, Body::from_stream(ends_after))
        } else {
            empty_list(1, false)
        }
    };
    let requests = requests_in_ten_minutes(lasts).await;
    assert_eq!(requests, 13, "one list and twelve watches");
}

/// What differs between two such objects, up to the middle of their metadata.
fn head(number: usize) -> String {
    let uid = Uuid::from_u128(number as u128 + 1);
    format!(r#"{{"metadata":{{"namespace":"team","name":"hostile-{number}","uid":"{uid}","#)
}

/// The rest of an object of 100 kB, or of as much as an API server stores, in one of the ways that cost most.
fn tail(kind: usize, is_large: bool) -> String {
    let large = if is_large { 14 } else { 1 };
    let tiny = |count: usize| vec![r#"{"":0}"#; count].join(",");
    let owners = if kind == 3 {
        "x".repeat(100_000 * large)
    } else {
        String::new()
    };
    let meta = json!({
        "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": { "padding": "x" },
        "annotations": { "paperclip.ing/renew-time": "x".repeat(20_000) },
        "managedFields": [{ "fieldsV1": { "f:spec": owners } }],
    });
    let meta = meta.to_string().split_off(1); // its opening brace stands in the head
    match kind {
        0 => format!(
            r#"{meta},"spec":{{"driver":"Local","metadata":{{"a":[{}]}}}}}}"#,
            tiny(6_000 * large)
        ),
        1 => {
            let deep = format!("{}{}", r#"{"a":"#.repeat(9_990) + "{", "}".repeat(9_991));
            format!(r#"{meta},"spec":{{"driver":"Local","metadata":{deep}}}}}"#)
        }
        2 => {
            let status = json!({ "phase": "Active", "message": "x".repeat(50_000 * large), "conditions": vec![json!({}); 5_000] });
            format!(r#"{meta},"spec":{{"driver":"Local"}},"status":{status}}}"#)
        }
        3 => format!(r#"{meta},"spec":{{"driver":"Local"}}}}"#),
        _ => format!(
            r#"{meta},"spec":{{"driver":"Local"}},"status":{{"phase":"Succeeded","conditions":[{}],"context":{{"a":[{}]}}}}}}"#,
            tiny(3_000 * large),
            tiny(3_000 * large)
        ),
    }
}

/// The pieces of an object's text; what is the same in many is made once.
fn hostile(number: usize) -> [Bytes; 2] {
    static TAILS: OnceLock<Vec<Bytes>> = OnceLock::new();
    let tails = TAILS.get_or_init(|| (0..10).map(|kind| Bytes::from(tail(kind % 5, kind >= 5))).collect());
    let is_large = number < 5 || is_full();
    [
        Bytes::from(head(number)),
        tails[number % 5 + if is_large { 5 } else { 0 }].clone(),
    ]
}

const HOSTILE: usize = 1_000;
const OTHERS: usize = 100;

/// Two pages of 500 such leases, or one of a hundred other objects, made as they are read.
fn hostile_list(asked: &str) -> Response<Body> {
    let (from, until, more) = match asked {
        asked if asked.contains("continue=") => (HOSTILE / 2, HOSTILE, ""),
        asked if asked.contains("/environmentleases") => (0, HOSTILE / 2, "next"),
        _ => (0, OTHERS, ""),
    };
    let begin = Bytes::from(format!(
        r#"{{"metadata":{{"resourceVersion":"9","continue":"{more}"}},"items":["#
    ));
    let items = (from..until).flat_map(move |number| {
        let comma = if number > from { "," } else { "" };
        let [head, tail] = hostile(number);
        [Bytes::from(comma), head, tail]
    });
    let parts = std::iter::once(begin).chain(items).chain([Bytes::from("]}")]);
    answer(200, Body::from_stream(stream::iter(parts.map(Ok::<_, Infallible>))))
}

/// The peak of this process's memory since the last call, in MiB, and how much it has now.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    (of("VmHWM:"), of("VmRSS:"))
}

/// Whether this process is the one that measures, which runs one test alone; and whether each object is as large as can be.
const MEASURES: &str = "WATCH_MEMORY_IS_MEASURED";

fn is_full() -> bool {
    std::env::var_os(MEASURES).is_some_and(|size| size == "full")
}

#[test]
fn a_thousand_hostile_objects_cost_less_than_64_mib_and_are_read_to_the_last() {
    measure_alone(
        "a_thousand_hostile_objects_cost_less_than_64_mib_and_are_read_to_the_last",
        "some",
    );
}

#[test]
#[ignore = "1.5 GB, which a build without optimization decodes for minutes: make size"]
fn a_thousand_hostile_objects_of_full_size_cost_less_than_64_mib() {
    measure_alone("a_thousand_hostile_objects_of_full_size_cost_less_than_64_mib", "full");
}

/// Measures in a process that runs this test alone.
fn measure_alone(test: &str, size: &str) {
    if std::env::var_os(MEASURES).is_some() {
        return measure();
    }
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let alone = alone
        .args([
            "--exact",
            &format!("{module}::{test}"),
            "--nocapture",
            "--include-ignored",
        ])
        .env(MEASURES, size)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&alone.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
    let measured = said.lines().find(|line| line.starts_with("before "));
    println!("{HOSTILE} leases ({size} at full size): {}", measured.unwrap_or(&said));
}

fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = client(hostile_list);
        let _longest = hostile(0);
        let mut cache = Cache::default();
        let (_, before) = memory();
        let source = source::leases(None);
        let leases = Endpoint::find(&client, &source).await.unwrap();
        let (leases, version) = leases.list::<LeaseObject>().await.unwrap();
        assert_eq!(leases.len(), HOSTILE);
        let unfit = |at: usize| leases[at].spec.metadata.as_ref().and_then(|metadata| metadata.unfit());
        assert!(matches!(unfit(0), Some(Unfit::Large(_))) && unfit(1) == Some(Unfit::Deep));
        assert!(leases[2].status_unreadable && leases[4].status_unreadable && !leases[3].status_unreadable);
        let _ = cache.reset_leases(None, leases, &version);
        let source = source::environments(None);
        let endpoint = Endpoint::find(&client, &source).await.unwrap();
        let (environments, version) = endpoint.list::<EnvironmentObject>().await.unwrap();
        assert_eq!(environments.len(), OTHERS);
        let _ = cache.reset_environments(None, environments, &version);
        let (runs, version) = endpoint.list::<RunObject>().await.unwrap();
        let ended = runs.iter().filter(|run| run.end.is_some()).count();
        assert_eq!(ended, OTHERS / 5, "a phase counts among conditions of any shape");
        let _ = cache.reset_runs(&source.kind, None, runs, &version);
        let source = source::namespaces(None);
        let namespaces = Endpoint::find(&client, &source).await.unwrap();
        let (namespaces, _) = namespaces.list::<NamespaceObject>().await.unwrap();
        let _ = cache.reset_namespaces(None, namespaces);
        let (peak, after) = memory();
        println!("before {before} MiB, peak {peak} MiB, after {after} MiB");
        assert!(
            peak.saturating_sub(before) < 64,
            "from {before} to {peak} MiB, {after} MiB at last"
        );
    });
}

#[tokio::test]
async fn a_watch_hands_on_what_it_can_and_tells_the_version_of_what_it_heard() {
    let object = |version: u64, spec: &str| {
        let meta = json!({
            "namespace": "team", "name": "x", "uid": Uuid::from_u128(1), "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        format!(r#"{{"metadata":{meta},"spec":{spec}}}"#)
    };
    let deep = format!(
        r#"{{"metadata":{}{}}}"#,
        r#"{"a":"#.repeat(9_990) + "{",
        "}".repeat(9_991)
    );
    // The type may stand behind the object, and no line has to be complete at the end.
    let lines = format!(
        "{{\"type\":\"ADDED\",\"object\":{}}}\n{{\"object\":{},\"type\":\"MODIFIED\"}}\n\
         {{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"30\"}}}}}}\n{{\"type\":\"DELETED\",\"object\":{{",
        object(10, &deep),
        object(20, r#"{"policy":"OfTheFuture"}"#)
    );
    let client = client(move |_| answer(200, lines.clone()));
    let source = source::leases(None);
    let endpoint = Endpoint::find(&client, &source).await.unwrap();
    let mut version = ResourceVersion::parse("5").unwrap();
    let mut heard = VecDeque::new();
    let mut sink = |event: WatchEvent<LeaseObject>| heard.push_back(event);
    let watched = endpoint.watch(Duration::from_secs(5), &mut version, &mut sink).await;
    watched.unwrap();
    assert_eq!(version.as_str(), "30");
    assert!(matches!(heard.pop_front(), Some(WatchEvent::Heard)));
    for _ in 0..2 {
        let Some(WatchEvent::Applied(lease)) = heard.pop_front() else {
            panic!("{heard:?}")
        };
        assert!(lease.check().is_err());
    }
    assert!(matches!(
        (heard.pop_front(), heard.pop_front()),
        (Some(WatchEvent::Heard), None)
    ));
}
