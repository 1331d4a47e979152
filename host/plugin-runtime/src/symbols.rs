//! The names of functions and modules in a component: how long they are. Checked by the compile child.
//!
//! wasmtime keeps these names with the machine code and copies those of up to 64 frames for each trap, in
//! the host. Everything else of a component is validated by wasmtime itself.

use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::limits::SYMBOL_BYTES;

/// Refuses a component with a name that is too long. What can't be read is left to the compiler.
pub(crate) fn check(component: &[u8]) -> Result<(), String> {
    let payloads = Parser::new(0).parse_all(component).map_while(Result::ok);
    let longest = payloads.map(longest).max().unwrap_or_default();
    if longest > SYMBOL_BYTES {
        return Err(format!(
            "the name of a function or module has {longest} bytes; at most {SYMBOL_BYTES}"
        ));
    }
    Ok(())
}

/// The length of the longest name in a part of a component.
fn longest(payload: Payload<'_>) -> usize {
    let Payload::CustomSection(section) = payload else {
        return 0;
    };
    let KnownCustom::Name(names) = section.as_known() else {
        return 0;
    };
    let names = names.into_iter().map_while(Result::ok);
    names.map(longest_of).max().unwrap_or_default()
}

fn longest_of(names: Name<'_>) -> usize {
    match names {
        Name::Module { name, .. } => name.len(),
        Name::Function(names) => {
            let names = names.into_iter().map_while(Result::ok);
            names
                .map(|naming| naming.name.len())
                .max()
                .unwrap_or_default()
        }
        // wasmtime keeps no others.
        _ => 0,
    }
}
