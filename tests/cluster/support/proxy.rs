//! A way to the API server that a test can spoil: plain HTTP on the loopback address, passed on to the real one.
//!
//! The operator is given a kubeconfig that points here; what it asks is answered by the real API server, except for the
//! requests that a [`Spoiled`] rule takes. That makes faults exact that a kill by the clock would hit once in a thousand
//! runs: a request that has not left yet, an answer that never arrives, a page of a list that breaks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use harness::guard;
use harness::wait::eventually;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for a request that a rule is there for.
const LIMIT: Duration = Duration::from_secs(30);

/// Largest body of a request, far above what an operator sends.
const BODY_LIMIT: usize = 16 << 20;

/// What happens to a request that a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and no more; the API server never sees it.
    Answer(u16),
    /// The API server answers; of its answer only the first half arrives.
    Tear,
    /// It waits until the rule is lifted; then it is passed on, or not, as the test says.
    Withhold,
    /// It is passed on at once; its answer waits until the rule is lifted.
    KeepAnswer,
    /// It is passed on after some time, one after a longer and one after a shorter, up to this.
    Delay(Duration),
}

type Matcher = dyn Fn(&Method, &Uri) -> bool + Send + Sync;

struct Rule {
    fault: Fault,
    takes: Box<Matcher>,
    hits: AtomicUsize,
    state: watch::Sender<RuleState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleState {
    InForce,
    Lifted,
    Discarded,
}

/// A rule in force; dropped, it is no more, and requests that it holds back are discarded.
pub struct Spoiled(Arc<Rule>);

impl Spoiled {
    /// Requests that it has taken so far; where the answer is kept back, those that were answered.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Waits until it has taken so many requests.
    pub async fn wait_for_hits(&self, hits: usize) {
        eventually(
            "the operator sends the request that is spoiled",
            LIMIT,
            async || match self.hits() {
                seen if seen >= hits => Ok(()),
                seen => Err(format!("{seen} of {hits} requests")),
            },
        )
        .await;
    }

    /// From here on it takes nothing, and what it holds back goes on.
    pub fn lift(self) {
        self.0.state.send_replace(RuleState::Lifted);
    }

    /// From here on it takes nothing, and requests that it holds back never reach the API server: those of a dead sender,
    /// whose connection would take a moment to be seen as closed.
    pub fn discard(self) {}
}

impl Drop for Spoiled {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let in_force = *state == RuleState::InForce;
            if in_force {
                *state = RuleState::Discarded;
            }
            in_force
        });
    }
}

struct Shared {
    upstream: kube::Client,
    page_size: Option<u32>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// The proxy; it ends with this value.
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that speaks to the API server as `upstream` does. Lists that are asked for in pages get pages of
    /// `page_size` objects, so that a few objects make many pages.
    pub async fn start(upstream: kube::Client, page_size: Option<u32>) -> Self {
        let shared = Arc::new(Shared {
            upstream,
            page_size,
            rules: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubeconfig = guard::fresh_directory("proxy").unwrap().join("kubeconfig");
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" } }],
            "current-context": "proxy",
        });
        std::fs::write(&kubeconfig, document.to_string()).unwrap();
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            shared,
            kubeconfig,
            serving,
        }
    }

    /// The kubeconfig of this way.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Spoils the requests that `takes` says yes to, by method and path with query.
    pub fn spoil(&self, fault: Fault, takes: impl Fn(&Method, &Uri) -> bool + Send + Sync + 'static) -> Spoiled {
        let rule = Arc::new(Rule {
            fault,
            takes: Box::new(takes),
            hits: AtomicUsize::new(0),
            state: watch::Sender::new(RuleState::InForce),
        });
        self.shared.rules.lock().push(rule.clone());
        Spoiled(rule)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Whether it is a status written to an object of this kind (lower-case plural).
pub fn writes_status_of(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |method, uri| {
        method == Method::PATCH && uri.path().contains(&format!("/{kind}/")) && uri.path().ends_with("/status")
    }
}

/// Whether it creates an object of this kind (lower-case plural).
pub fn creates(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |method, uri| method == Method::POST && uri.path().ends_with(&format!("/{kind}"))
}

/// Whether it deletes an object of this kind (lower-case plural).
pub fn deletes(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |method, uri| method == Method::DELETE && uri.path().contains(&format!("/{kind}/"))
}

/// Whether it asks for a further page of a list of this kind (lower-case plural).
pub fn lists_further_page_of(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |method, uri| {
        method == Method::GET
            && uri.path().ends_with(&format!("/{kind}"))
            && uri.query().is_some_and(|query| query.contains("continue="))
    }
}

/// Whether it watches objects of this kind (lower-case plural).
pub fn watches(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |_, uri| uri.path().ends_with(&format!("/{kind}")) && uri.query().is_some_and(|query| query.contains("watch="))
}

/// Whether it reads one object of this kind (lower-case plural).
pub fn reads(kind: &'static str) -> impl Fn(&Method, &Uri) -> bool {
    move |method, uri| method == Method::GET && uri.path().contains(&format!("/{kind}/"))
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let rules = shared.rules.lock().clone();
    let takes =
        |rule: &&Arc<Rule>| *rule.state.borrow() == RuleState::InForce && (rule.takes)(request.method(), request.uri());
    let Some(rule) = rules.iter().find(takes).cloned() else {
        return pass_on(&shared, request).await;
    };
    let mut state = rule.state.subscribe();
    // The sender is in the rule, so the wait ends by the rule's end alone.
    let mut ended = async || *state.wait_for(|state| *state != RuleState::InForce).await.unwrap();
    match rule.fault {
        Fault::Answer(status) => {
            rule.hits.fetch_add(1, Ordering::SeqCst);
            refusal(status)
        }
        Fault::Tear => {
            rule.hits.fetch_add(1, Ordering::SeqCst);
            let (head, body) = pass_on(&shared, request).await.into_parts();
            let whole = to_bytes(body, BODY_LIMIT).await.unwrap();
            (head.status, whole.slice(..whole.len() / 2)).into_response()
        }
        Fault::Withhold => {
            rule.hits.fetch_add(1, Ordering::SeqCst);
            match ended().await {
                RuleState::Lifted => pass_on(&shared, request).await,
                _ => refusal(500),
            }
        }
        Fault::Delay(longest) => {
            let hits = rule.hits.fetch_add(1, Ordering::SeqCst);
            let share = [1, 7, 3, 0, 5, 2, 8, 4][hits % 8];
            tokio::time::sleep(longest * share / 8).await;
            pass_on(&shared, request).await
        }
        Fault::KeepAnswer => {
            let answer = pass_on(&shared, request).await;
            rule.hits.fetch_add(1, Ordering::SeqCst);
            ended().await;
            answer
        }
    }
}

/// A refusal as the API server words it.
fn refusal(code: u16) -> Response {
    let reason = match code {
        410 => "Expired",
        403 => "Forbidden",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": "spoiled by the test",
    });
    (
        StatusCode::from_u16(code).unwrap(),
        [("content-type", "application/json")],
        body.to_string(),
    )
        .into_response()
}

async fn pass_on(shared: &Shared, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.unwrap();
    if let (Some(size), Some(query)) = (shared.page_size, head.uri.query()) {
        let smaller = |pair: &str| {
            if pair.starts_with("limit=") {
                format!("limit={size}")
            } else {
                pair.to_owned()
            }
        };
        let query: Vec<String> = query.split('&').map(smaller).collect();
        head.uri = format!("{}?{}", head.uri.path(), query.join("&")).parse().unwrap();
    }
    // Those of the connection to here; the client sets its own.
    head.headers.remove("host");
    head.headers.remove("authorization");
    let request = axum::http::Request::from_parts(head, kube::client::Body::from(body));
    match shared.upstream.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
