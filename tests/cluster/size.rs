//! What the operator needs: memory and processor time of a leader and of a follower, idle and at work. Printed and never
//! asserted. `make size` calls it, with the operator built for release.

use std::time::{Duration, Instant};

use environment_operator::api::LeasePhase;
use harness::operator::Operator;

use crate::benchmark::{all_show, at_once, claims};
use crate::support::{GRACE, TestEnvironment};

/// How many leases are held at each stage; the difference is claimed at once.
const STAGES: [usize; 4] = [0, 1_000, 4_000, 10_000];

/// How long the operators are watched while nothing happens: two sweeps.
const IDLE: Duration = Duration::from_secs(60);

/// How long the last of the work may take after the last lease shows.
const SETTLING: Duration = Duration::from_secs(10);

/// What a process has used since its start.
struct Usage {
    at: Instant,
    /// Processor time, in seconds.
    processor: f64,
    /// Resident now and at the most, in MiB.
    resident: (u64, u64),
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of some minutes: make size"]
async fn memory_and_processor_time_of_a_leader_and_a_follower() {
    let world = TestEnvironment::new("size").await;
    // As they run in a cluster; the world's own settings are those of tests.
    let arguments = ["--log=info", "--sweep-interval=30s", "--resync-interval=10m"];
    let mut leader = world.start_with(&arguments).await;
    let mut follower = world.start_with(&arguments).await;
    println!("| leases | | leader: resident, peak | processor | follower: resident, peak | processor |");
    println!("|---|---|---|---|---|---|");
    let mut held = 0;
    for leases in STAGES {
        if leases > held {
            let claims = claims(&world, &format!("of-{leases}"), leases - held).await;
            let before = usages(&leader, &follower);
            at_once(claims.iter().map(|claim| world.claim(claim.clone()))).await;
            all_show(&world, "active", LeasePhase::Active, leases).await;
            let stage = format!("{} claims at once, granted in", leases - held);
            print(leases, &stage, before, usages(&leader, &follower));
            held = leases;
            tokio::time::sleep(SETTLING).await;
        }
        let before = usages(&leader, &follower);
        tokio::time::sleep(IDLE).await;
        print(leases, "idle for", before, usages(&leader, &follower));
    }
    follower.stop(GRACE).await.unwrap();
    leader.stop(GRACE).await.unwrap();
}

fn usages(leader: &Operator, follower: &Operator) -> [Usage; 2] {
    [leader, follower].map(|operator| usage(operator.id()))
}

fn print(leases: usize, stage: &str, before: [Usage; 2], after: [Usage; 2]) {
    let seconds = (after[0].at - before[0].at).as_secs_f64();
    let cell = |before: &Usage, after: &Usage| {
        let (resident, peak) = after.resident;
        let processor = after.processor - before.processor;
        format!(
            "{resident} MiB, {peak} MiB | {processor:.2} s = {:.0} m",
            processor / seconds * 1000.0
        )
    };
    let ([leader, follower], [leader_after, follower_after]) = (before, after);
    println!(
        "| {leases} | {stage} {seconds:.0} s | {} | {} |",
        cell(&leader, &leader_after),
        cell(&follower, &follower_after)
    );
}

/// From `/proc`, where times are in hundredths of a second and sizes in KiB.
fn usage(process: u32) -> Usage {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
    let (stat, status) = (read("stat"), read("status"));
    // After the name, which may hold anything: fields 14 and 15 are the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11..13].iter().map(|field| field.parse::<u32>().unwrap()).sum();
    let mebibytes = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    Usage {
        at: Instant::now(),
        processor: f64::from(ticks) / 100.0,
        resident: (mebibytes("VmRSS:"), mebibytes("VmHWM:")),
    }
}
