//! An action with a core module that is written by hand. What a test does not say is as in a decent action, whose every
//! call does nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use operon_core::action::{Action, ActionError, ActionLoader as _, Limits, LoadError, Operation};
use operon_plugin_runtime::Loader;
use serde_json::json;

use crate::support::{Question, annotate, config, load, sections::with_module};

/// Where the memory of a module is free.
pub(crate) const FREE: u32 = 4096;

/// Where it has 80 zeros, which are an operation that does nothing; its discriminant, its effects and its extra-info
/// are `ANSWER`, `ANSWER + 28` and `ANSWER + 36`.
pub(crate) const ANSWER: u32 = 512;

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A module. Each text is a part of it in the text format of WebAssembly.
pub(crate) struct Crafted<'a> {
    /// What it imports: a part of what the example action does.
    pub(crate) imports: &'a str,
    /// What stands beside the functions of an action.
    pub(crate) items: &'a str,
    /// The pages of its memory.
    pub(crate) pages: u32,
    /// What `operate-target` does before it answers with what is at `ANSWER`. The target and the job are at `$arguments`.
    pub(crate) operate: &'a str,
    /// Where the room is that the host asks for: `$size` bytes at a multiple of `$align`. The first call of an instance
    /// is number 1 (`$calls`).
    pub(crate) realloc: &'a str,
    /// What follows when the host has taken the answer of `operate-target`.
    pub(crate) taken: &'a str,
}

impl Default for Crafted<'_> {
    fn default() -> Self {
        Self {
            imports: "",
            items: "",
            pages: 4,
            operate: "",
            realloc: "(call $room (local.get $align) (local.get $size))",
            taken: "",
        }
    }
}

impl Crafted<'_> {
    /// The component.
    pub(crate) fn component(&self) -> Result<Vec<u8>> {
        let module = wat::parse_str(self.text()).context("the text of a module")?;
        with_module(annotate()?, module)
    }

    fn text(&self) -> String {
        let Self {
            imports,
            items,
            pages,
            operate,
            realloc,
            taken,
        } = self;
        let handler = "operon:action/handler@0.2.0";
        // At 64 is what `setup` answers: no watches, two schemas that accept all, no label, no traits.
        format!(
            r#"(module
            {imports}
            (memory $memory (export "memory") {pages})
            (global $heap (mut i32) (i32.const {FREE}))
            (global $calls (mut i32) (i32.const 0))
            (data (i32.const 32) "{{}}")
            (data (i32.const 76) "\20\00\00\00\02\00\00\00\20\00\00\00\02\00\00\00")
            (func $room (param $align i32) (param $size i32) (result i32) (local $at i32)
                (local.set $at (i32.and
                    (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                    (i32.sub (i32.const 0) (local.get $align))))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func (export "cabi_realloc")
                (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                {realloc})
            (func (export "{handler}#setup") (param i32 i32) (result i32) (i32.const 64))
            (func (export "{handler}#operate-target") (param $arguments i32) (result i32)
                {operate}
                (i32.const {ANSWER}))
            (func (export "{handler}#get-ops-progress") (param i32) (result i32) (i32.const {ANSWER}))
            (func (export "{handler}#release-target") (param i32) (result i32) (i32.const {ANSWER}))
            (func (export "cabi_post_{handler}#setup") (param i32))
            (func (export "cabi_post_{handler}#operate-target") (param i32) {taken})
            (func (export "cabi_post_{handler}#get-ops-progress") (param i32))
            (func (export "cabi_post_{handler}#release-target") (param i32))
            {items})"#
        )
    }
}

/// A host, and a decent action on it that must work whatever another one does.
pub(crate) struct Host {
    loader: Loader,
    decent: Arc<dyn Action>,
}

impl Host {
    pub(crate) async fn new() -> Result<Self> {
        let loader = Loader::new(config())?;
        let component = Crafted::default().component()?;
        let decent = load(&loader, &component, &Limits::default()).await?;
        Ok(Self { loader, decent })
    }

    pub(crate) async fn load(&self, crafted: &Crafted<'_>) -> Result<Arc<dyn Action>, LoadError> {
        let component = crafted.component().map_err(|error| LoadError {
            reason: "Crafted",
            message: format!("{error:#}"),
            transient: false,
        })?;
        let limits = Limits {
            call_timeout: TIMEOUT,
            ..Limits::default()
        };
        self.loader
            .load("crafted", &component, &json!({}), &limits)
            .await
    }

    /// What a call of `operate-target` answers. It ends in time, and the next call of a decent action works.
    pub(crate) async fn operate(
        &self,
        what: &str,
        crafted: &Crafted<'_>,
    ) -> Result<Result<Operation, ActionError>> {
        let action = match self.load(crafted).await {
            Ok(action) => action,
            Err(error) => bail!("{what} is not loaded: {error:?}"),
        };
        let question = Question::about("web-0");
        let began = Instant::now();
        let answer = action.operate_target(question.request()).await;
        let took = began.elapsed();
        ensure!(took < TIMEOUT * 4, "{what} took {took:?}");
        self.works(what).await?;
        Ok(answer)
    }

    /// The call fails with this reason, in these words.
    pub(crate) async fn fails(
        &self,
        what: &str,
        crafted: &Crafted<'_>,
        (reason, words): (&str, &str),
    ) -> Result<()> {
        let Err(error) = self.operate(what, crafted).await? else {
            bail!("{what} is answered");
        };
        let failure = error.failure();
        println!("{what}: {}: {}", failure.reason, failure.message);
        let is_fault = matches!(error, ActionError::Plugin(_));
        ensure!(
            is_fault && failure.reason == reason && failure.message.contains(words),
            "{what}: {error:?}"
        );
        Ok(())
    }

    /// It is not loaded, for this reason, in these words.
    pub(crate) async fn refuses(
        &self,
        what: &str,
        crafted: &Crafted<'_>,
        (reason, words): (&str, &str),
    ) -> Result<()> {
        let Err(error) = self.load(crafted).await else {
            bail!("{what} is loaded");
        };
        println!("{what}: {}: {}", error.reason, error.message);
        ensure!(
            error.reason == reason && error.message.contains(words),
            "{what}: {error:?}"
        );
        self.works(what).await
    }

    async fn works(&self, what: &str) -> Result<()> {
        let question = Question::about("web-0");
        let answer = self.decent.operate_target(question.request()).await;
        ensure!(answer.is_ok(), "the call after {what}: {answer:?}");
        Ok(())
    }
}
