//! What the bytes of a component say about it without being run: what it imports and exports, and the tools that
//! made it. Nothing is decided by it: `world` decides what a component may import.

use wasmparser::{KnownCustom, Parser, Payload};

use crate::{
    limits::{PRODUCER_BYTES, PRODUCERS},
    log::one_line,
};

/// A component as its sections describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The names of its imports, in its order.
    pub imports: Vec<String>,
    /// The names of its exports, in its order.
    pub exports: Vec<String>,
    /// Languages, tools and SDKs, as they say themselves in its `producers` sections.
    pub producers: Vec<Producer>,
}

/// One entry of a `producers` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`
    pub role: String,
    /// Such as `rustc`.
    pub name: String,
    /// As the tool writes it; may be empty.
    pub version: String,
}

/// Reads the sections of a component, up to the first that can't be read.
pub fn describe(component: &[u8]) -> Description {
    let mut description = Description::default();
    // Imports and exports are those of the outermost component.
    let mut depth = 0_usize;
    let payloads = Parser::new(0).parse_all(component);
    for payload in payloads.map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                let names = imports.into_iter().map_while(Result::ok);
                let names = names.map(|import| printable(import.name.name));
                description.imports.extend(names);
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                let names = exports.into_iter().map_while(Result::ok);
                let names = names.map(|export| printable(export.name.name));
                description.exports.extend(names);
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    for field in fields.into_iter().map_while(Result::ok) {
                        let values = field.values.into_iter().map_while(Result::ok);
                        for value in values {
                            description.add(field.name, value.name, value.version);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    description
}

impl Description {
    /// Every tool once: the modules in a component have sections of their own.
    fn add(&mut self, role: &str, name: &str, version: &str) {
        let producer = Producer {
            role: role.to_owned(),
            name: printable(name),
            version: printable(version),
        };
        if self.producers.len() < PRODUCERS && !self.producers.contains(&producer) {
            self.producers.push(producer);
        }
    }
}

/// A component may have any text as a name.
fn printable(text: &str) -> String {
    one_line(text, PRODUCER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_kept_up_to_a_number_and_their_names_are_shortened() {
        let mut description = Description::default();
        for number in 0..1_000 {
            let name = format!("{number} {}", "n".repeat(1_000));
            description.add("language", &name, &"v".repeat(1_000));
        }
        assert_eq!(description.producers.len(), PRODUCERS);
        let longest = PRODUCER_BYTES + '…'.len_utf8();
        for producer in description.producers {
            assert!(producer.name.len() <= longest && producer.version.len() <= longest);
        }
    }
}
