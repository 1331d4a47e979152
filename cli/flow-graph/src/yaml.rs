//! YAML as kubectl reads it, with the line of every value: YAML 1.1's scalars (`no` is false, `86_400` a
//! number), merge keys resolved. Input that kubectl reads in an unintended way, such as a duplicate key, is
//! refused.

mod scalar;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, vec::IntoIter};

use anyhow::{Context as _, bail, ensure};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};

/// How many values a text may have, those counted that an alias repeats.
const MAX_NODES: usize = 1_000_000;

/// How deep values may nest.
const MAX_DEPTH: usize = 100;

/// A value, and the line on which it begins; 0 if that is not known.
#[derive(Clone, Debug)]
pub(super) struct Node {
    line: usize,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    line: usize,
    pub(super) value: Node,
}

impl Entry {
    /// Where its key is, as the start of an error.
    pub(super) fn at(&self) -> String {
        at(self.line)
    }
}

fn at(line: usize) -> String {
    if line == 0 {
        String::new()
    } else {
        format!("line {line}: ")
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        let content = match value {
            Value::Array(items) => Content::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => {
                let entries = fields.into_iter().map(|(key, value)| Entry {
                    key,
                    line: 0,
                    value: value.into(),
                });
                Content::Map(entries.collect())
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Content::Scalar(scalar)
            }
        };
        Self { line: 0, content }
    }
}

impl Node {
    /// Where it is, as the start of an error.
    pub(super) fn at(&self) -> String {
        at(self.line)
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => {
                let mut entries = entries.iter();
                entries.find(|entry| entry.key == key).map(|e| &e.value)
            }
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// It, if it is a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(value) => value.as_str(),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The value without the lines, and without the fields that are null: to the API server they are absent.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                let is_null = |node: &Self| matches!(node.content, Content::Scalar(Value::Null));
                let pairs = entries.iter().filter(|entry| !is_null(&entry.value));
                let pairs = pairs.map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar(_) => 0,
            Content::List(items) => items.iter().map(Self::size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }
}

/// The documents of a text; one without content is null.
///
/// # Errors
/// The error, with its line.
pub(super) fn documents(text: &str) -> anyhow::Result<Vec<Node>> {
    let events: Result<Vec<_>, _> = Parser::new_from_str(text).collect();
    let mut reader = Reader {
        events: events.context("it is not valid YAML or JSON")?.into_iter(),
        anchors: HashMap::new(),
        left: MAX_NODES,
    };
    let mut documents = Vec::new();
    while let Some((event, _)) = reader.events.next() {
        if let Event::DocumentStart(..) = event {
            reader.anchors.clear();
            let first = reader.next()?;
            documents.push(reader.node(first, 0)?);
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    events: IntoIter<(Event<'a>, Span)>,
    anchors: HashMap<usize, Node>,
    /// How many more values there may be.
    left: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> anyhow::Result<(Event<'a>, usize)> {
        let is_content = |(event, _): &(Event<'a>, Span)| !matches!(event, Event::Comment(..));
        let next = self.events.find(is_content);
        let (event, span) = next.context("the text ends in the middle of a value")?;
        Ok((event, span.start.line()))
    }

    /// The value that begins with this event.
    fn node(&mut self, (event, line): (Event<'a>, usize), depth: usize) -> anyhow::Result<Node> {
        ensure!(depth <= MAX_DEPTH, "line {line}: values nest too deep");
        self.count(1, line)?;
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let value = scalar::value(&text, is_plain, tag.as_deref());
                (
                    anchor,
                    Content::Scalar(value.with_context(|| format!("line {line}"))?),
                )
            }
            Event::SequenceStart(_, anchor, tag) => {
                known(tag.as_deref(), "seq", line)?;
                (anchor, Content::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, tag) => {
                known(tag.as_deref(), "map", line)?;
                (anchor, Content::Map(self.map(depth)?))
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let node = known.with_context(|| format!("line {line}: an alias of itself"))?;
                self.count(node.size(), line)?;
                return Ok(node);
            }
            other => bail!("line {line}: unexpected {other:?}"),
        };
        let node = Node { line, content };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, line: usize) -> anyhow::Result<()> {
        let left = self.left.checked_sub(nodes);
        self.left = left.with_context(|| format!("line {line}: more than {MAX_NODES} values"))?;
        Ok(())
    }

    fn list(&mut self, depth: usize) -> anyhow::Result<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                first => items.push(self.node(first, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> anyhow::Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                first => first,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node((event, line), depth + 1)?;
            let first = self.next()?;
            let value = self.node(first, depth + 1)?;
            if is_merge {
                merged.extend(sources(value)?);
                continue;
            }
            let key = name(&key)?;
            if let Some(before) = entries.iter().find(|entry| entry.key == key) {
                bail!("line {line}: {key:?} is on line {} already", before.line);
            }
            entries.push(Entry { key, line, value });
        }
        // The map's own entries win, then the entries that are merged first.
        for entry in merged {
            if entries.iter().all(|known| known.key != entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// The fields that a merge key adds: those of a map, or of several.
fn sources(value: Node) -> anyhow::Result<Vec<Entry>> {
    let Node { line, content } = value;
    match content {
        Content::Map(entries) => Ok(entries),
        Content::List(items) => {
            let lists: Result<Vec<_>, _> = items.into_iter().map(sources).collect();
            Ok(lists?.into_iter().flatten().collect())
        }
        Content::Scalar(_) => bail!("line {line}: only maps can be merged with <<"),
    }
}

/// A key as JSON has it.
fn name(key: &Node) -> anyhow::Result<String> {
    match &key.content {
        Content::Scalar(Value::String(text)) => Ok(text.clone()),
        Content::Scalar(other) => Ok(other.to_string()),
        Content::List(_) | Content::Map(_) => bail!("line {}: a key must be a string", key.line),
    }
}

/// Refuses a tag that is not the one that a list or a map has in any case.
fn known(tag: Option<&Tag>, own: &str, line: usize) -> anyhow::Result<()> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(own) => {
            bail!("line {line}: the tag {tag} is not supported")
        }
        _ => Ok(()),
    }
}
