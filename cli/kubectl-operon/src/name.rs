//! The object that a user names: `KIND/NAME` or `KIND NAME`.

use anyhow::{anyhow, bail};
use operon_cli_model::{Kind, is_name};

/// An object by kind and name.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The object: KIND/NAME or KIND NAME. Kinds: opj, jf, dj, reactivejob, cls, and their long names
    #[arg(required = true, num_args = 1..=2, value_name = "KIND/NAME")]
    object: Vec<String>,
}

impl Named {
    /// The kind and the name.
    pub(crate) fn parsed(&self) -> anyhow::Result<(Kind, String)> {
        named(&self.object)
    }
}

/// The kind and the name that these words have.
pub(crate) fn named(words: &[String]) -> anyhow::Result<(Kind, String)> {
    let (kind, name) = match words {
        [both] => both.split_once('/').ok_or_else(|| incomplete(both))?,
        [kind, name] => (kind.as_str(), name.as_str()),
        _ => bail!("write KIND/NAME"),
    };
    let kind = Kind::parse(kind)?;
    if !is_name(name) {
        bail!("{name:?} is no name of an object: names have letters, digits, - and .");
    }
    Ok((kind, name.to_owned()))
}

/// The error about a word that is only a kind, or only a name.
fn incomplete(word: &str) -> anyhow::Error {
    match Kind::parse(word) {
        Ok(kind) => anyhow!(
            "{word:?} has no name: write {word}/NAME; `kubectl get {}` lists the names",
            kind.plural()
        ),
        Err(_) => anyhow!("{word:?} has no kind: write KIND/NAME, for example opj/{word}"),
    }
}
