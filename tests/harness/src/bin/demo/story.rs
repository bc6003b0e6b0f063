//! The story.

use anyhow::{Result, ensure};
use sqlx::types::Uuid;

use crate::stage::{Stage, chapter, say};

/// How many leases race for the Local.
const RACERS: usize = 8;

/// Tells it from the beginning to the end; an error where something did not happen as told.
pub async fn tell(stage: &Stage) -> Result<()> {
    environments_appear(stage).await?;
    a_race_for_the_local(stage).await?;
    let runs = runs_take_leases(stage).await?;
    runs_end(stage, &runs).await?;
    what_people_end(stage).await?;
    both_sides(stage).await?;
    proof(stage).await
}

async fn environments_appear(stage: &Stage) -> Result<()> {
    chapter("Environments appear");
    say("A box over SSH, a provider's sandbox, a plugin's: each becomes a row that the Paperclip server can read.");
    for example in ["examples/ssh.yaml", "examples/sandbox.yaml", "examples/plugin.yaml"] {
        stage.kubectl(&["apply", "--filename", example]).await?;
    }
    stage.wait_for("condition=Ready", &["environments", "--all"]).await?;
    stage.kubectl(&["get", "environments"]).await
}

async fn a_race_for_the_local(stage: &Stage) -> Result<()> {
    chapter("Eight leases race for a Local that does not exist yet");
    say("None of them names an environment, so each asks for the company's Local. Nobody has made one.");
    let racers: Vec<String> = (1..=RACERS)
        .map(|racer| lease(&format!("racer-{racer}"), "ttlSeconds: 600"))
        .collect();
    stage.apply(&racers.join("---\n")).await?;
    let names: Vec<String> = (1..=RACERS).map(|racer| format!("envlease/racer-{racer}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.wait_for("condition=Active", &names).await?;
    stage.kubectl(&["get", "environments,environmentleases"]).await?;
    stage
        .psql("SELECT id, name, driver, status FROM environments WHERE driver = 'local'")
        .await?;
    let shared: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM environment_leases AS l JOIN environments AS e ON e.id = l.environment_id
         WHERE e.driver = 'local' AND l.status = 'active'",
    )
    .fetch_one(&stage.pool)
    .await?;
    let locals: i64 = sqlx::query_scalar("SELECT count(*) FROM environments WHERE driver = 'local'")
        .fetch_one(&stage.pool)
        .await?;
    ensure!(
        (shared, locals) == (RACERS as i64, 1),
        "{shared} leases on {locals} Locals"
    );
    say("\nOne row, one object, eight leases on it.");
    Ok(())
}

async fn runs_take_leases(stage: &Stage) -> Result<Vec<Uuid>> {
    chapter("Runs take leases");
    say(
        "Four heartbeat runs as the Paperclip server makes them (by SQL), and three Jobs as a runner's author writes them.",
    );
    let company: Uuid = sqlx::query_scalar("SELECT id FROM companies LIMIT 1")
        .fetch_one(&stage.pool)
        .await?;
    let agent: Uuid = sqlx::query_scalar("INSERT INTO agents (company_id, name) VALUES ($1, 'Ada') RETURNING id")
        .bind(company)
        .fetch_one(&stage.pool)
        .await?;
    let runs: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO heartbeat_runs (company_id, agent_id, status, started_at)
         SELECT $1, $2, 'running', now() FROM generate_series(1, 4) RETURNING id",
    )
    .bind(company)
    .bind(agent)
    .fetch_all(&stage.pool)
    .await?;
    let of_runs = runs.iter().enumerate().map(|(number, run)| {
        lease(
            &format!("run-{}", number + 1),
            &format!("run: {{ heartbeatRunId: {run} }}"),
        )
    });
    let of_jobs = ["fails", "vanishes"].map(|name| {
        let reference = format!("run: {{ objectRef: {{ apiVersion: batch/v1, kind: Job, name: {name} }} }}");
        lease(name, &reference)
    });
    let manifests: Vec<String> = of_runs.chain(of_jobs).collect();
    stage.apply(&manifests.join("---\n")).await?;
    stage
        .apply(&[job("fails", "sleep 2; exit 3"), job("vanishes", "sleep 600")].join("---\n"))
        .await?;
    stage
        .kubectl(&["apply", "--filename", "examples/job-with-lease.yaml"])
        .await?;
    let held = ["run-1", "run-2", "run-3", "run-4", "vanishes"].map(|name| format!("envlease/{name}"));
    let held: Vec<&str> = held.iter().map(String::as_str).collect();
    stage.wait_for("condition=Active", &held).await?;
    say("\nThe Job's init container waits for its lease with kubectl, and its own few rights:");
    stage.wait_for("condition=Active", &["envlease/build"]).await?;
    stage
        .kubectl(&["get", "environmentlease", "build", "fails", "run-1", "--output=wide"])
        .await?;
    Ok(runs)
}

async fn runs_end(stage: &Stage, runs: &[Uuid]) -> Result<()> {
    chapter("Runs finish, fail, are cancelled, vanish");
    for (run, status) in runs.iter().zip(["succeeded", "failed", "cancelled"]) {
        sqlx::query("UPDATE heartbeat_runs SET status = $2, finished_at = now() WHERE id = $1")
            .bind(run)
            .bind(status)
            .execute(&stage.pool)
            .await?;
    }
    let mut gone = stage.pool.begin().await?;
    for statement in [
        "DELETE FROM activity_log WHERE run_id = $1",
        "DELETE FROM heartbeat_runs WHERE id = $1",
    ] {
        sqlx::query(statement).bind(runs[3]).execute(&mut *gone).await?;
    }
    gone.commit().await?;
    stage.quietly(&["delete", "job", "vanishes", "--wait=false"]).await?;
    let ended =
        ["run-1", "run-2", "run-3", "run-4", "vanishes", "fails", "build"].map(|name| format!("envlease/{name}"));
    let ended: Vec<&str> = ended.iter().map(String::as_str).collect();
    stage.wait_for("condition=Finished", &ended).await?;
    stage.kubectl(&["get", "environmentleases"]).await
}

async fn what_people_end(stage: &Stage) -> Result<()> {
    chapter("What people end");
    say("One lease is released, one deleted, one outlives its time, and one loses its environment.");
    let soon = [
        lease("impatient", "ttlSeconds: 2"),
        lease("homeless", "environmentRef: { name: scratch }"),
    ];
    stage.apply(&soon.join("---\n")).await?;
    stage.wait_for("condition=Active", &["envlease/homeless"]).await?;
    let release = [
        "patch",
        "environmentlease",
        "racer-1",
        "--type=merge",
        "--patch={\"spec\":{\"release\":true}}",
    ];
    stage.kubectl(&release).await?;
    stage.kubectl(&["delete", "environmentlease", "racer-2"]).await?;
    stage.kubectl(&["delete", "environment", "scratch"]).await?;
    let ended = ["envlease/racer-1", "envlease/impatient", "envlease/homeless"];
    stage.wait_for("condition=Finished", &ended).await
}

async fn both_sides(stage: &Stage) -> Result<()> {
    chapter("The same story on both sides");
    stage.kubectl(&["get", "penv,envlease"]).await?;
    stage
        .psql(
            "SELECT o.name, l.status, o.reason, o.message, l.released_at IS NOT NULL AS ended
             FROM environment_leases AS l JOIN environment_operator.lease_object AS o USING (id) ORDER BY o.name",
        )
        .await
}

async fn proof(stage: &Stage) -> Result<()> {
    // The deleted lease has no object to wait for: its row is what is waited for.
    harness::wait::until(std::time::Duration::from_secs(30), async || {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM environment_leases WHERE status = 'active'")
            .fetch_one(&stage.pool)
            .await
            .map_err(|error| error.to_string())?;
        let expected = RACERS as i64 - 2;
        if open == expected {
            Ok(())
        } else {
            Err(format!("{open} leases are active, {expected} should be"))
        }
    })
    .await
    .map_err(anyhow::Error::msg)?;
    let (granted, ended, unexplained, leaked): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE l.status <> 'active'),
           count(*) FILTER (WHERE l.status <> 'active' AND o.reason IS NULL),
           count(*) FILTER (WHERE l.status = 'active' AND o.run_id IS NOT NULL AND r.status IS DISTINCT FROM 'running')
         FROM environment_leases AS l JOIN environment_operator.lease_object AS o USING (id)
         LEFT JOIN heartbeat_runs AS r ON r.id = o.run_id",
    )
    .fetch_one(&stage.pool)
    .await?;
    ensure!(
        unexplained == 0 && leaked == 0,
        "{unexplained} endings without a reason, {leaked} leases leaked"
    );
    say(&format!(
        "\nProven: {granted} leases granted, {ended} ended, each with its reason in Kubernetes and in Postgres; \
         the other {} are held on, and none has leaked.",
        granted - ended
    ));
    Ok(())
}

fn lease(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: paperclip.ing/v1alpha1\nkind: EnvironmentLease\nmetadata: {{ name: {name} }}\nspec:\n  {spec}\n"
    )
}

fn job(name: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{ name: {name} }}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      \
         restartPolicy: Never\n      containers: [{{ name: run, image: \"busybox:1.37\", command: [sh, -c], args: [\"{script}\"] }}]\n"
    )
}
