//! The commands that the documentation shows, each of them tried or excused: those of blocks, those in the middle of a sentence, and
//! those in the comments of examples.

use std::collections::BTreeSet;

use crate::inline::{inline, is_mention, without_assignments};
use crate::program;
use crate::support::path;

/// What a command begins with.
pub const PROGRAMS: &[&str] = &[
    "cargo",
    "curl",
    "docker",
    "environment-operator",
    "git",
    "helm",
    "kind",
    "kubectl",
    "make",
    "pg_dump",
    "podman",
    "psql",
];

/// Commands that only look: tried where the chart is installed and no Pod runs.
const LOOKS: &[&str] = &["api-resources", "describe", "get", "logs"];

/// The commands that are run on a cluster with a node, in this order, from the root of the project.
pub const STORY: &[&str] = &[
    "kubectl create namespace environment-operator",
    "kubectl --namespace environment-operator create secret generic environment-operator-database \
     --from-literal=url='postgres://user:password@host:5432/database'",
    "helm install --wait environment-operator charts/environment-operator --namespace environment-operator \
     --set database.secretName=environment-operator-database --set image.repository=registry.example/environment-operator",
    "helm test environment-operator --namespace environment-operator --logs",
    "helm get manifest environment-operator --namespace environment-operator",
    "kubectl auth can-i --as system:serviceaccount:environment-operator:environment-operator watch jobs --all-namespaces",
    "kubectl create secret generic big-box-key --from-file=id_ed25519=$HOME/.ssh/id_ed25519",
    "kubectl apply -f examples/ssh.yaml -f examples/lease.yaml",
    "kubectl wait --for=condition=Decided --timeout=11m envlease/try-out",
    "kubectl wait --for=condition=Active --timeout=0s envlease/try-out",
    "kubectl wait --for=condition=Decided --timeout=11m envlease/NAME",
    "kubectl wait --for=condition=Active --timeout=0s envlease/NAME",
    "psql 'postgres://user:password@host:5432/database' -c 'SELECT id, status, expires_at FROM environment_leases'",
    "kubectl patch envlease try-out --type=merge --patch '{\"spec\":{\"release\":true}}'",
    "psql \"$DATABASE_URL\" --command 'SELECT pg_is_in_recovery(), count(*) FROM pg_stat_activity'",
    "psql \"$DATABASE_URL\" --command 'SELECT id, current_database() FROM environment_operator.database'",
    "kubectl create namespace acme",
    "kubectl label namespace acme paperclip.ing/company-id=0b0e0a9c-5a2c-4c41-9f5e-3b8d8b1e7a10",
    "helm template environment-operator charts/environment-operator --namespace environment-operator --skip-tests \
     --set database.secretName=environment-operator-database > environment-operator.yaml",
    "helm upgrade environment-operator charts/environment-operator --namespace environment-operator --reset-then-reuse-values --wait \
     --set settings.log='info\\,environment_operator=debug'",
    "kubectl --namespace environment-operator rollout restart deployment",
    UPGRADE,
    "helm upgrade environment-operator charts/environment-operator --namespace environment-operator --reset-then-reuse-values --wait \
     --force-conflicts",
    "helm rollback environment-operator --namespace environment-operator",
    "kubectl --namespace environment-operator rollout restart deployment/environment-operator",
    "kubectl --namespace environment-operator scale deployment/environment-operator --replicas 0",
    "kubectl apply --filename docs/manifests/new-incarnation.yaml",
    "kubectl --namespace environment-operator wait --for=condition=Complete --timeout=120s job/new-incarnation",
    "kubectl --namespace environment-operator logs job/new-incarnation",
    "kubectl --namespace environment-operator delete job/new-incarnation",
    "kubectl --namespace environment-operator scale deployment/environment-operator --replicas 2",
    "kubectl apply --filename docs/manifests/migrate.yaml",
    "kubectl --namespace environment-operator wait --for=condition=Complete --timeout=600s job/migrate",
    "kubectl --namespace environment-operator delete job/migrate",
    "kubectl apply --filename docs/manifests/uninstall-database.yaml",
    "kubectl --namespace environment-operator wait --for=condition=Complete --timeout=120s job/uninstall-database",
    "kubectl --namespace environment-operator logs job/uninstall-database",
    "helm uninstall environment-operator --namespace environment-operator",
    "kubectl delete -f crds/",
    "kubectl apply -f crds/",
];

/// The one that a test has something to mend for.
pub const UPGRADE: &str = "helm upgrade environment-operator charts/environment-operator --namespace environment-operator \
    --reset-then-reuse-values --wait --rollback-on-failure --force-conflicts --set image.tag=0.1.0";

/// The beginnings of those that cannot be run here, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "make ",
        "each is a layer of tests, a demo or a measurement by itself; that there is such a target is looked at",
    ),
    (
        "cargo ",
        "each is a layer of tests or a part of one; that there are such tests is looked at",
    ),
    (
        "helm install environment-operator charts/environment-operator --namespace environment-operator --values docs/production-values.yaml",
        "its database has certificates; with one that has none, a test of its own installs these values",
    ),
    (
        "environment-operator run",
        "is the operator itself, which runs until it is stopped: the releases of the other tests do it",
    ),
    (
        "podman ",
        "there is no container runtime; the image's content is tried by scripts/image.sh",
    ),
    ("kind ", "there is no container runtime"),
    (
        "helm install --wait environment-operator charts/environment-operator --namespace environment-operator --create-namespace \
         --set postgresql.embedded.enabled=true",
        "needs the image of Postgres; what it renders is taken by an API server",
    ),
    (
        "kubectl --namespace environment-operator exec ",
        "the node of the tests has no exec; the operator's part of the command is tried by itself",
    ),
    (
        "kubectl --namespace environment-operator port-forward ",
        "the node of the tests forwards no ports",
    ),
    (
        "curl http://localhost:8080/",
        "follows a port-forward; the answers are asked for in other tests",
    ),
];

/// One command of a page, its lines joined, without a remark at its end.
fn command(lines: &[&str]) -> String {
    let joined: Vec<&str> = lines
        .iter()
        .map(|line| line.trim().trim_end_matches('\\').trim())
        .collect();
    let joined = joined.join(" ");
    joined.split("   # ").next().unwrap_or_default().trim_end().to_owned()
}

/// The commands of a page: of its blocks of shell, and of indented blocks.
fn of_page(page: &str) -> Vec<String> {
    let (mut found, mut fence, mut lines) = (Vec::new(), None, Vec::new());
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_none() { Some(language) } else { None };
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        let begins = match fence {
            Some(language) => language == "sh" && !first.is_empty(),
            None => line.starts_with("    ") && PROGRAMS.contains(&first),
        };
        if begins || !lines.is_empty() {
            lines.push(line);
            if !line.ends_with('\\') {
                found.push(command(&lines));
                lines.clear();
            }
        }
    }
    found
}

/// The files of a folder and of those in it, with this ending.
fn files(folder: &str, ending: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path(folder)).unwrap() {
        let file = entry.unwrap().path();
        if file.is_dir() {
            let inner = format!("{folder}/{}", file.file_name().unwrap().to_str().unwrap());
            found.extend(files(&inner, ending));
        } else if file.extension().is_some_and(|of| of == ending) {
            found.push(file);
        }
    }
    found
}

/// The commands in the comments of an example: indented lines of them.
fn of_comments(text: &str) -> Vec<String> {
    let comments = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let is_command = |line: &&str| PROGRAMS.contains(&line.split(' ').next().unwrap_or_default());
    comments.filter(is_command).map(str::to_owned).collect()
}

/// Every command of the documentation, once; those that are only mentioned are none.
pub fn commands() -> BTreeSet<String> {
    let mut pages = vec![path("README.md"), path("CONTRIBUTING.md")];
    pages.extend(files("docs", "md"));
    let mut found = BTreeSet::new();
    for page in pages {
        let text = std::fs::read_to_string(page).unwrap();
        found.extend(of_page(&text));
        found.extend(inline(&text).into_iter().filter(|command| !is_mention(command)));
    }
    for example in files("examples", "yaml").into_iter().chain(files("docs", "yaml")) {
        let text = std::fs::read_to_string(example).unwrap();
        found.extend(of_comments(&text));
        found.extend(inline(&text).into_iter().filter(|command| !is_mention(command)));
    }
    found
}

/// Whether it is one that only looks, and its words.
pub fn look(command: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = command
        .split(" | ")
        .next()?
        .strip_prefix("kubectl ")?
        .split(' ')
        .collect();
    let verb = if words[0] == "--namespace" {
        words.get(2)?
    } else {
        &words[0]
    };
    LOOKS.contains(verb).then_some(words)
}

#[test]
fn every_command_of_the_documentation_is_tried_or_excused_and_no_other_is() {
    let commands = commands();
    assert!(commands.len() > 50, "{commands:#?}");
    let excused = |command: &str| {
        let command = without_assignments(command);
        NOT_RUN.iter().any(|(beginning, _)| command.starts_with(beginning))
    };
    let run = [STORY, program::STANDALONE, program::ATTACHED].concat();
    let unknown: Vec<&String> = commands
        .iter()
        .filter(|command| !run.contains(&command.as_str()) && look(command).is_none() && !excused(command))
        .collect();
    assert!(unknown.is_empty(), "neither tried nor excused: {unknown:#?}");
    let shown = |command: &&&str| !commands.contains(**command);
    let gone: Vec<_> = run.iter().filter(shown).collect();
    assert!(gone.is_empty(), "tried, but not in the documentation: {gone:#?}");
    for (beginning, reason) in NOT_RUN {
        let stands = commands.iter().any(|command| command.starts_with(beginning));
        assert!(
            stands && !reason.is_empty(),
            "excused, but not in the documentation: {beginning}"
        );
    }
}

#[test]
fn commands_are_found_in_both_kinds_of_blocks() {
    let page = "Text with kubectl get.\n\n    kubectl get a \\\n      --all   # a remark\n    key: kubectl\n\n```sh\ncurl x\n```\n\n\
                ```sql\nkubectl is no SQL\n```\n\n       helm test b\n";
    assert_eq!(of_page(page), ["kubectl get a --all", "curl x", "helm test b"]);
}
