//! The workers on a fake cluster and a fake database, under a leadership that comes and goes, with time that is moved by hand.

use std::pin::pin;

use futures::poll;
use parking_lot::Mutex;

use super::*;
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler};
use crate::runtime::health::Health;
use crate::runtime::leadership::{Answer as RowAnswer, Elector, Request};
use crate::runtime::metrics::Metrics;
use crate::store::{Leader, StoreError};

/// How the leadership's row answers: with the epoch of this replica's term, that another one leads, or not at all.
type Answer = Option<Option<i64>>;

/// A replica whose workers have not begun.
struct Replica {
    world: Arc<FakeReconcilers>,
    leadership: Leadership,
    row: Arc<Mutex<Answer>>,
    searched: watch::Sender<Option<i64>>,
}

impl Replica {
    /// A replica that leads in the epoch 1, and has looked for what was deleted unseen.
    async fn leading() -> Self {
        let world = reconciler();
        world.context.queue.close();
        let health = Health::new(Duration::from_secs(110));
        let (elector, leadership) = Elector::new(Duration::from_secs(15), health, Arc::new(Metrics::new()));
        let row: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Some(Some(1))));
        let asked = row.clone();
        let ask = move |_: Request| {
            let answer = *asked.lock();
            async move {
                let away = || StoreError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut));
                let leader = |epoch| Leader {
                    cluster: "cluster".to_owned(),
                    installation: "default".to_owned(),
                    epoch,
                    incarnation: 1,
                };
                let left = Duration::from_secs(15);
                answer
                    .ok_or_else(away)
                    .map(|epoch| epoch.map_or(RowAnswer::Led { left }, |epoch| RowAnswer::Held(leader(epoch))))
            }
        };
        tokio::spawn(elector.run(ask, CancellationToken::new()));
        let replica = Self {
            world,
            leadership,
            row,
            searched: watch::Sender::new(Some(1)),
        };
        replica.reach(LeadershipState::Leading { epoch: 1 }).await;
        replica
    }

    fn work(&self) -> impl Future<Output = ()> + Send + 'static {
        let (world, leadership) = (self.world.clone(), self.leadership.clone());
        work(world, leadership, self.searched.subscribe(), CancellationToken::new())
    }

    /// From here on the leadership's row answers so.
    fn answer(&self, answer: Answer) {
        *self.row.lock() = answer;
    }

    async fn reach(&self, state: LeadershipState) {
        let mut states = self.leadership.state();
        let reached = states.wait_for(|current| *current == state);
        timeout(Duration::from_secs(600), reached).await.unwrap().unwrap();
    }

    /// A company with the environment `box`, which admits one lease at once.
    fn make_box(&self) {
        self.world.make_namespace(namespace("team", 1));
        self.world.make_environment(environment("team", "box", 2));
    }

    fn phase(&self, lease: &str) -> Option<String> {
        self.world.shown("team", lease).map(|[phase, ..]| phase)
    }
}

#[tokio::test(start_paused = true)]
async fn no_key_of_a_new_term_is_taken_before_what_was_deleted_unseen_is_known() {
    let replica = Replica::leading().await;
    tokio::spawn(replica.work());
    replica.make_box();
    replica.world.make_lease(claim("team", "x", 10, "box"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(replica.phase("x").as_deref(), Some("Active"));
    // The database goes away for longer than the term, and keys are tried again and again meanwhile.
    replica.answer(None);
    replica.reach(LeadershipState::Lapsed { epoch: 1 }).await;
    replica.world.make_lease(claim("team", "y", 11, "box"));
    sleep(Duration::from_secs(1)).await;
    replica.answer(Some(Some(2)));
    replica.reach(LeadershipState::Leading { epoch: 2 }).await;
    let looks = replica.world.database.looks();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(replica.world.database.looks(), looks, "taken before");
    replica.searched.send_replace(Some(2));
    sleep(Duration::from_secs(1)).await;
    assert!(replica.world.database.looks() > looks);
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_also_where_the_end_of_the_one_before_passed_unnoticed() {
    let replica = Replica::leading().await;
    let mut work = pin!(replica.work());
    assert!(poll!(&mut work).is_pending());
    assert_eq!(replica.world.context.cache().term(), 1);
    // The workers are not run while this replica is deposed and leads again.
    replica.answer(Some(None));
    replica.reach(LeadershipState::Following).await;
    replica.answer(Some(Some(2)));
    replica.reach(LeadershipState::Leading { epoch: 2 }).await;
    replica.searched.send_replace(Some(2));
    assert!(poll!(&mut work).is_pending());
    assert_eq!(replica.world.context.cache().term(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_back_also_where_telling_of_its_failure_panics() {
    let replica = Replica::leading().await;
    tokio::spawn(replica.work());
    replica.make_box();
    sleep(Duration::from_secs(5)).await;
    replica.world.database.set_away(true);
    replica.world.cluster.before_next_patch(|| panic!("as the test says"));
    replica.world.make_lease(claim("team", "x", 10, "box"));
    sleep(Duration::from_secs(1)).await;
    replica.world.database.set_away(false);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(replica.phase("x").as_deref(), Some("Active"));
}
