//! `cargo xtask permissions`: the table of rights in `docs/permissions.md`, from the chart's RBAC.
//!
//! The chart is rendered as Helm installs it. The comment above a rule in a template is the reason that
//! the table gives for it, so a rule without a comment is an error.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, Tool, output_of};
use serde_json::Value;

pub(crate) use crate::generated::Arguments;
use crate::generated::Page;
use crate::host::NAMESPACE;
use crate::tools;

const PAGE: Page = Page {
    file: "docs/permissions.md",
    command: "permissions",
    source: "the chart's RBAC",
};

/// Writes the tables, or compares them with those that are there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    PAGE.run(arguments, &tables(&progress)?, &progress)
}

/// Fails if the tables are not what the chart says.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    PAGE.check(&tables(progress)?, progress)
}

/// The chart as Helm renders it with these values.
fn rendered(values: &[String], progress: &Progress) -> Result<String> {
    let mut command = Command::new(Tool::Helm.ensure(progress)?);
    command.args(["template", "operon"]).arg(tools::chart_dir());
    command.args(["--namespace", NAMESPACE, "--kube-version", "1.34.0"]);
    for value in values {
        command.args(["--set", value]);
    }
    output_of(&mut command)
}

/// The objects of the chart, with everything that its values can enable.
pub(crate) fn with_everything(progress: &Progress) -> Result<Vec<Value>> {
    let switches = switches(&tools::chart_dir().join("templates"))?;
    let on: Vec<_> = switches.iter().map(|it| format!("{it}=true")).collect();
    let manifest = rendered(&on, progress)?;
    let documents = manifest.split("---\n").map(serde_yaml_ng::from_str);
    Ok(documents.collect::<Result<_, _>>()?)
}

/// Everything that the chart can grant: a table for each subject, and for each rule its chart values.
fn tables(progress: &Progress) -> Result<String> {
    let chart = tools::chart_dir();
    let render = |values: &[String]| roles(&rendered(values, progress)?);
    let switches = switches(&chart.join("templates"))?;
    let defaults = keys(&render(&[])?);
    let all_but = |off: &[&String]| {
        let values = switches.iter();
        let values = values.map(|switch| format!("{switch}={}", !off.contains(&switch)));
        render(&values.collect::<Vec<_>>())
    };
    let without = |off: &String| {
        // What requires it is off as well: the chart refuses one controller without the other.
        let beside = off.split_once('.').map_or("", |(parent, _)| parent);
        let mut beside = switches.iter().filter(|switch| switch.starts_with(beside));
        let rendered = all_but(&[off]).or_else(|refused| {
            let rendered = beside.find_map(|other| all_but(&[off, other]).ok());
            rendered.ok_or(refused)
        })?;
        Ok((off.clone(), keys(&rendered)))
    };
    let without = switches.iter().map(without).collect::<Result<Vec<_>>>()?;
    let on: Vec<_> = switches.iter().map(|it| format!("{it}=true")).collect();
    let mut text = String::new();
    for (subject, rows) in by_subject(render(&on)?) {
        let _ = write!(
            text,
            "\n### {subject}\n| API group | resources | verbs | what for | chart value |\n|---|---|---|---|---|\n"
        );
        for key in rows {
            let (_, row) = &key;
            let needed: Vec<_> = without
                .iter()
                .filter(|(_, keys)| !keys.contains(&key))
                .map(|(switch, _)| format!("`{switch}`"))
                .collect();
            let value = match (needed.is_empty(), defaults.contains(&key)) {
                (true, _) => "always".to_owned(),
                (false, true) => format!("{}, on by default", needed.join(", ")),
                (false, false) => format!("{}, **off** by default", needed.join(", ")),
            };
            let _ = writeln!(text, "{row} {value} |");
        }
    }
    Ok(format!("{text}\n"))
}

/// The chart value that a line of a template tests, as a path.
fn switch(line: &str) -> Option<String> {
    let condition = line.trim().strip_prefix("{{- if ")?;
    if let Some(rest) = condition.strip_prefix(".Values.") {
        return rest.split([' ', '}']).next().map(str::to_owned);
    }
    let enabled = condition.strip_prefix("include \"operon.isEnabled\" ")?;
    let (_, rest) = enabled.split_once("\"controller\" \"")?;
    let (controller, _) = rest.split_once('"')?;
    Some(format!("controllers.{controller}.enabled"))
}

/// For each subject, in the order of the roles: the rows of all of its roles, each with its role's name.
fn by_subject(roles: Vec<Role>) -> Vec<(String, Vec<(String, String)>)> {
    let mut tables: Vec<(String, Vec<_>)> = Vec::new();
    for Role {
        name,
        subject,
        rows,
    } in roles
    {
        let rows = rows.into_iter().map(|row| (name.clone(), row));
        match tables.iter_mut().find(|(known, _)| *known == subject) {
            Some((_, known)) => known.extend(rows),
            None => tables.push((subject, rows.collect())),
        }
    }
    tables
}

/// The chart values that templates with roles test, as paths.
fn switches(templates: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(templates)
        .with_context(|| format!("failed to read {}", templates.display()))?
    {
        let file = entry?.path();
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        // A role is written out, or is a part of what an action has.
        if text.contains("apiGroups:") || text.contains("include \"operon.action\"") {
            found.extend(text.lines().filter_map(switch));
        }
    }
    Ok(found)
}

/// A role of the rendered chart, and who has it.
struct Role {
    name: String,
    subject: String,
    /// Rows of the table, without the column of chart values.
    rows: Vec<String>,
}

fn keys(roles: &[Role]) -> BTreeSet<(String, String)> {
    roles
        .iter()
        .flat_map(|role| role.rows.iter().map(|row| (role.name.clone(), row.clone())))
        .collect()
}

/// The roles of a rendered chart, in its order.
fn roles(manifest: &str) -> Result<Vec<Role>> {
    let documents = manifest
        .split("---\n")
        .map(|text| Ok((text, serde_yaml_ng::from_str(text)?)))
        .collect::<Result<Vec<(&str, Value)>>>()?;
    let mut roles = Vec::new();
    for (text, object) in &documents {
        if matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")) {
            let name = words(&object["metadata"]["name"]);
            let subject = documents
                .iter()
                .find_map(|(_, binding)| bound(object, binding))
                .or_else(|| aggregated(object))
                .or_else(|| offered(object))
                .with_context(|| format!("nobody has the role {name:?} of the chart"))?;
            let rows = rows(text, &object["rules"]).with_context(|| format!("role {name:?}"))?;
            roles.push(Role {
                name,
                subject,
                rows,
            });
        }
    }
    Ok(roles)
}

/// Who has the role by this binding, and where.
fn bound(role: &Value, binding: &Value) -> Option<String> {
    let reference = &binding["roleRef"];
    if reference["kind"] != role["kind"] || reference["name"] != role["metadata"]["name"] {
        return None;
    }
    let place = if binding["kind"] == "ClusterRoleBinding" {
        "in all namespaces"
    } else {
        "in the operator's namespace"
    };
    let account = words(&binding["subjects"][0]["name"]);
    Some(format!("ServiceAccount `{account}`, {place}"))
}

/// Who has the role because Kubernetes adds it to its own.
fn aggregated(role: &Value) -> Option<String> {
    let labels = role["metadata"]["labels"].as_object()?.keys();
    let prefix = "rbac.authorization.k8s.io/aggregate-to-";
    let to: Vec<_> = labels
        .filter_map(|label| label.strip_prefix(prefix))
        .collect();
    (!to.is_empty()).then(|| format!("Users with `{}`, where they have it", to.join("`, `")))
}

/// Who has a role that the chart only offers: the use of an action that Kubernetes' roles do not include.
fn offered(role: &Value) -> Option<String> {
    let labels = &role["metadata"]["labels"];
    let name = words(&role["metadata"]["name"]);
    (labels["app.kubernetes.io/component"] == "use")
        .then(|| format!("Users to whom you bind the ClusterRole `{name}`"))
}

/// The rules of a role, each with the comment above it.
fn rows(text: &str, rules: &Value) -> Result<Vec<String>> {
    let (mut reasons, mut comment) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
            continue;
        }
        if line.starts_with("- apiGroups:") {
            reasons.push(comment.join(" "));
        }
        comment.clear();
    }
    let rules = rules.as_array().context("a role without rules")?;
    if reasons.len() != rules.len() || reasons.iter().any(String::is_empty) {
        bail!("each rule needs a comment above it, which says what it is for");
    }
    let row = |(rule, reason): (&Value, &String)| {
        let group = words(&rule["apiGroups"]);
        let group = if group.is_empty() { "core" } else { &group };
        let mut resources = words(&rule["resources"]);
        if rule["resourceNames"].is_array() {
            resources.push_str(" named ");
            resources.push_str(&words(&rule["resourceNames"]));
        }
        format!(
            "| {group} | {resources} | {} | {reason} |",
            words(&rule["verbs"])
        )
    };
    Ok(rules.iter().zip(&reasons).map(row).collect())
}

/// A text, or the texts of a list.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: &str = "kind: RoleBinding
roleRef: {kind: Role, name: operon}
subjects: [{kind: ServiceAccount, name: operon}]
";

    fn manifest(reason: &str) -> String {
        let rule = "  - apiGroups: [\"\"]\n    resources: [leases]\n    resourceNames: [operon]\n    verbs: [get, list]";
        format!(
            "---\nkind: Role\nmetadata:\n  name: operon\nrules:\n{reason}{rule}\n---\n{BINDING}"
        )
    }

    #[test]
    fn a_rule_is_a_row_with_the_comment_above_it() -> Result<()> {
        let roles = roles(&manifest("  # Leader\n  # election.\n"))?;
        assert_eq!(roles.len(), 1);
        assert_eq!(
            roles[0].subject,
            "ServiceAccount `operon`, in the operator's namespace"
        );
        let row = "| core | leases named operon | get, list | Leader election. |";
        assert_eq!(roles[0].rows, [row]);
        Ok(())
    }

    #[test]
    fn the_roles_of_one_subject_share_a_table() -> Result<()> {
        let role = |name: &str, labels: &str| {
            format!(
                "---\nkind: ClusterRole\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\nrules:\n  # Why.\n  - apiGroups: [\"\"]\n    resources: [{name}]\n    verbs: [use]\n"
            )
        };
        let edit = "rbac.authorization.k8s.io/aggregate-to-edit: \"true\"";
        let use_only = "app.kubernetes.io/component: use";
        let text = [role("a", edit), role("b", use_only), role("c", edit)].concat();
        let tables = by_subject(roles(&text)?);
        let found: Vec<_> = tables
            .iter()
            .map(|(subject, rows)| (subject.as_str(), rows.len()))
            .collect();
        let wanted = [
            ("Users with `edit`, where they have it", 2),
            ("Users to whom you bind the ClusterRole `b`", 1),
        ];
        assert_eq!(found, wanted);
        Ok(())
    }

    #[test]
    fn a_rule_without_a_reason_and_a_role_that_nobody_has_are_refused() {
        assert!(roles(&manifest("")).is_err());
        let unbound =
            manifest("  # Why.\n").replace("roleRef: {kind: Role", "roleRef: {kind: ClusterRole");
        assert!(roles(&unbound).is_err());
    }
}
