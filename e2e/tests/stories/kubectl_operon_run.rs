//! `kubectl operon run`: a user previews an action, runs it on the pods of a Deployment and waits, and completes names.

use operon_e2e::{environment, kubectl::operon, prelude::*};

#[tokio::test]
async fn a_user_previews_an_action_and_runs_it_on_a_deployment() {
    story(async |world: &World| {
        let targets = names(&Deployment::of("foo", 2).up(world).await);
        let label = "set={\"tier\":\"canary\"}";
        let run = ["run", "Label", "deployment/foo", "--param", label];

        let (code, said, error) = operon(world, &[&run[..], &["--preview"]].concat()).await;
        assert_eq!((code, error.as_str()), (Some(0), ""), "{said}");
        let name = "operationjob.apps.kusionstack.io/preview-label-foo-";
        assert!(said.starts_with(name), "{said}");
        for target in &targets {
            let done = format!("\n{target} would do\n  patch Pod {target}");
            assert!(said.contains(&done), "{said}");
        }
        assert!(said.ends_with("\nNothing was changed.\n"), "{said}");
        let has_label = |pod: &Pod| pod.labels().get("tier").map(String::as_str) == Some("canary");
        for target in &targets {
            let pod: Pod = world.get(target).await.expect("the pod");
            assert!(!has_label(&pod), "{target}");
        }

        let (code, _, error) = operon(world, &["run", "label", "deployment/foo"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("did you mean Label?"), "{error}");
        let dry = [&run[..], &["--name", "opj", "--dry-run=server"]].concat();
        let (code, said, error) = operon(world, &dry).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let created = "operationjob.apps.kusionstack.io/opj created (server dry run)\n";
        assert_eq!(said, created);
        let wrong = [&dry[..], &["--max-concurrent", "1%", "--node", ""]].concat();
        let (code, _, error) = operon(world, &wrong).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("nodeName"), "{error}");

        let wait = ["--name", "opj", "--wait", "--timeout", "2m"];
        let (code, lines, error) = operon(world, &[&run[..], &wait].concat()).await;
        assert_eq!((code, error.as_str()), (Some(0), ""), "{lines}");
        assert!(lines.contains("2 targets succeeded"), "{lines}");
        for target in &targets {
            let pod: Pod = world.get(target).await.expect("the pod");
            assert!(has_label(&pod), "{target}");
        }
        let (_, name, _) = operon(world, &["get", "opj/opj", "-o", "name"]).await;
        assert_eq!(name, "operationjob.apps.kusionstack.io/opj\n");

        let wrong = [
            "run",
            "Label",
            targets[0].as_str(),
            "--param",
            "sett=1",
            "--wait",
        ];
        let (code, lines, error) = operon(world, &wrong).await;
        assert_eq!(code, Some(2), "{lines}{error}");
        assert!(lines.contains("BadParameters"), "{lines}");

        assert_eq!(completed(world, &["get", "opj/o"]).await, "opj/opj\n:4\n");
        let word = format!("{}\n:4\n", targets[0]);
        let target = ["run", "Label", targets[0].as_str()];
        assert_eq!(completed(world, &target).await, word);
    })
    .await;
}

/// What kubectl gives a shell that completes the last of these words after `kubectl operon`.
async fn completed(world: &World, words: &[&str]) -> String {
    let plugin = environment::kubectl_plugin();
    let script = environment::repository().join("cli/kubectl-operon");
    let mut path = vec![script];
    path.extend(plugin.parent().map(std::path::Path::to_path_buf));
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    path.extend(std::env::split_paths(&inherited));
    let output = tokio::process::Command::new(environment::kubectl())
        .args(["__complete", "operon", "--namespace", &world.namespace])
        .args(words)
        .env("PATH", std::env::join_paths(path).expect("a path"))
        .output()
        .await
        .expect("kubectl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
