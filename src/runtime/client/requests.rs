//! Requests to the API server, measured on their way: by verb and by what came of them.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Method, Request, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::Service;

use crate::runtime::metrics::Metrics;

/// A service that measures each request to the one inside, up to the head of the answer: a watch goes on for long after that.
#[derive(Clone, Debug)]
pub(super) struct Measured<S> {
    pub(super) inner: S,
    pub(super) metrics: Arc<Metrics>,
}

impl<S, A, B> Service<Request<A>> for Measured<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let verb = verb(request.method(), request.uri().path(), request.uri().query());
        let (metrics, begun) = (Arc::clone(&self.metrics), Instant::now());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            metrics.cluster.requested(verb, code, begun.elapsed());
            answer
        }
        .boxed()
    }
}

/// The verb by which rights are given, from a request's method and place:
/// `/api/<version>/…` or `/apis/<group>/<version>/…`, then perhaps `namespaces/<namespace>`, the resource, perhaps a name.
fn verb(method: &Method, path: &str, query: Option<&str>) -> &'static str {
    match *method {
        Method::POST => return "create",
        Method::PATCH => return "patch",
        Method::PUT => return "update",
        Method::DELETE => return "delete",
        _ => {}
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let inside = match parts.as_slice() {
        ["api", _, inside @ ..] | ["apis", _, _, inside @ ..] => inside,
        _ => &[],
    };
    let watches = query.is_some_and(|query| query.split('&').any(|part| part == "watch=true" || part == "watch=1"));
    match inside {
        [] => "discover",
        _ if watches => "watch",
        [_] | ["namespaces", _, _] => "list",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_that_of_the_right_that_a_request_needs() {
        let leases = "/apis/paperclip.ing/v1alpha1/environmentleases";
        let job = "/apis/batch/v1/namespaces/team/jobs/run";
        for (method, path, query, expected) in [
            (Method::GET, leases, Some("limit=500"), "list"),
            (Method::GET, leases, Some("watch=true&timeoutSeconds=55"), "watch"),
            (Method::GET, "/apis/batch/v1/namespaces/team/jobs", None, "list"),
            (Method::GET, job, None, "get"),
            (Method::GET, "/api/v1/namespaces", None, "list"),
            (Method::GET, "/api/v1/namespaces/kube-system", None, "get"),
            (Method::GET, "/apis/batch/v1", None, "discover"),
            (Method::GET, "/version", None, "discover"),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/team/events",
                None,
                "create",
            ),
            (Method::PATCH, job, Some("fieldManager=x"), "patch"),
            (Method::DELETE, job, None, "delete"),
        ] {
            assert_eq!(verb(&method, path, query), expected, "{method} {path}");
        }
    }
}
