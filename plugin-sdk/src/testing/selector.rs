//! Label selectors, as the fake cluster understands them: `a=b`, `a!=b`, `a in (b,c)`,
//! `a notin (b,c)`, `a`, `!a`, joined by commas.

/// One requirement: the key, and what its value must be.
#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    rule: Rule,
}

#[derive(Debug, PartialEq, Eq)]
enum Rule {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// Whether labels (looked up by `label`) match the selector; none if it can't be read.
pub(super) fn matches<'a>(selector: &str, label: impl Fn(&str) -> Option<&'a str>) -> Option<bool> {
    let requirements = parse(selector)?;
    Some(requirements.iter().all(|requirement| {
        let value = label(&requirement.key);
        match &requirement.rule {
            Rule::Exists => value.is_some(),
            Rule::Absent => value.is_none(),
            Rule::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Rule::NotIn(values) => {
                !value.is_some_and(|value| values.iter().any(|one| one == value))
            }
        }
    }))
}

fn parse(selector: &str) -> Option<Vec<Requirement>> {
    let parts = split_outside_parentheses(selector);
    let parts = parts.iter().map(|part| part.trim());
    parts
        .filter(|part| !part.is_empty())
        .map(requirement)
        .collect()
}

fn split_outside_parentheses(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for character in text.chars() {
        match character {
            '(' => inside = true,
            ')' => inside = false,
            ',' if !inside => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    let (key, rule) = if let Some(key) = text.strip_prefix('!') {
        (key, Rule::Absent)
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Rule::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Rule::In(vec![value.trim().to_owned()]))
    } else if let Some((key, values)) = text.split_once(" notin ") {
        (key, Rule::NotIn(set(values)?))
    } else if let Some((key, values)) = text.split_once(" in ") {
        (key, Rule::In(set(values)?))
    } else {
        (text, Rule::Exists)
    };
    let key = key.trim();
    let readable = !key.is_empty() && !key.contains([' ', '(', ')', '=', '!']);
    readable.then(|| Requirement {
        key: key.to_owned(),
        rule,
    })
}

fn set(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.split(',').map(|one| one.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_kubernetes_does() {
        let label = |key: &str| match key {
            "app" => Some("foo"),
            "tier" => Some("a"),
            _ => None,
        };
        let table = [
            ("", Some(true)),
            ("app=foo", Some(true)),
            ("app==foo,tier!=b", Some(true)),
            ("app=foo,tier in (b, c)", Some(false)),
            ("tier notin (b,c),!gone", Some(true)),
            ("gone", Some(false)),
            ("!app", Some(false)),
            ("a b", None),
            ("tier in b", None),
        ];
        for (selector, expected) in table {
            assert_eq!(matches(selector, label), expected, "{selector:?}");
        }
    }
}
