//! A Prometheus of a test's own.

use std::time::Duration;

use harness::guard;
use harness::prometheus::{Prometheus, promtool};
use harness::wait::eventually;

#[tokio::test]
async fn a_prometheus_scrapes_what_it_is_told_to_and_says_what_is_no_query() {
    let first = Prometheus::start("nothing", &[], &[]).await.unwrap();
    let second = Prometheus::start("the first", &[first.port()], &[]).await.unwrap();
    eventually("it has scraped the first", Duration::from_secs(30), async || {
        let up = second
            .query(r#"up{job="the first"} == 1"#)
            .await
            .map_err(|error| error.to_string())?;
        if up.len() == 1 { Ok(()) } else { Err(format!("{up:?}")) }
    })
    .await;
    let refused = second.query("up{").await.unwrap_err().to_string();
    assert!(refused.contains("parse error"), "{refused}");
}

#[tokio::test]
async fn promtool_tells_what_is_wrong_with_a_rule() {
    let file = guard::fresh_directory("rule").unwrap().join("rules.yaml");
    let rules = "groups:\n  - name: wrong\n    rules:\n      - alert: Wrong\n        expr: sum(\n";
    std::fs::write(&file, rules).unwrap();
    let refused = promtool(&["check", "rules", file.to_str().unwrap()]).await.unwrap_err();
    assert!(refused.to_string().contains("parse error"), "{refused}");
}
