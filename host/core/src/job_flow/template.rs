//! The status of a JobTemplate: the Jobs that were created from it. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{JobTemplate, job_template::JobTemplateStatus, keys};

/// How many Jobs the status names.
const NAMED: usize = 100;

/// The JobTemplate that a Job was created from: namespace and name. The first dot separates them, because a
/// namespace has none; any other value names no JobTemplate.
pub fn made_from(job: &Job) -> Option<(&str, &str)> {
    let value = job.annotations().get(keys::JOB_TEMPLATE)?;
    let (namespace, name) = value.split_once('.')?;
    // Jobs are created from templates of their own namespace: an annotation can't name a template of
    // another namespace.
    let is_own = job.metadata.namespace.as_deref() == Some(namespace);
    (is_own && !name.is_empty()).then_some((namespace, name))
}

/// The status of `template`; `jobs` may hold others' Jobs too.
pub fn status(template: &JobTemplate, jobs: &[Arc<Job>]) -> JobTemplateStatus {
    let namespace = template.namespace().unwrap_or_default();
    let name = template.name_any();
    let mut names: Vec<_> = jobs
        .iter()
        .filter(|job| made_from(job) == Some((&namespace, &name)))
        .map(|job| job.name_any())
        .collect();
    names.sort();
    let count = i32::try_from(names.len()).unwrap_or(i32::MAX);
    names.truncate(NAMED);
    JobTemplateStatus {
        dependency_list: names,
        jobs: Some(count),
    }
}

#[cfg(test)]
mod tests {
    use operon_api::job_template::JobTemplateSpec;
    use serde_json::json;

    use super::*;

    fn job(name: &str, namespace: &str, made_from: &str) -> Arc<Job> {
        let job = json!({"metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {(keys::JOB_TEMPLATE): made_from},
        }});
        Arc::new(serde_json::from_value(job).expect("a Job"))
    }

    fn template(name: &str) -> JobTemplate {
        let mut template = JobTemplate::new(name, JobTemplateSpec::default());
        template.metadata.namespace = Some("default".to_owned());
        template
    }

    fn named(template: &JobTemplate, jobs: &[Arc<Job>]) -> Vec<String> {
        status(template, jobs).dependency_list
    }

    #[test]
    fn malformed_annotations_are_nobodys_and_names_may_have_dots() {
        let jobs: Vec<_> = ["", ".", "default", "default.", ".t", "default..t", "..."]
            .iter()
            .enumerate()
            .map(|(place, value)| job(&format!("bad-{place}"), "default", value))
            .chain([job("good", "default", "default.t.v1")])
            .collect();
        assert_eq!(named(&template("t.v1"), &jobs), ["good"]);
        assert_eq!(named(&template("t"), &jobs), [""; 0]);
        assert_eq!(named(&template("v1"), &jobs), [""; 0]);
    }

    #[test]
    fn jobs_of_other_namespaces_and_templates_are_not_its() {
        let jobs = [
            job("b", "default", "default.t"),
            job("a", "default", "default.t"),
            job("c", "default", "default.other"),
            job("d", "other", "other.t"),
            job("e", "other", "default.t"),
        ];
        assert_eq!(named(&template("t"), &jobs), ["a", "b"]);
    }

    #[test]
    fn the_list_becomes_empty_again_and_is_bounded() {
        let none = status(&template("t"), &[]);
        assert_eq!((none.dependency_list.len(), none.jobs), (0, Some(0)));
        let many: Vec<_> = (0..250)
            .map(|number| job(&format!("job-{number:03}"), "default", "default.t"))
            .collect();
        let status = status(&template("t"), &many);
        assert_eq!(status.jobs, Some(250));
        assert_eq!(status.dependency_list.len(), 100);
        assert_eq!(status.dependency_list.last().expect("one"), "job-099");
    }
}
