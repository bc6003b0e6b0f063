//! The chart's settings reach the operator.

use crate::support::{objects_with, only};

#[tokio::test]
async fn each_setting_is_the_variable_of_its_name_and_an_empty_one_is_none() {
    let given = [
        "settings.clusterId=east",
        "settings.namespaces={a,b}",
        "settings.noticeBy={runs,sweep}",
        "settings.runTrigger=true",
    ];
    let objects = objects_with(&given).await;
    let container = &only(&objects, "Deployment").data["spec"]["template"]["spec"]["containers"][0];
    let variable = |name: &str| {
        let variables = container["env"].as_array().unwrap();
        let found = variables.iter().find(|variable| variable["name"] == name);
        found.map(|variable| variable["value"].as_str().unwrap())
    };
    assert_eq!(variable("ENVIRONMENT_OPERATOR_CLUSTER_ID"), Some("east"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_NAMESPACES"), Some("a,b"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_NOTICE_BY"), Some("runs,sweep"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_RUN_TRIGGER"), Some("true"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_RUN_KINDS"), Some("batch/v1/Job"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_LOG_FORMAT"), Some("json"));
    assert_eq!(variable("ENVIRONMENT_OPERATOR_SWEEP_INTERVAL"), None);
    assert_eq!(variable("ENVIRONMENT_OPERATOR_UNMANAGED_LEASES"), None);
}
