//! Components and core modules taken apart into their sections, and put together again.

use anyhow::{Context as _, Result};

/// The core modules of a component, and the code of a core module, by the number of their section.
pub(crate) const MODULE: u8 = 1;
pub(crate) const CODE: u8 = 10;

/// What a component or a module begins with.
const HEADER: usize = 8;

/// The sections: the kind of each, and its content.
pub(crate) fn sections(bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut rest = bytes.get(HEADER..)?;
    let mut sections = Vec::new();
    while let [kind, behind @ ..] = rest {
        let (length, content) = number_at(behind)?;
        sections.push((*kind, content.get(..length)?.to_vec()));
        rest = content.get(length..)?;
    }
    Some(sections)
}

/// These sections behind the header of others.
pub(crate) fn joined(header: &[u8], sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = header[..HEADER].to_vec();
    for (kind, content) in sections {
        bytes.push(*kind);
        bytes.extend(with_length(content));
    }
    bytes
}

/// The core module of an action that has its functions: the first. The others of its component join it with the host.
pub(crate) fn module_of(action: &[u8]) -> Result<Vec<u8>> {
    let sections = sections(action).context("no sections")?;
    let mut modules = sections.into_iter().filter(|(kind, _)| *kind == MODULE);
    Ok(modules.next().context("no module")?.1)
}

/// The action with another core module in place of its own.
pub(crate) fn with_module(action: &[u8], module: Vec<u8>) -> Result<Vec<u8>> {
    let mut sections = sections(action).context("no sections")?;
    let mut modules = sections.iter_mut().filter(|(kind, _)| *kind == MODULE);
    modules.next().context("no module")?.1 = module;
    Ok(joined(action, &sections))
}

/// Bytes behind their number.
pub(crate) fn with_length(bytes: &[u8]) -> Vec<u8> {
    let mut all = number(bytes.len());
    all.extend_from_slice(bytes);
    all
}

/// A number in LEB128.
pub(crate) fn number(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = number;
    while rest > 0x7f {
        bytes.push(0x80 | low_bits(rest));
        rest >>= 7;
    }
    bytes.push(low_bits(rest));
    bytes
}

/// The number in LEB128 at the beginning, and the bytes behind it.
fn number_at(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    let bits = number.iter().rev();
    Some((
        bits.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f)),
        rest,
    ))
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}
