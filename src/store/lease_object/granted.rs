//! Whether a lease was ever granted, asked of the keys alone.

use sqlx::FromRow;
use uuid::Uuid;

use crate::store::{Access, Leader, Request, Store, StoreError, column};

/// Asks whether a lease (by the uid of its object) has a row, or had one. No value but keys is read, so it is answered where a look
/// at everything fails for what else the rows hold. Policies hide nothing: a session in which they would refuses to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasGranted(pub Uuid);

/// What the keys tell of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct GrantProof {
    /// uid of the object.
    pub id: Uuid,
    /// The database's clock.
    #[sqlx(try_from = "jiff_sqlx::Timestamp")]
    pub now: jiff::Timestamp,
    /// Whether the asking leader's term still runs: then nobody else can grant it, and the absence of a grant is proof.
    pub leading: bool,
    /// Whether it has a row, or had one.
    pub granted: bool,
}

/// Takes no locks and writes nothing. A deposed replica may ask (`leading` tells).
impl Request for WasGranted {
    type Outcome = GrantProof;

    const NAME: &'static str = "was_granted";

    const ACCESS: Access = Access::Read;

    fn key(&self) -> Uuid {
        self.0
    }

    async fn carry_out(store: &Store, leader: &Leader, leases: &[Self]) -> Result<Vec<GrantProof>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT asked.id, moment.now, EXISTS (
               SELECT FROM environment_operator.lead
               WHERE cluster = $1 AND installation = $2 AND epoch = $3 AND expires_at > moment.now
             ) AS leading,
             EXISTS (SELECT FROM public.environment_leases AS l WHERE l.id = asked.id)
               OR EXISTS (SELECT FROM environment_operator.lease_object AS o WHERE o.id = asked.id) AS granted
             FROM unnest($4::uuid[]) WITH ORDINALITY AS asked(id, place)
             CROSS JOIN (SELECT clock_timestamp() AS now) AS moment
             ORDER BY asked.place",
        )
        .bind(&leader.cluster)
        .bind(&leader.installation)
        .bind(leader.epoch)
        .bind(column(leases, |lease| lease.0))
        .fetch_all(&store.pool)
        .await?)
    }
}
