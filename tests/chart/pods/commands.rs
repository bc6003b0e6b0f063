//! The commands of the documentation, run in their order on a cluster with a node.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use harness::guard;
use harness::wait::eventually;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use tokio::process::Command;

use super::release::Site;
use crate::commands::{STORY, UPGRADE};
use crate::installed::LIMIT;
use crate::support::{path, run};

/// A shell as the reader has it: kubectl and helm for the cluster, in a folder like the project's.
struct Shell {
    variables: HashMap<String, String>,
    folder: PathBuf,
    database: String,
}

impl Shell {
    async fn of(site: &Site) -> Self {
        let helm = site.control_plane.helm().await.unwrap();
        let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
        let set = helm.as_std().get_envs();
        let mut variables: HashMap<String, String> = set
            .filter_map(|(name, value)| Some((text(name), text(value?))))
            .collect();
        let programs = Path::new(helm.as_std().get_program()).parent().unwrap();
        variables.insert("PATH".into(), format!("{}:/usr/bin:/bin", programs.display()));
        variables.insert("DATABASE_URL".into(), site.database.url().into());
        let folder = guard::fresh_directory("commands").unwrap();
        for part in ["charts", "crds", "docs", "examples"] {
            std::os::unix::fs::symlink(path(part), folder.join(part)).unwrap();
        }
        std::fs::create_dir(folder.join(".ssh")).unwrap();
        std::fs::write(folder.join(".ssh/id_ed25519"), "a key").unwrap();
        variables.insert("HOME".into(), folder.to_str().unwrap().into());
        Self {
            variables,
            folder,
            database: site.database.url().into(),
        }
    }

    /// Runs a command with what stands for a name of the reader's own. `Err` is what it says on standard error.
    async fn tries(&self, command: &str) -> Result<String, String> {
        let command = command.replace("postgres://user:password@host:5432/database", &self.database);
        let command = command.replace("envlease/NAME", "envlease/try-out");
        let mut shell = Command::new("/bin/bash");
        shell.env_clear().envs(&self.variables).current_dir(&self.folder);
        run(shell.args(["-c", &command])).await
    }

    async fn runs(&self, site: &Site, command: &str) -> String {
        match self.tries(command).await {
            Ok(said) => said,
            Err(said) => {
                let look = "kubectl --namespace environment-operator get pods,jobs --output wide; \
                            kubectl --namespace environment-operator logs --selector app.kubernetes.io/component=operator --tail 20; \
                            kubectl --namespace environment-operator logs --selector batch.kubernetes.io/job-name --tail 20";
                let found = self.tries(look).await;
                panic!("{command}: {said}\n{found:?}\n{}", site.logs().await)
            }
        }
    }
}

/// Removes the definitions, which a release leaves behind and which another one of another name may not take over.
const WITHOUT_DEFINITIONS: &str =
    "kubectl delete crd environments.paperclip.ing environmentleases.paperclip.ing --ignore-not-found --timeout=60s";

/// What helm says after an installation is to be tried: its indented lines, with what stands for a name of the reader's own.
fn notes(said: &str) -> String {
    let lines = said.lines().filter_map(|line| line.strip_prefix("  "));
    let script = lines.collect::<Vec<_>>().join("\n");
    let script = script.replace("<namespace>", "default").replace("<account>", "default");
    format!("set -e\n{}", script.replace("<name>", "runner"))
}

/// What the commands have left of the release: its rights whole again, its values kept.
async fn expect_release(site: &Site, shell: &Shell) {
    let role = shell
        .runs(site, "kubectl get clusterrole environment-operator --output yaml")
        .await;
    assert!(
        role.contains("- environments\n"),
        "the edited rule is there again: {role}"
    );
    let values = "helm get values environment-operator --namespace environment-operator";
    let values = shell.runs(site, values).await;
    assert!(
        values.contains("secretName: environment-operator-database") && values.contains("environment_operator=debug"),
        "{values}"
    );
    let rendered = std::fs::read_to_string(shell.folder.join("environment-operator.yaml")).unwrap();
    assert!(
        rendered.contains("kind: Deployment") && !rendered.contains("kind: Pod\n"),
        "the test's Pod is left out"
    );
}

#[tokio::test]
async fn every_command_of_the_documentation_does_what_it_says() {
    let site = Site::prepare().await;
    let shell = Shell::of(&site).await;
    shell.runs(&site, WITHOUT_DEFINITIONS).await;
    let mut said: HashMap<&str, String> = HashMap::new();
    for command in STORY {
        if *command == UPGRADE {
            // Somebody has taken a right away by hand.
            let edit = "kubectl patch clusterrole environment-operator --type=json --patch '[{\"op\":\"remove\",\"path\":\"/rules/0\"}]'";
            shell.runs(&site, edit).await;
        }
        if command.starts_with("helm uninstall ") {
            expect_release(&site, &shell).await;
        }
        let answer = shell.runs(&site, command).await;
        if command.starts_with("helm install ") {
            let notes = notes(&answer);
            assert_eq!(notes.matches("\nkubectl ").count(), 6, "{answer}");
            let tried = shell.runs(&site, &notes).await;
            assert!(
                tried.contains("environmentlease.paperclip.ing/first condition met"),
                "{tried}"
            );
            assert!(
                tried.contains("rolebinding.rbac.authorization.k8s.io/runner created"),
                "{tried}"
            );
            shell.runs(&site, "kubectl delete rolebinding runner").await;
        }
        said.insert(command, answer);
    }
    let of = |end: &str| said.iter().find(|(command, _)| command.ends_with(end)).unwrap().1;
    assert!(
        of("logs job/new-incarnation").contains("a new incarnation has begun"),
        "{said:#?}"
    );
    assert!(of("logs job/uninstall-database").contains("DROP SCHEMA"), "{said:#?}");
    shell.runs(&site, WITHOUT_DEFINITIONS).await;
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    for name in ["acme", "environment-operator"] {
        namespaces.delete(name, &DeleteParams::default()).await.unwrap();
        eventually("a namespace is gone", LIMIT, async || {
            match namespaces.get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_values_for_production_install_a_release_that_works() {
    let site = Site::prepare().await;
    let options = site.database.options().unwrap();
    let (host, port, name) = (options.get_host(), options.get_port(), site.database.name());
    for secret in ["environment-operator-database", "environment-operator-database-owner"] {
        let secret = serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret },
            "stringData": { "username": options.get_username(), "password": "any" } });
        site.apply(&secret.to_string()).await;
    }
    let authority = serde_json::json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "environment-operator-database-authority" }, "stringData": { "ca.crt": "" } });
    site.apply(&authority.to_string()).await;
    let file = path("docs/production-values.yaml");
    // Where the database is, and that this one has no certificate, is all that is the test's own.
    let own = format!(
        "database.host={host},database.port={port},database.name={name},database.tls.mode=disable,database.tls.caKey="
    );
    let chart = crate::support::chart();
    let install = [
        "install",
        crate::support::RELEASE,
        chart.to_str().unwrap(),
        "--wait",
        "--timeout",
        "120s",
        "--values",
        file.to_str().unwrap(),
        "--set",
        &own,
    ];
    let answer = site.helm(&install).await;
    site.expect(answer).await;
    assert_eq!(site.names().await.len(), 2);
    for answer in site.ask("/readyz").await {
        assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
    }
    site.uninstall().await;
}
