//! The orderly end: a signal stops the intake, what was begun is finished, leadership is given up last.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT. Must be called within the runtime, once.
///
/// # Errors
///
/// Where the process may not install handlers of signals.
pub fn stop_on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        stop.cancel();
    });
    Ok(())
}

/// Runs `work` to its end; once `stop` is cancelled, for `limit` at most. `None`: it was not done in time and is dropped,
/// which loses nothing, for what is not committed is decided again at the next start.
pub async fn drain<Work: Future>(work: Work, stop: &CancellationToken, limit: Duration) -> Option<Work::Output> {
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => Some(outcome),
        () = stop.cancelled() => timeout(limit, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn work_that_is_told_to_stop_may_finish_what_it_began() {
        let stop = CancellationToken::new();
        stop.cancel();
        let work = async {
            sleep(Duration::from_secs(9)).await;
            "flushed"
        };
        assert_eq!(drain(work, &stop, LIMIT).await, Some("flushed"));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_dropped_after_the_limit() {
        let stop = CancellationToken::new();
        let begin = Instant::now();
        tokio::spawn({
            let stop = stop.clone();
            async move {
                sleep(Duration::from_secs(3_600)).await;
                stop.cancel();
            }
        });
        assert_eq!(drain(std::future::pending::<()>(), &stop, LIMIT).await, None);
        assert_eq!(begin.elapsed(), Duration::from_secs(3_610));
    }
}
