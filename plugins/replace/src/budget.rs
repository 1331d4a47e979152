//! `PodDisruptionBudgets` over a pod. The eviction API refuses every eviction of a pod that several budgets
//! select, with a sentence that names none of them: so they are named here.

use operon_sdk::{Cluster, Pod, ReadError, Value};

/// The names of the budgets that select this pod.
pub fn over(pod: &Pod, cluster: &dyn Cluster) -> Result<Vec<String>, ReadError> {
    let budgets = cluster.find("policy/v1", "PodDisruptionBudget", "")?;
    let selecting = budgets
        .iter()
        .filter(|budget| selects(&budget["spec"]["selector"], pod));
    let names = selecting.filter_map(|budget| budget["metadata"]["name"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Whether a label selector selects a pod; an absent one selects none, an empty one all.
fn selects(selector: &Value, pod: &Pod) -> bool {
    if !selector.is_object() {
        return false;
    }
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut labels = labels.map(|(key, value)| pod.label(key) == value.as_str());
    let expressions = selector["matchExpressions"].as_array();
    let mut expressions = expressions.into_iter().flatten();
    labels.all(|fits| fits) && expressions.all(|expression| fits(expression, pod))
}

fn fits(expression: &Value, pod: &Pod) -> bool {
    let value = pod.label(expression["key"].as_str().unwrap_or_default());
    let listed = || {
        let values = expression["values"].as_array().into_iter().flatten();
        value.is_some_and(|value| values.into_iter().any(|one| one == value))
    };
    match expression["operator"].as_str() {
        Some("In") => listed(),
        Some("NotIn") => !listed(),
        Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::json;
    use operon_sdk::testing::FakeCluster;

    #[test]
    fn budgets_select_pods_as_kubernetes_says() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({"labels": {"app": "foo", "tier": "a"}}));
        let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
        let table = [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "foo"}}), true),
            (json!({"matchLabels": {"app": "bar"}}), false),
            (expression("In", &["a", "b"]), true),
            (expression("NotIn", &["a"]), false),
            (expression("Exists", &[]), true),
            (expression("DoesNotExist", &[]), false),
        ];
        for (selector, expected) in table {
            assert_eq!(selects(&selector, &pod), expected, "{selector}");
        }
    }
}
