//! containerd for a real node, and the images it runs.
//!
//! containerd and runc are Debian's, from the cache. Images are made here, of a static
//! busybox: nothing is pulled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::{cache_dir, make_dir, remove, write};
use crate::control_plane::Launcher;
use crate::debian;
use crate::image::{ImageConfig, image_from_rootfs};
use crate::process::output_of;
use crate::progress::Progress;
use crate::real::namespace_of;
use crate::record::{RealNode, Record};

/// The image of every pod's first container.
const PAUSE: &str = "localhost/pause:3.10";
/// The image for tests and examples.
const BUSYBOX: &str = "localhost/busybox:1.35";

/// The same under another name, to which a pod can be updated.
const NEXT_BUSYBOX: &str = "localhost/busybox:1.36";

/// Fetches containerd, runc and the network plugins, and makes the images.
pub(crate) fn ensure_runtime(progress: &Progress) -> Result<()> {
    let packages = debian::RUNTIME.ensure(progress)?;
    for tar in base_images()? {
        if tar.is_file() {
            continue;
        }
        progress.say("making the images of busybox and pause");
        let pause = ["/bin/busybox", "sleep", "2147483647"]
            .map(str::to_owned)
            .to_vec();
        make_image(&packages, PAUSE, pause, "pause.tar")?;
        make_image(&packages, BUSYBOX, Vec::new(), "busybox.tar")?;
        make_image(&packages, NEXT_BUSYBOX, Vec::new(), "next-busybox.tar")?;
    }
    Ok(())
}

fn base_images() -> Result<[PathBuf; 3]> {
    let folder = cache_dir()?.join("images");
    let file = |name| folder.join(name);
    Ok([
        file("pause.tar"),
        file("busybox.tar"),
        file("next-busybox.tar"),
    ])
}

fn make_image(packages: &Path, name: &str, entrypoint: Vec<String>, file: &str) -> Result<()> {
    let folder = cache_dir()?.join("images");
    let rootfs = folder.join(format!("{file}.rootfs"));
    remove(&rootfs)?;
    for needed in ["bin", "tmp", "etc", "root", "proc", "sys", "dev", "var/run"] {
        make_dir(&rootfs.join(needed))?;
    }
    fs::set_permissions(
        rootfs.join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )?;
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|file| packages.join(file));
    let busybox = busybox
        .iter()
        .find(|file| file.is_file())
        .context("the package busybox-static has no busybox")?;
    fs::copy(busybox, rootfs.join("bin/busybox")).context("failed to copy busybox")?;
    for applet in output_of(Command::new(busybox).arg("--list"))?
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", rootfs.join("bin").join(applet))
            .with_context(|| format!("failed to link {applet}"))?;
    }
    write(
        &rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    write(&rootfs.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")?;
    let command = if entrypoint.is_empty() {
        vec![String::from("sh")]
    } else {
        Vec::new()
    };
    let config = ImageConfig {
        name: name.to_owned(),
        entrypoint,
        command,
        ..ImageConfig::default()
    };
    let unfinished = folder.join(format!("{file}.unfinished"));
    image_from_rootfs(&rootfs, &config, &unfinished)?;
    fs::rename(&unfinished, folder.join(file))
        .with_context(|| format!("failed to write {file}"))?;
    remove(&rootfs)
}

/// The `PATH` with which containerd finds runc and its shim, and the kubelet what it calls.
pub(crate) fn search_path() -> Result<String> {
    let packages = debian::RUNTIME.unpacked()?;
    let own = ["usr/bin", "usr/sbin"]
        .map(|folder| packages.join(folder).display().to_string())
        .join(":");
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{own}:{path}:/usr/sbin:/sbin"))
}

/// Starts containerd in the node's namespace and gives it the images.
pub(crate) fn start(launcher: &mut Launcher<'_>, node: &RealNode) -> Result<()> {
    let packages = debian::RUNTIME.unpacked()?;
    let state = launcher.state.clone();
    let networks = state.join("cni");
    make_dir(&networks)?;
    write(&networks.join("10-bridge.conflist"), bridge_network(node))?;
    let config = state.join("containerd.toml");
    write(
        &config,
        containerd_config(&packages, &networks, launcher.record.ports.streaming),
    )?;
    let mut containerd = launcher.command(&packages.join("usr/bin/containerd"));
    containerd
        .env("PATH", search_path()?)
        .arg("--config")
        .arg(&config);
    launcher.start("containerd", &mut containerd)?;

    let record = &launcher.record;
    launcher.wait_until("containerd answers", || {
        ctr(record, &["version"]).is_ok_and(|mut command| output_of(&mut command).is_ok())
    })?;
    for tar in base_images()? {
        import_image(record, &tar)?;
    }
    Ok(())
}

/// Gives the node of a running cluster an image.
pub(crate) fn import_image(record: &Record, tar: &Path) -> Result<()> {
    let content =
        fs::File::open(tar).with_context(|| format!("failed to open {}", tar.display()))?;
    // From standard input: the file may be where the node's namespace shows something else.
    let output = ctr(record, &["--namespace", "k8s.io", "images", "import", "-"])?
        .stdin(Stdio::from(content))
        .output()
        .context("failed to start ctr")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("failed to import {}: {}", tar.display(), errors.trim());
    }
    Ok(())
}

fn ctr(record: &Record, arguments: &[&str]) -> Result<Command> {
    let Some(pid) = namespace_of(record) else {
        bail!("cluster {} has no node that runs", record.name)
    };
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &pid.to_string(), "--mount", "--pid", "--"])
        .arg(debian::RUNTIME.unpacked()?.join("usr/bin/ctr"))
        .args(arguments);
    Ok(command)
}

fn containerd_config(packages: &Path, networks: &Path, streaming_port: u16) -> String {
    let packages = packages.display();
    let networks = networks.display();
    format!(
        r#"version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "{streaming_port}"
  # root of a virtual machine or a container may not be allowed to lower it
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{packages}/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{packages}/usr/sbin/runc"
        SystemdCgroup = false
"#
    )
}

fn bridge_network(node: &RealNode) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "operon-devcluster",
        "plugins": [{
            "type": "bridge",
            "bridge": node.bridge,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": node.pod_subnet() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
    .to_string()
}
