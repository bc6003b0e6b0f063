//! What a company with much to do costs another one: the time of a grant alone, and beside thousands of keys of the other company
//! that are due at once.

use std::time::{Duration, Instant};

use environment_operator::api::LeasePhase;
use futures::StreamExt as _;
use harness::wait::until;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{WatchEvent, WatchParams};
use uuid::Uuid;

use super::{PATIENCE, at_once, claims, phase_of};
use crate::support::{Claim, GRACE, TestEnvironment, lease, scope};

/// How many grants are measured alone, and beside the other company at the most.
const GRANTS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of some minutes: make benchmark"]
async fn a_grant_beside_another_company_with_thousands_of_due_keys() {
    let number = std::env::var("BENCHMARK_DUE").map_or(5000, |number| number.parse().unwrap());
    let quiet = TestEnvironment::new("quiet").await;
    let noisy = quiet.beside(quiet.control_plane(), "noisy", []).await;
    let worlds = [quiet, noisy];
    let arguments = [scope(&worlds), "--log=warn".to_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    let [quiet, noisy] = &worlds;
    let mut operator = quiet.start_with(&arguments).await;
    noisy.granted(lease("first")).await;
    let waiting = claims(noisy, "noise", number).await;
    // What comes once only, a company's row and its Local, is made before.
    grant(quiet, lease("first")).await;
    let mut alone = Vec::new();
    for claim in claims(quiet, "alone", GRANTS).await {
        alone.push(grant(quiet, claim).await);
    }
    let beside = claims(quiet, "beside", GRANTS).await;
    operator.stop(GRACE).await.unwrap();

    at_once(waiting.iter().map(|claim| noisy.claim(claim.clone()))).await;
    let _operator = quiet.start_with(&arguments).await;
    until(PATIENCE, async || match granted(noisy).await {
        few if few < 2 => Err("the other company's claims are not taken up yet".to_owned()),
        _ => Ok(()),
    })
    .await
    .unwrap();
    let mut together = Vec::new();
    for claim in beside {
        let took = grant(quiet, claim).await;
        // The last one may have ended after the noise did.
        if granted(noisy).await > number {
            break;
        }
        together.push(took);
    }
    let still = number + 1 - granted(noisy).await;
    assert!(
        together.len() > 2,
        "there was too little noise: set BENCHMARK_DUE higher"
    );
    let ((alone, shown_alone), (beside, shown_beside)) = (median(&alone), median(&together));
    println!("alone: {alone}");
    println!(
        "beside {number} due keys of another company ({} grants, after which {still} of those were still waiting): {beside}; ratio {:.2}",
        together.len(),
        shown_beside.div_duration_f64(shown_alone)
    );
}

/// When a grant had come how far, from the moment when its claim was sent.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// The API server had stored the claim.
    made: Duration,
    /// The transaction of its row had begun.
    written: Duration,
    /// The object showed that it was granted.
    shown: Duration,
}

/// How long it takes from the claim until its object shows that it is granted.
async fn grant(world: &TestEnvironment<'_>, claim: Claim) -> Took {
    let (started, moment) = (Instant::now(), Timestamp::now());
    let object = world.claim(claim).await;
    let made = started.elapsed();
    let parameters = WatchParams::default().fields(&format!("metadata.name={}", object.name_any()));
    let version = object.resource_version().unwrap();
    let events = world.leases().watch(&parameters, &version).await.unwrap();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if let WatchEvent::Modified(lease) = event.unwrap()
            && phase_of(&lease) == Some(LeasePhase::Active)
        {
            let shown = started.elapsed();
            // Both clocks are this machine's.
            let seconds: f64 = sqlx::query_scalar(
                "SELECT extract(epoch FROM acquired_at)::float8 FROM environment_leases WHERE id = $1",
            )
            .bind(lease.uid().unwrap().parse::<Uuid>().unwrap())
            .fetch_one(&world.pool)
            .await
            .unwrap();
            let begun =
                f64::from(u32::try_from(moment.as_second()).unwrap()) + f64::from(moment.subsec_nanosecond()) / 1e9;
            let written = Duration::from_secs_f64((seconds - begun).max(0.0));
            return Took { made, written, shown };
        }
    }
    panic!("the watch ended before the lease was granted")
}

/// How many leases of a world's company are granted, by their rows: that asks the API server, which is busy, for nothing.
async fn granted(world: &TestEnvironment<'_>) -> usize {
    let rows = "SELECT count(*) FROM environment_leases WHERE company_id = $1 AND status = 'active'";
    let count: i64 = sqlx::query_scalar(rows)
        .bind(world.company())
        .fetch_one(&world.pool)
        .await
        .unwrap();
    usize::try_from(count).unwrap()
}

/// The medians of each step, as text, and that of the whole.
fn median(grants: &[Took]) -> (String, Duration) {
    let of = |step: fn(&Took) -> Duration| {
        let mut times: Vec<Duration> = grants.iter().map(step).collect();
        times.sort();
        times[times.len() / 2]
    };
    let steps = [of(|took| took.made), of(|took| took.written), of(|took| took.shown)];
    let [made, written, shown] = steps.map(|step| format!("{:.0}", step.as_secs_f64() * 1e3));
    let text = format!("claim stored after {made} ms, row written after {written} ms, shown after {shown} ms");
    (text, steps[2])
}
