//! Supervised tasks: one that ends before it is asked to stop ends the process, with a message that names it. The kubelet
//! starts the process again, and everything is reconciled afresh; a process that goes on without one of its parts does not
//! notice that it is half dead.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How a task ended that should not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnded {
    /// It came to its end.
    #[error("the task \"{0}\" ended without having been told to")]
    Ended(String),
    #[error("the task \"{name}\" panicked: {message}")]
    Panicked {
        name: String,
        /// What it said.
        message: String,
    },
}

/// Tasks that are expected to run until `stop`; cheap to clone.
#[derive(Clone, Debug)]
pub struct Supervisor {
    tasks: Arc<Mutex<JoinSet<()>>>,
    first: watch::Sender<Option<TaskEnded>>,
    stop: CancellationToken,
}

impl Supervisor {
    /// A supervisor without tasks. Once `stop` is cancelled they may end.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            tasks: Arc::default(),
            first: watch::Sender::new(None),
            stop,
        }
    }

    /// Runs a task. `name` stands in the sentence about its end.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future + Send + 'static) {
        let (name, first, stop) = (name.into(), self.first.clone(), self.stop.clone());
        self.lock().spawn(async move {
            let ended = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(_) if stop.is_cancelled() => return,
                Ok(_) => TaskEnded::Ended(name),
                Err(panic) => TaskEnded::Panicked {
                    name,
                    message: message_of(panic.as_ref()),
                },
            };
            tracing::error!(error = %ended, "a part of the process is gone: the process ends");
            first.send_if_modified(|first| {
                let news = first.is_none();
                first.get_or_insert(ended);
                news
            });
        });
    }

    /// Waits until a task has ended that should not have; for ever where none does.
    pub async fn ended(&self) -> TaskEnded {
        let mut first = self.first.subscribe();
        let ended = first
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|ended| ended.clone());
        match ended {
            Some(ended) => ended,
            None => std::future::pending().await, // this value holds the sender
        }
    }

    /// Does `work` as long as all tasks run.
    ///
    /// # Errors
    /// The first task that ended although it should not have; the work is dropped then.
    pub async fn guard<Work: Future>(&self, work: Work) -> Result<Work::Output, TaskEnded> {
        tokio::select! {
            done = work => Ok(done),
            ended = self.ended() => Err(ended),
        }
    }

    /// Waits until all tasks have ended, which those that were told to stop do by themselves.
    pub async fn join(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// Ends all tasks where they stand.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Nothing panics while it is held.
        self.tasks.lock()
    }
}

/// What a panic said, as far as it is text.
pub fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it did not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (Supervisor, CancellationToken) {
        let stop = CancellationToken::new();
        (Supervisor::new(stop.clone()), stop)
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_ends_the_work_with_a_sentence_that_names_it() {
        for (panics, sentence) in [
            (false, "the task \"watch Job\" ended without having been told to"),
            (true, "the task \"watch Job\" panicked: no such Job"),
        ] {
            let (tasks, _stop) = supervisor();
            tasks.spawn("sweep", std::future::pending::<()>());
            tasks.spawn("watch Job", async move {
                tokio::task::yield_now().await;
                assert!(!panics, "no such Job");
            });
            let ended = tasks.guard(std::future::pending::<()>()).await.unwrap_err();
            assert_eq!(ended.to_string(), sentence);
        }
    }

    #[tokio::test]
    async fn tasks_that_are_told_to_stop_end_without_a_word() {
        let (tasks, stop) = supervisor();
        let told = stop.clone();
        tasks.spawn("sweep", async move { told.cancelled().await });
        stop.cancel();
        assert_eq!(tasks.guard(tasks.join()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_panics_while_it_is_told_to_stop_is_told_of_too() {
        let (tasks, stop) = supervisor();
        stop.cancel();
        tasks.spawn("sweep", async { panic!("{} rows", 3) });
        let ended = tasks.ended().await;
        assert_eq!(ended.to_string(), "the task \"sweep\" panicked: 3 rows");
    }

    #[tokio::test]
    async fn what_is_shut_down_is_no_end_that_is_told_of() {
        let (tasks, _stop) = supervisor();
        tasks.spawn("sweep", std::future::pending::<()>());
        tasks.shutdown().await;
        assert_eq!(tasks.ended().now_or_never(), None);
    }
}
