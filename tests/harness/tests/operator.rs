//! The operator's process, played by a shell: what counts here is how it is started and ended.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use harness::guard;
use harness::operator::Operator;
use harness::wait::eventually;

#[tokio::test]
async fn an_operator_keeps_its_settings_and_its_log_over_a_restart() {
    let script = guard::fresh_directory("stand-in").unwrap().join("operator");
    let text = "#!/bin/sh\necho \"$1 $2 $SETTING $KUBECONFIG on ${ENVIRONMENT_OPERATOR_LISTEN%:*}\"\nsleep 60\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = Operator::of(&script)
        .arg("--flag")
        .env("SETTING", "value")
        .kubeconfig("/some/path".as_ref());
    let mut operator = options.start().unwrap();
    let line = "run --flag value /some/path on 127.0.0.1\n";
    let logged = async |operator: &Operator, expected: &str| {
        eventually("it has told its settings", Duration::from_secs(5), async || {
            let log = operator.log();
            if log == expected { Ok(()) } else { Err(log) }
        })
        .await;
    };
    logged(&operator, line).await;
    assert!(operator.get("/readyz").await.is_err());
    operator.pause().unwrap();
    operator.resume().unwrap();
    assert_eq!(
        operator.kill().unwrap().code(),
        None,
        "a killed process has no exit code"
    );
    operator.start_again().unwrap();
    logged(&operator, &line.repeat(2)).await;
    assert!(operator.is_running());
}
