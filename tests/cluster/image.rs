//! What the image holds, in an empty root: `make image` lays it out and calls this.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use environment_operator::api::{LeasePhase, Reason};
use harness::guard::fresh_directory;
use harness::wait::eventually;
use tokio::net::UdpSocket;

use crate::support::{GRACE, LIMIT, TestEnvironment, lease};

/// Where the only name server of the empty root is; nothing else of the machine's listens there.
const NAME_SERVER: &str = "127.66.0.1:53";

/// A name that only that server knows, and one that only `/etc/hosts` has.
const BY_DNS: &str = "database.shop.svc.cluster.local";
const BY_HOSTS: &str = "database.example";

/// Becomes the binary: in a root that holds nothing but the image and cannot be written to, as the image's user. `/dev` is there
/// as in every container: a static binary reads its random numbers from it.
const ENTER: &str = r#"#!/bin/sh
set -e
PATH=/usr/sbin:/usr/bin:/bin
mount --bind "ROOT" "ROOT"
mount -o remount,bind,ro "ROOT"
mount --bind /dev "ROOT/dev"
exec chroot --userspec=65532:65532 "ROOT" /environment-operator "$@"
"#;

/// What is laid out, and nothing else.
const CONTENT: [&str; 3] = ["LICENSE", "SBOM.cdx.json", "environment-operator"];

/// The folder that was laid out.
fn image() -> PathBuf {
    std::env::var_os("TEST_IMAGE").expect("make image sets it").into()
}

/// A root with the image and what a base and a kubelet add, and the program that enters it.
fn root() -> (PathBuf, PathBuf) {
    let directory = fresh_directory("image").unwrap();
    let root = directory.join("root");
    for folder in ["etc/ssl/certs", "dev", "run"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in CONTENT {
        std::fs::copy(image().join(file), root.join(file)).unwrap();
    }
    let authorities = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(Path::new("/").join(authorities), root.join(authorities)).unwrap();
    // As in a Pod: a search list, and names with fewer dots than five are looked for in it first.
    let server = NAME_SERVER.split_once(':').unwrap().0;
    let resolver = format!(
        "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver {server}\noptions ndots:5\n"
    );
    std::fs::write(root.join("etc/resolv.conf"), resolver).unwrap();
    std::fs::write(root.join("etc/hosts"), format!("127.0.0.1 {BY_HOSTS}\n")).unwrap();
    let inner = directory.join("inner");
    let enter = directory.join("enter");
    write_program(&inner, &ENTER.replace("ROOT", &root.display().to_string()));
    let mounts = format!("#!/bin/sh\nexec unshare --mount {} \"$@\"\n", inner.display());
    write_program(&enter, &mounts);
    (root, enter)
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(enter: &Path, arguments: &[&str]) -> Output {
    Command::new(enter)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Answers who asks for the one name with 127.0.0.1, and everybody else that there is no such name.
async fn serve_names(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
        let question = &buffer[12..length];
        let mut labels = Vec::new();
        let mut rest = question;
        while let Some((length @ 1.., after)) = rest.split_first() {
            let (label, after) = after.split_at(usize::from(*length));
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = after;
        }
        let question = &question[..question.len() - rest.len() + 5]; // the end of the name, type and class
        let known = labels.join(".") == BY_DNS;
        let has_address = known && question.ends_with(&[0, 1, 0, 1]);
        let mut answer = buffer[..2].to_vec();
        answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
        answer.extend([0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
        answer.extend(question);
        if has_address {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
        }
        let _asker_has_gone = socket.send_to(&answer, asker).await;
    }
}

#[test]
#[ignore = "needs the image's content: make image"]
fn the_image_holds_a_static_binary_its_licence_and_its_bill_of_materials_and_nothing_else() {
    let entries = std::fs::read_dir(image()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, CONTENT);
    let binary = image().join("environment-operator");
    let headers = Command::new("readelf")
        .args(["--program-headers", "--dynamic", "--wide"])
        .arg(&binary)
        .output();
    let headers = text(&headers.unwrap());
    for needs in ["INTERP", "NEEDED"] {
        assert!(!headers.contains(needs), "the binary is not static: {headers}");
    }
    let bytes = std::fs::read(&binary).unwrap();
    let home = env!("CARGO_MANIFEST_DIR").as_bytes();
    assert!(
        !bytes.windows(home.len()).any(|window| window == home),
        "the binary names the builder's folder"
    );
    let materials = std::fs::read_to_string(image().join("SBOM.cdx.json")).unwrap();
    let materials: serde_json::Value = serde_json::from_str(&materials).unwrap();
    let crates = materials["components"].as_array().unwrap();
    assert!(crates.iter().any(|component| component["name"] == "kube"));
    for component in crates {
        assert!(component["licenses"].is_array(), "{component}");
    }
    assert!(
        !materials.to_string().contains(env!("CARGO_MANIFEST_DIR")),
        "the list names the builder's folder"
    );
}

#[tokio::test]
#[ignore = "needs the image's content: make image"]
async fn the_image_runs_in_an_empty_root_as_nobody_and_finds_its_database_by_name() {
    let (root, enter) = root();
    assert!(text(&run(&enter, &["--help"])).contains("Usage"));
    assert!(text(&run(&enter, &["crds"])).contains("CustomResourceDefinition"));
    let names = UdpSocket::bind(NAME_SERVER).await.expect("root may listen there");
    let _names = tokio::spawn(serve_names(names));

    let world = TestEnvironment::new("image").await;
    // Nothing of the machine's is there but this.
    let authority = world.control_plane().authority_certificate();
    std::fs::copy(&authority, root.join("run/authority.crt")).unwrap();
    let kubeconfig = std::fs::read_to_string(world.kubeconfig()).unwrap();
    let kubeconfig = kubeconfig.replace(authority.to_str().unwrap(), "/run/authority.crt");
    std::fs::write(root.join("run/kubeconfig"), kubeconfig).unwrap();
    for (host, claim) in [
        (BY_HOSTS, "by-hosts"),
        (BY_DNS, "by-dns"),
        ("database.shop.svc", "by-search"),
    ] {
        let url = world.database.url().replace("127.0.0.1", host);
        assert!(url.contains(host));
        let mut operator = world
            .operator_of(&enter)
            .kubeconfig("/run/kubeconfig".as_ref())
            .database_url(&url)
            .start()
            .unwrap();
        operator.wait_ready().await;
        world.granted(lease(claim)).await;
        world.release(claim).await;
        world
            .lease_because(claim, LeasePhase::Released, Reason::ReleaseRequested)
            .await;
        let status = operator.stop(GRACE).await.unwrap();
        assert!(status.success(), "{status}");
    }
    let url = world.database.url().replace("127.0.0.1", "nowhere.example");
    let mut lost = world
        .operator_of(&enter)
        .kubeconfig("/run/kubeconfig".as_ref())
        .database_url(&url)
        .start()
        .unwrap();
    eventually("a name that nobody knows is told", LIMIT, async || {
        let log = lost.log();
        if log.contains("failed to lookup address") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert!(lost.is_running(), "it waits for the database");
}
