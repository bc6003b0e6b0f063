//! A heartbeat shows in the row: when the lease was last used.

use std::time::Duration;

use uuid::Uuid;

use crate::store::columns::bind_arrays;
use crate::store::{Access, Leader, Request, Store, StoreError};

/// How far `last_used_at` moves at least: an update of it touches an index, so not every heartbeat is worth one.
pub const TOUCH_INTERVAL: Duration = Duration::from_secs(60);

/// A lease that has beaten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Id of the row.
    pub id: Uuid,
    /// How long ago its last heartbeat was heard.
    pub ago: Duration,
}

/// Whether a heartbeat `ago` before `now` is worth a write.
pub fn is_worth_a_touch(now: jiff::Timestamp, last_used_at: jiff::Timestamp, ago: Duration) -> bool {
    now.saturating_sub(ago).is_ok_and(|beaten| {
        Duration::try_from(beaten.duration_since(last_used_at)).is_ok_and(|moved| moved >= TOUCH_INTERVAL)
    })
}

/// Moves `last_used_at` of active leases to their last heartbeat, by the database's clock, where that is at least
/// [`TOUCH_INTERVAL`] further. A row that another transaction holds is left for the next time.
impl Request for Touch {
    type Outcome = ();

    const NAME: &'static str = "touch_lease";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        self.id
    }

    async fn carry_out(store: &Store, leader: &Leader, touches: &[Self]) -> Result<Vec<()>, StoreError> {
        let query = sqlx::query_scalar(TOUCH)
            .bind(&leader.cluster)
            .bind(&leader.installation)
            .bind(leader.epoch);
        let query = bind_arrays!(query, TOUCH, touches, |touch| {
            id: touch.id,
            ago: touch.ago.as_secs_f64(),
        });
        let led: bool = query.bind(TOUCH_INTERVAL.as_secs_f64()).fetch_one(&store.pool).await?;
        if led {
            Ok(vec![(); touches.len()])
        } else {
            Err(StoreError::Deposed)
        }
    }
}

const TOUCH: &str = r#"
WITH leader AS MATERIALIZED (
  SELECT epoch FROM environment_operator.lead
  WHERE cluster = $1 AND installation = $2 AND epoch = $3
  FOR KEY SHARE
),
asked AS MATERIALIZED (
  SELECT t.id, date_trunc('milliseconds', clock_timestamp() - make_interval(secs => t.ago)) AS beaten_at
  FROM leader CROSS JOIN unnest($4::uuid[], $5::float8[]) AS t(id, ago)
),
held AS MATERIALIZED (
  SELECT l.id FROM public.environment_leases AS l
  WHERE l.id = ANY (ARRAY (SELECT id FROM asked)) AND l.status = 'active'
  ORDER BY l.id FOR NO KEY UPDATE OF l SKIP LOCKED
),
touched AS (
  UPDATE public.environment_leases AS l
  SET last_used_at = asked.beaten_at, updated_at = date_trunc('milliseconds', clock_timestamp())
  FROM asked
  WHERE l.id = asked.id AND l.id = ANY (ARRAY (SELECT id FROM held)) AND l.status = 'active'
    AND l.last_used_at <= asked.beaten_at - make_interval(secs => $6)
)
SELECT EXISTS (SELECT FROM leader)
"#;
