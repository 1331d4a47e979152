//! Writes actions with random functions into a folder: `wasm-smith` generates a core module with the imports and the
//! exports of a guest's. `setup` answers as a decent action does, so that the others are called. The same number
//! gives the same action. `cargo xtask fuzz` builds and runs this; `tests/mutants` loads and calls what it writes.

#[path = "../../support/random.rs"]
mod random;
#[path = "../../support/sections.rs"]
mod sections;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use arbitrary::Unstructured;
use wasm_smith::{Config, Module};
use wasmparser::{BinaryReader, CodeSectionReader, ExternalKind, Parser, Payload, TypeRef};

use crate::{
    random::Random,
    sections::{CODE, joined, module_of, number, sections, with_length, with_module},
};

/// How many random bytes the choices for a module are made of.
const BYTES: usize = 16 << 10;

/// The export that has to succeed before an action is called.
const SETUP: &str = "operon:action/handler@0.2.0#setup";

/// Where the answer of `setup` is, in a memory of which nothing is known.
const ANSWER: u32 = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [guest, folder, first, count] = arguments.as_slice() else {
        bail!("usage: operon-generator GUEST FOLDER FIRST COUNT");
    };
    let guest = fs::read(guest).with_context(|| format!("failed to read {guest:?}"))?;
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    for number in first..first + count {
        let action = action(&guest, &mut Random(number));
        let action = action.with_context(|| format!("failed to generate action {number}"))?;
        fs::write(Path::new(folder).join(format!("{number}.wasm")), action)?;
    }
    Ok(())
}

/// An action as this one, with random functions.
fn action(guest: &[u8], random: &mut Random) -> Result<Vec<u8>> {
    let module = module(&module_of(guest)?, random)?;
    with_module(guest, module)
}

/// A module with the imports and exports of another.
fn module(shape: &[u8], random: &mut Random) -> Result<Vec<u8>> {
    let config = Config {
        module_shape: Some(shape.to_vec()),
        max_memories: 1,
        max_tables: 1 + random.below(4),
        max_instructions: 1 + random.below(500),
        // Some modules have what the host does not run.
        gc_enabled: random.below(16) == 0,
        reference_types_enabled: random.below(16) == 0,
        wide_arithmetic_enabled: random.below(16) == 0,
        exceptions_enabled: random.below(16) == 0,
        memory64_enabled: random.below(16) == 0,
        threads_enabled: random.below(16) == 0,
        ..Config::default()
    };
    let bytes: Vec<u8> = (0..BYTES / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    let module = Module::new(config, &mut Unstructured::new(&bytes))?.to_bytes();
    let setup = body(&format!(
        "(param i32 i32) (result i32)
        (memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.const 64))
        (i32.store16 (i32.const 32) (i32.const 0x7d7b))
        (i64.store offset=12 (i32.const {ANSWER}) (i64.const 0x200000020))
        (i64.store offset=20 (i32.const {ANSWER}) (i64.const 0x200000020))
        (i32.const {ANSWER})"
    ))?;
    let module = with_body(&module, SETUP, &setup)?;
    // What frees the answer of `setup` may call nothing, and without room for its arguments no call begins: mostly there
    // is some, where all arguments are written over each other.
    if random.below(4) == 0 {
        return Ok(module);
    }
    let free = body("(param i32)")?;
    let module = with_body(&module, &format!("cabi_post_{SETUP}"), &free)?;
    let room = body("(param i32 i32 i32 i32) (result i32) (i32.const 4096)")?;
    with_body(&module, "cabi_realloc", &room)
}

/// The body of a function, encoded.
fn body(function: &str) -> Result<Vec<u8>> {
    let module = wat::parse_str(format!("(module (memory 1) (func {function}))"))?;
    let (_, bodies) = code(&module)?;
    bodies.into_iter().next().context("no function")
}

/// The module with another body of the function that it exports under this name.
fn with_body(module: &[u8], export: &str, body: &[u8]) -> Result<Vec<u8>> {
    let (mut imported, mut index) = (0, None);
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(exports) => {
                for found in exports {
                    let found = found?;
                    if found.name == export && found.kind == ExternalKind::Func {
                        index = Some(found.index);
                    }
                }
            }
            _ => {}
        }
    }
    let index = index.with_context(|| format!("no {export}"))?;
    let defined = index.checked_sub(imported).context("it is imported")?;
    let (place, mut bodies) = code(module)?;
    *bodies.get_mut(defined as usize).context("no body")? = body.to_vec();
    let mut content = number(bodies.len());
    content.extend(bodies.iter().flat_map(|body| with_length(body)));
    let mut sections = sections(module).context("no sections")?;
    sections[place].1 = content;
    Ok(joined(module, &sections))
}

/// Which section has the code, and the bodies in it.
fn code(module: &[u8]) -> Result<(usize, Vec<Vec<u8>>)> {
    let sections = sections(module).context("no sections")?;
    let mut places = sections.iter().enumerate();
    let (place, (_, content)) = places
        .find(|(_, (kind, _))| *kind == CODE)
        .context("no code")?;
    let mut bodies = Vec::new();
    for function in CodeSectionReader::new(BinaryReader::new(content, 0))? {
        bodies.push(function?.as_bytes().to_vec());
    }
    Ok((place, bodies))
}
