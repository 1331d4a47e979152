//! References of one image: another one than the spec has, of the digest that runs.

/// Another reference of the image that a container runs.
///
/// `written` is the image of the spec, `running` the kubelet's `imageID`.
///
/// # Errors
/// Why there is none.
pub fn another(written: &str, running: &str, is_always_pulled: bool) -> Result<String, String> {
    let running = running.rsplit("://").next().unwrap_or(running);
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
        name.tag.unwrap_or("restarted")
    ))
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
        let mut written = "nginx:1.27".to_owned();
        let mut seen = vec![written.clone()];
        for _ in 0..4 {
            let next = another(&written, &running, true).expect("there is another");
            assert_ne!(next, written);
            assert!(next.ends_with(DIGEST), "{next}");
            written = next;
            seen.push(written.clone());
        }
        assert_eq!(seen[1], format!("docker.io/library/nginx@{DIGEST}"));
        assert_eq!(
            seen[2],
            format!("docker.io/library/nginx:restarted@{DIGEST}")
        );
        assert_eq!(seen[3], seen[1]);
    }

    #[test]
    fn an_image_without_a_digest_of_a_registry_is_named_by_its_id_once() {
        let once = another("localhost/busybox:1.35", DIGEST, false);
        assert_eq!(once.as_deref(), Ok(DIGEST));
        assert!(another(DIGEST, DIGEST, false).is_err());
        assert!(another("localhost/busybox:1.35", DIGEST, true).is_err());
    }

    #[test]
    fn an_image_that_is_always_pulled_is_not_pulled_from_another_registry() {
        let mirror = format!("mirror.example/nginx@{DIGEST}");
        assert!(another("nginx:1.27", &mirror, true).is_err());
        assert_eq!(another("nginx:1.27", &mirror, false), Ok(mirror));
        for written in [
            "registry.example:5000/team/web:1",
            "registry.example:5000/team/web",
            "registry.example:5000/team/web:1@sha256:old",
        ] {
            let running = format!("registry.example:5000/team/web@{DIGEST}");
            assert_eq!(another(written, &running, true), Ok(running));
        }
        for (written, running) in [
            ("nginx", "docker.io/library/nginx"),
            ("team/web:2", "docker.io/team/web"),
        ] {
            let running = format!("docker-pullable://{running}@{DIGEST}");
            assert!(another(written, &running, true).is_ok(), "{written}");
        }
    }
}
