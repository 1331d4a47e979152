//! References of one image: another one than the spec has, of the digest that runs.

/// Another reference of the image that a container runs.
///
/// `written` is the image of the spec, `original` that before the first restart, `running` the kubelet's `imageID`.
///
/// # Errors
/// Why there is none.
pub fn another(
    written: &str,
    original: &str,
    running: &str,
    is_always_pulled: bool,
) -> Result<String, String> {
    let running = without_scheme(running);
    let Some((repository, digest)) = running.split_once('@') else {
        if is_always_pulled {
            return Err(format!(
                "its imagePullPolicy is Always, and the kubelet does not say from where the image {running} was pulled"
            ));
        }
        if written == running {
            return Err(format!(
                "it was restarted before, and its image {running} has no digest of a registry, so there is no other name for it"
            ));
        }
        return Ok(running.to_owned());
    };
    let name = Name::of(written);
    if is_always_pulled && name.repository != Name::of(repository).repository {
        return Err(format!(
            "its imagePullPolicy is Always, and the kubelet pulled the image {written:?} as {running}, from another registry"
        ));
    }
    let plain = format!("{repository}@{digest}");
    if written != plain {
        return Ok(plain);
    }
    Ok(format!(
        "{repository}:{}@{digest}",
        Name::of(original).tag.unwrap_or("restarted")
    ))
}

/// Whether a container runs the image of the spec, as far as the names say it.
///
/// `written` is the image of the spec, `running` the kubelet's `imageID`, `reported` its name of that image. Names
/// that cannot be compared, such as the id of an image, say nothing.
///
/// # Errors
/// What runs instead.
pub fn check_running(written: &str, running: &str, reported: Option<&str>) -> Result<(), String> {
    let running = without_scheme(running);
    if let Some((_, wanted)) = written.split_once('@') {
        return match running.split_once('@') {
            Some((_, digest)) if digest != wanted => Err(running.to_owned()),
            Some(_) | None => Ok(()),
        };
    }
    let Some(reported) = reported.filter(|image| !image.is_empty() && !is_id(image)) else {
        return Ok(());
    };
    if is_id(written) {
        return Ok(());
    }
    let (wanted, named) = (Name::of(written), Name::of(reported));
    let is_other_tag = named
        .tag
        .is_some_and(|tag| tag != wanted.tag.unwrap_or("latest"));
    if is_other_tag || named.repository != wanted.repository {
        return Err(reported.to_owned());
    }
    Ok(())
}

fn without_scheme(image: &str) -> &str {
    image.rsplit("://").next().unwrap_or(image)
}

/// Whether this is the id of an image on its node, not a name.
fn is_id(image: &str) -> bool {
    without_scheme(image).starts_with("sha256:")
}

/// The parts of a reference.
struct Name<'a> {
    /// With registry, as container runtimes complete it.
    repository: String,
    tag: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn of(reference: &'a str) -> Self {
        let name = reference.split('@').next().unwrap_or(reference);
        // A colon before the last slash is that of a port.
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[last..].find(':') {
            Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
            None => (name, None),
        };
        let registry = repository.split_once('/').map(|(first, _)| first);
        let is_registry = |first: &str| first == "localhost" || first.contains(['.', ':']);
        let repository = match registry {
            Some(first) if is_registry(first) => repository.to_owned(),
            Some(_) => format!("docker.io/{repository}"),
            None => format!("docker.io/library/{repository}"),
        };
        Self { repository, tag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef";

    #[test]
    fn each_restart_writes_another_reference_of_the_same_digest() {
        let running = format!("docker.io/library/nginx@{DIGEST}");
        let original = "nginx:1.27";
        let mut written = original.to_owned();
        let mut seen = vec![written.clone()];
        for _ in 0..4 {
            let next = another(&written, original, &running, true).expect("there is another");
            assert_ne!(next, written);
            assert!(next.ends_with(DIGEST), "{next}");
            written = next;
            seen.push(written.clone());
        }
        assert_eq!(seen[1], format!("docker.io/library/nginx@{DIGEST}"));
        assert_eq!(seen[2], format!("docker.io/library/nginx:1.27@{DIGEST}"));
        assert_eq!(seen[3], seen[1]);
        let without_tag = another(&seen[1], "nginx", &running, true);
        assert_eq!(
            without_tag,
            Ok(format!("docker.io/library/nginx:restarted@{DIGEST}"))
        );
    }

    #[test]
    fn an_image_without_a_digest_of_a_registry_is_named_by_its_id_once() {
        let local = "localhost/busybox:1.35";
        let once = another(local, local, DIGEST, false);
        assert_eq!(once.as_deref(), Ok(DIGEST));
        assert!(another(DIGEST, local, DIGEST, false).is_err());
        assert!(another(local, local, DIGEST, true).is_err());
    }

    #[test]
    fn an_image_that_is_always_pulled_is_not_pulled_from_another_registry() {
        let mirror = format!("mirror.example/nginx@{DIGEST}");
        let written = "nginx:1.27";
        assert!(another(written, written, &mirror, true).is_err());
        assert_eq!(another(written, written, &mirror, false), Ok(mirror));
        for written in [
            "registry.example:5000/team/web:1",
            "registry.example:5000/team/web",
            "registry.example:5000/team/web:1@sha256:old",
        ] {
            let running = format!("registry.example:5000/team/web@{DIGEST}");
            assert_eq!(another(written, written, &running, true), Ok(running));
        }
        for (written, running) in [
            ("nginx", "docker.io/library/nginx"),
            ("team/web:2", "docker.io/team/web"),
        ] {
            let running = format!("docker-pullable://{running}@{DIGEST}");
            assert!(
                another(written, written, &running, true).is_ok(),
                "{written}"
            );
        }
    }

    #[test]
    fn what_runs_is_compared_with_the_spec_by_digest_or_by_name() {
        let running = format!("docker.io/library/nginx@{DIGEST}");
        for (written, reported, is_same) in [
            ("nginx:1.27", Some("docker.io/library/nginx:1.27"), true),
            ("nginx:1.28", Some("docker.io/library/nginx:1.27"), false),
            ("nginx", Some("docker.io/library/nginx:latest"), true),
            ("nginx", Some("docker.io/library/nginx:1.27"), false),
            ("team/web:1", Some("docker.io/library/nginx:1"), false),
            ("nginx:1.28", Some(DIGEST), true),
            ("nginx:1.28", None, true),
            (DIGEST, Some("docker.io/library/nginx:1.27"), true),
            (running.as_str(), Some("docker.io/library/nginx:1"), true),
            ("nginx:1.27@sha256:ff", Some("nginx:1.27"), false),
        ] {
            let checked = check_running(written, &running, reported);
            assert_eq!(checked.is_ok(), is_same, "{written} {reported:?}");
        }
        assert_eq!(check_running("nginx@sha256:ff", DIGEST, None), Ok(()));
    }
}
