//! No test in which an operator ran may leave a leaked lease behind.

use std::sync::Arc;

use environment_operator::store::sweep::LEAKED;
use harness::postgres::Database;
use sqlx::{Connection, PgConnection};

/// Looks at the end of its world whether an active lease of an object has outlived its run, by the statement of the gauge.
pub struct LeaksNothing(pub Arc<Database>);

impl Drop for LeaksNothing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let url = self.0.url().to_owned();
        // A destructor cannot wait, and its runtime may be ending: so a thread with a runtime of its own.
        let look = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            runtime.block_on(leaked(&url))
        };
        let leaked = std::thread::spawn(look).join().ok().flatten();
        assert!(
            leaked.is_none_or(|leaked| leaked == 0),
            "the test leaves {leaked:?} leaked leases behind"
        );
    }
}

/// `None` where there is no database any more, or no operator has ever run on it.
async fn leaked(url: &str) -> Option<i64> {
    let mut connection = PgConnection::connect(url).await.ok()?;
    let (operator, _unmanaged): (i64, i64) = sqlx::query_as(LEAKED).fetch_one(&mut connection).await.ok()?;
    Some(operator)
}
