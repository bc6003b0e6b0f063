//! Helm as the tests call it, and what it renders.

use std::path::{Path, PathBuf};

use harness::objects;
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::process::Command;

/// The namespace and the name of every rendered release.
pub const NAMESPACE: &str = "operators";
pub const RELEASE: &str = "demo";

/// The least that the chart asks for.
pub const LEAST: &[&str] = &["database.secretName=database"];

/// A file or a folder of the project.
pub fn path(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(inside)
}

/// The text of a file of the project.
pub fn read(inside: &str) -> String {
    std::fs::read_to_string(path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    path("charts/environment-operator")
}

/// Compares a generated file of the project with what it should be, or writes it where `UPDATE` is set.
pub fn agrees(inside: &str, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path(inside), expected).unwrap();
    }
    let found = std::fs::read_to_string(path(inside)).unwrap_or_default();
    assert!(
        found == expected,
        "{inside} is not what it should be: run `UPDATE=1 cargo test --workspace --test chart` and look at the difference; \
         expected:\n{expected}"
    );
}

/// A call of helm that reaches no cluster. `Err` is what it says on standard error.
pub async fn helm(arguments: &[&str]) -> Result<String, String> {
    harness::helm::offline(arguments).await.unwrap()
}

/// Runs a command to its end. `Err` is what it says on standard error.
pub async fn run(command: &mut Command) -> Result<String, String> {
    harness::helm::run(command).await.unwrap()
}

/// Renders the chart with more arguments, as text.
pub async fn template(arguments: &[&str]) -> Result<String, String> {
    template_of(&chart(), RELEASE, arguments).await
}

/// Renders a chart as a release of a name.
pub async fn template_of(chart: &Path, release: &str, arguments: &[&str]) -> Result<String, String> {
    let first = ["template", release, chart.to_str().unwrap(), "--namespace", NAMESPACE];
    helm(&[&first, arguments].concat()).await
}

/// A copy of the chart that a test may change, at this path.
pub fn copy_chart(to: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").arg(chart()).arg(to).status();
    assert!(copied.unwrap().success(), "{}", to.display());
}

/// Renders the chart with values, as in `replicaCount=3`.
pub async fn try_set(values: &[&str]) -> Result<String, String> {
    let arguments: Vec<&str> = values.iter().flat_map(|value| ["--set", *value]).collect();
    template(&arguments).await
}

/// The objects of the chart with values over the least.
pub async fn objects_with(values: &[&str]) -> Vec<DynamicObject> {
    let text = try_set(&[LEAST, values].concat()).await.unwrap();
    objects::parse(&text).unwrap()
}

/// The rendered objects of a kind.
pub fn of_kind<'a>(objects: &'a [DynamicObject], kind: &str) -> Vec<&'a DynamicObject> {
    let of_it = |object: &&DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == kind);
    objects.iter().filter(of_it).collect()
}

/// The only rendered object of a kind.
pub fn only<'a>(objects: &'a [DynamicObject], kind: &str) -> &'a DynamicObject {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}: {found:#?}");
    found[0]
}

/// A text of YAML as JSON.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}
