//! Rules about labels, as label selectors and node affinity express them: parsed once, and then applied to
//! every node.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::ResourceExt;

/// A rule about the value of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

/// A label selector: all of its rules hold. One without rules selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Rule>);

/// A node affinity: one of its terms holds. One without terms selects nothing, and so does a term
/// without rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affinity(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    labels: Vec<Rule>,
    names: Vec<Rule>,
}

impl Selector {
    /// Reads a label selector.
    ///
    /// # Errors
    /// The error.
    pub(super) fn read(selector: &LabelSelector) -> Result<Self, String> {
        let LabelSelector {
            match_expressions,
            match_labels,
        } = selector;
        let labels = match_labels.iter().flatten();
        let equal = labels.map(|(key, value)| Ok(Rule::equal(key, value)));
        let expressions = match_expressions.iter().flatten().map(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "Gt" | "Lt" => Err(unknown(&expression.key, &expression.operator)),
                operator => Rule::read(&expression.key, operator, values),
            }
        });
        equal.chain(expressions).collect::<Result<_, _>>().map(Self)
    }

    /// A rule that selects objects with all of these labels.
    pub(super) fn equal(labels: &BTreeMap<String, String>) -> Self {
        let rules = labels.iter().map(|(key, value)| Rule::equal(key, value));
        Self(rules.collect())
    }

    /// Whether it selects this node.
    pub(super) fn selects(&self, node: &Node) -> bool {
        self.0.iter().all(|rule| rule.holds_for_labels(node))
    }
}

impl Affinity {
    /// Reads a node affinity.
    ///
    /// # Errors
    /// The error.
    pub(super) fn read(selector: &NodeSelector) -> Result<Self, String> {
        let terms = selector.node_selector_terms.iter().map(|term| {
            let NodeSelectorTerm {
                match_expressions,
                match_fields,
            } = term;
            Ok(Term {
                labels: rules(match_expressions.as_deref())?,
                names: rules(match_fields.as_deref())?
                    .into_iter()
                    .map(Rule::about_name)
                    .collect::<Result<_, _>>()?,
            })
        });
        terms.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it selects this node.
    pub(super) fn selects(&self, node: &Node) -> bool {
        self.0.iter().any(|term| term.selects(node))
    }
}

impl Term {
    fn selects(&self, node: &Node) -> bool {
        let name = node.name_any();
        let is_empty = self.labels.is_empty() && self.names.is_empty();
        !is_empty
            && self.labels.iter().all(|rule| rule.holds_for_labels(node))
            && self.names.iter().all(|rule| rule.holds(Some(&name)))
    }
}

impl Rule {
    fn equal(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            test: Test::In(vec![value.to_owned()]),
        }
    }

    fn read(key: &str, operator: &str, values: &[String]) -> Result<Self, String> {
        let test = match (operator, values) {
            ("In", [_, ..]) => Test::In(values.to_vec()),
            ("NotIn", [_, ..]) => Test::NotIn(values.to_vec()),
            ("In" | "NotIn", []) => return Err(format!("{operator} of {key:?} needs values")),
            ("Exists", []) => Test::Exists,
            ("DoesNotExist", []) => Test::Absent,
            ("Exists" | "DoesNotExist", _) => {
                return Err(format!("{operator} of {key:?} takes no values"));
            }
            ("Gt" | "Lt", values) => {
                let [number] = values else {
                    return Err(format!("{operator} of {key:?} needs one number"));
                };
                let number = number
                    .parse()
                    .map_err(|_| format!("{operator} of {key:?} needs a number, not {number:?}"))?;
                match operator {
                    "Gt" => Test::Above(number),
                    _ => Test::Below(number),
                }
            }
            _ => return Err(unknown(key, operator)),
        };
        Ok(Self {
            key: key.to_owned(),
            test,
        })
    }

    /// A rule of `matchFields`: Kubernetes knows one field.
    fn about_name(self) -> Result<Self, String> {
        let is_known = match &self.test {
            Test::In(_) | Test::NotIn(_) => self.key == "metadata.name",
            Test::Exists | Test::Absent | Test::Above(_) | Test::Below(_) => false,
        };
        if is_known {
            return Ok(self);
        }
        Err(format!(
            "matchFields supports only In and NotIn for \"metadata.name\", not the key {:?}",
            self.key
        ))
    }

    fn holds_for_labels(&self, node: &Node) -> bool {
        self.holds(node.labels().get(&self.key).map(String::as_str))
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let is_one_of = |values: &[String]| value.is_some_and(|v| values.iter().any(|o| o == v));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => is_one_of(values),
            Test::NotIn(values) => !is_one_of(values),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Above(limit) => number().is_some_and(|number| number > *limit),
            Test::Below(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

fn rules(requirements: Option<&[NodeSelectorRequirement]>) -> Result<Vec<Rule>, String> {
    let requirements = requirements.unwrap_or_default().iter();
    requirements
        .map(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            Rule::read(&requirement.key, &requirement.operator, values)
        })
        .collect()
}

fn unknown(key: &str, operator: &str) -> String {
    format!("the operator {operator:?} of {key:?} is not supported")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": {"a": "1", "zone": "x"}}});
        serde_json::from_value(node).expect("a node")
    }

    fn affinity(value: Value) -> Result<Affinity, String> {
        Affinity::read(&serde_json::from_value(value).expect("a node selector"))
    }

    #[test]
    fn affinity_selects_as_kubernetes_does() {
        let term = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let name = |operator: &str, name: &str| {
            json!({"matchFields": [
                {"key": "metadata.name", "operator": operator, "values": [name]},
            ]})
        };
        for (terms, expected) in [
            (json!([]), false),
            (json!([{}]), false),
            (json!([term("a", "In", json!(["1", "2"]))]), true),
            (json!([term("b", "In", json!(["1"]))]), false),
            (json!([term("b", "NotIn", json!(["1"]))]), true),
            (json!([term("a", "NotIn", json!(["1"]))]), false),
            (json!([term("a", "Exists", json!([]))]), true),
            (json!([term("a", "DoesNotExist", json!([]))]), false),
            (json!([term("b", "DoesNotExist", json!([]))]), true),
            (json!([term("a", "Gt", json!(["0"]))]), true),
            (json!([term("a", "Lt", json!(["1"]))]), false),
            (json!([term("zone", "Gt", json!(["0"]))]), false),
            (json!([term("b", "Lt", json!(["9"]))]), false),
            (json!([name("In", "n1")]), true),
            (json!([name("NotIn", "n1")]), false),
            (
                json!([name("In", "n2"), term("a", "In", json!(["1"]))]),
                true,
            ),
        ] {
            let read = affinity(json!({"nodeSelectorTerms": terms}));
            assert_eq!(read.map(|a| a.selects(&node())), Ok(expected), "{terms}");
        }
    }

    #[test]
    fn what_kubernetes_would_refuse_is_an_error_that_names_the_key() {
        for (operator, values) in [
            ("In", json!([])),
            ("NotIn", json!(null)),
            ("Exists", json!(["1"])),
            ("Gt", json!([])),
            ("Lt", json!(["1", "2"])),
            ("Gt", json!(["many"])),
            ("Like", json!(["1"])),
            ("", json!(null)),
        ] {
            let rule = json!({"key": "some/key", "operator": operator, "values": values});
            let read = affinity(json!({"nodeSelectorTerms": [{"matchExpressions": [rule]}]}));
            let error = read.expect_err(operator);
            assert!(error.contains("\"some/key\""), "{error}");
            let read = affinity(json!({"nodeSelectorTerms": [{"matchFields": [rule]}]}));
            assert!(read.is_err(), "{operator}");
        }
    }

    #[test]
    fn a_label_selector_knows_no_numbers_and_an_empty_one_selects_everything() {
        let read = |value: Value| {
            Selector::read(&serde_json::from_value(value).expect("a label selector"))
        };
        let selects = |value: Value| read(value).map(|selector| selector.selects(&node()));
        assert_eq!(selects(json!({})), Ok(true));
        assert_eq!(selects(json!({"matchLabels": {"a": "1"}})), Ok(true));
        assert_eq!(
            selects(json!({"matchLabels": {"a": "1", "b": ""}})),
            Ok(false)
        );
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        assert_eq!(selects(expression("NotIn", json!(["2"]))), Ok(true));
        assert!(selects(expression("Gt", json!(["0"]))).is_err());
        assert!(selects(expression("In", json!([]))).is_err());
    }
}
