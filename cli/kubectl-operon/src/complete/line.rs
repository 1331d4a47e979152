//! The command line so far, and what its last word can be. Pure: the commands and flags are those that clap has.

use clap::{Arg, ArgAction, Command};

/// What completes the last word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A command.
    Command,
    /// A flag of this command.
    Flag { command: String },
    /// The value of the flag with this id, which has so much already.
    Value { id: String, begun: String },
    /// The next word of this command after these words, which has so much already.
    Word {
        command: String,
        before: Vec<String>,
        begun: String,
    },
}

/// The command line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) wanted: Wanted,
    /// The flags that name cluster, namespace and user, as one word each.
    pub(super) global: Vec<String>,
}

impl Line {
    /// Reads the words; the last one is completed. `root` is built, so each command has the global flags.
    pub(super) fn read(root: &Command, words: &[String]) -> Self {
        let (last, before) = match words.split_last() {
            Some((last, before)) => (last.as_str(), before),
            None => ("", &[][..]),
        };
        let mut reader = Reader {
            root,
            command: root,
            positionals: Vec::new(),
            pending: None,
            has_only_words: false,
            global: Vec::new(),
        };
        for word in before {
            reader.take(word);
        }
        Self {
            wanted: reader.wanted(last),
            global: reader.global,
        }
    }
}

struct Reader<'a> {
    root: &'a Command,
    command: &'a Command,
    positionals: Vec<String>,
    /// The flag that has its value in the next word.
    pending: Option<&'a Arg>,
    /// After `--`.
    has_only_words: bool,
    global: Vec<String>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, word: &str) {
        if let Some(flag) = self.pending.take() {
            self.note(flag, word);
        } else if self.is_flag(word) {
            self.flag(word);
        } else if word == "--" && !self.has_only_words {
            self.has_only_words = true;
        } else if let (true, Some(command)) = (self.is_root(), self.root.find_subcommand(word)) {
            self.command = command;
        } else {
            self.positionals.push(word.to_owned());
        }
    }

    fn flag(&mut self, word: &str) {
        let (flag, value) = self.flag_and_value(word);
        let Some(flag) = flag.filter(|flag| takes_value(flag)) else {
            return;
        };
        match value {
            Some(value) => self.note(flag, &value),
            None => self.pending = Some(flag),
        }
    }

    /// `--name`, `--name=value`, `-n`, `-nvalue`, `-An`: the last flag in the word, and its value.
    fn flag_and_value(&self, word: &str) -> (Option<&'a Arg>, Option<String>) {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let found = self.command.get_arguments();
            let mut found = found.filter(|flag| flag.get_long() == Some(name));
            return (found.next(), value);
        }
        let mut letters = word.chars();
        letters.next(); // the dash
        let mut last = None;
        while let Some(letter) = letters.next() {
            let mut found = self.command.get_arguments();
            last = found.find(|flag| flag.get_short() == Some(letter));
            if last.is_some_and(takes_value) {
                let value = letters.as_str();
                let value = value.strip_prefix('=').unwrap_or(value);
                return (last, (!value.is_empty()).then(|| value.to_owned()));
            }
        }
        (last, None)
    }

    fn wanted(&self, last: &str) -> Wanted {
        let value = |flag: &Arg, begun: &str| Wanted::Value {
            id: flag.get_id().to_string(),
            begun: begun.to_owned(),
        };
        if let Some(flag) = self.pending {
            return value(flag, last);
        }
        let is_begun = !self.has_only_words && matches!(last, "-" | "--");
        if self.is_flag(last) || is_begun {
            return match self.flag_and_value(last) {
                (Some(flag), Some(begun)) => value(flag, &begun),
                _ => Wanted::Flag {
                    command: self.command.get_name().to_owned(),
                },
            };
        }
        if self.is_root() {
            return Wanted::Command;
        }
        Wanted::Word {
            command: self.command.get_name().to_owned(),
            before: self.positionals.clone(),
            begun: last.to_owned(),
        }
    }

    fn is_root(&self) -> bool {
        std::ptr::eq(self.command, self.root)
    }

    fn is_flag(&self, word: &str) -> bool {
        !self.has_only_words && word.starts_with('-') && word != "-" && word != "--"
    }

    fn note(&mut self, flag: &Arg, value: &str) {
        let is_global = self
            .root
            .get_arguments()
            .any(|global| global.get_id() == flag.get_id());
        if let (true, Some(long)) = (is_global, flag.get_long()) {
            self.global.push(format!("--{long}={value}"));
        }
    }
}

fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn read(words: &[&str]) -> Line {
        let mut root = crate::Arguments::command();
        root.build();
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Line::read(&root, &words)
    }

    fn word(command: &str, before: &[&str], begun: &str) -> Wanted {
        Wanted::Word {
            command: command.to_owned(),
            before: before.iter().map(|word| (*word).to_owned()).collect(),
            begun: begun.to_owned(),
        }
    }

    fn value(id: &str, begun: &str) -> Wanted {
        Wanted::Value {
            id: id.to_owned(),
            begun: begun.to_owned(),
        }
    }

    fn flag(command: &str) -> Wanted {
        Wanted::Flag {
            command: command.to_owned(),
        }
    }

    #[test]
    fn the_last_word_is_a_command_a_flag_its_value_or_a_word_of_the_command() {
        let table = [
            (&[][..], Wanted::Command),
            (&["ge"], Wanted::Command),
            (&["-n", "shop", ""], Wanted::Command),
            (&["-"], flag("kubectl operon")),
            (&["get", ""], word("get", &[], "")),
            (&["get", "opj/w"], word("get", &[], "opj/w")),
            (&["get", "-w", "opj", ""], word("get", &["opj"], "")),
            (
                &["get", "--namespace", "shop", "opj", "w"],
                word("get", &["opj"], "w"),
            ),
            (&["get", "--namespace=shop", ""], word("get", &[], "")),
            (&["get", "-nshop", ""], word("get", &[], "")),
            (&["get", "--", ""], word("get", &[], "")),
            (&["get", "--", "-w"], word("get", &[], "-w")),
            (&["get", "--", "-"], word("get", &[], "-")),
            (&["get", "--", "--"], word("get", &[], "--")),
            (&["get", "--w"], flag("get")),
            (&["get", "-o", "y"], value("format", "y")),
            (&["get", "-oy"], value("format", "y")),
            (&["get", "-wo", ""], value("format", "")),
            (&["get", "--output=y"], value("format", "y")),
            (&["-n", ""], value("namespace", "")),
            (&["get", "get"], word("get", &[], "get")),
        ];
        for (words, wanted) in table {
            assert_eq!(read(words).wanted, wanted, "{words:?}");
        }
    }

    #[test]
    fn flags_that_name_the_cluster_count_wherever_they_are() {
        let line = read(&[
            "-n",
            "shop",
            "get",
            "-o",
            "yaml",
            "--context=a",
            "--as",
            "b",
            "-w",
            "",
        ]);
        assert_eq!(line.global, ["--namespace=shop", "--context=a", "--as=b"]);
    }
}
