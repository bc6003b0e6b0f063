//! Why a request to the API server failed.

use std::time::Duration;

use crate::cache::object::DecodeError;
use crate::runtime::client::cause;

/// How long one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The object has changed since it was decided upon: look again.
    #[error("the object has changed meanwhile")]
    Conflict,
    /// The object is not there any more.
    #[error("the object is gone")]
    NotFound,
    /// The operator may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {REQUEST_TIMEOUT:?}")]
    Timeout,
    /// Anything else that the API server or the way to it says.
    #[error("{}", cause(.0))]
    Api(kube::Error),
    /// The answer can't be read.
    #[error("the answer can't be read: {0}")]
    Decode(#[from] DecodeError),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict" => Self::Conflict,
            kube::Error::Api(status) if names_an_object(&status) => Self::NotFound,
            kube::Error::Api(status) if status.code == 403 => Self::Forbidden(status.message),
            error => Self::Api(error),
        }
    }
}

/// Whether a 404 speaks of the object and not of its whole kind.
fn names_an_object(status: &kube::core::Status) -> bool {
    let name = status.details.as_ref().map_or("", |details| &details.name);
    status.code == 404 && status.reason == "NotFound" && !name.is_empty()
}

impl ClusterError {
    /// What the API server says about a request that it has refused for good, for as long as things are as they are: nothing
    /// was done, and nothing will be.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::NotFound => Some("the namespace is gone".to_owned()),
            Self::Forbidden(message) => Some(message.clone()),
            Self::Api(kube::Error::Api(status)) => {
                let for_good = (400..500).contains(&status.code) && ![401, 408, 409, 429].contains(&status.code);
                for_good.then(|| status.message.clone())
            }
            Self::Conflict | Self::Timeout | Self::Api(_) | Self::Decode(_) => None,
        }
    }

    /// What a user may be told, the same words at every try.
    pub fn sentence(&self) -> String {
        self.refusal().unwrap_or_else(|| match self {
            Self::Timeout => self.to_string(),
            _ => "the API server could not do it; the operator's log says why".to_owned(),
        })
    }
}
