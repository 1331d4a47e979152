//! From bytes to an action: check, compile or find compiled, link, set up, validate the settings.
//!
//! One child process compiles at a time, and one checks values, so that the memory that each may take is taken once.
//! Components are known by their digest: the same bytes under two names, or with other settings, compile once.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use futures::future::BoxFuture;
use operon_compiled_code::{
    Cache, CacheError, ChildError, ChildLimits, ChildProgram, CompiledComponent, Key, compile,
};
use operon_core::action::{
    Action, ActionError, ActionLoader, Failure, Limits, LoadError, Registration,
};
use operon_core::shares::Shares;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::warn;
use wasmtime::component::{HasSelf, Linker};

use crate::{
    action::LoadedAction,
    answer,
    bindings::{self, ActionPre},
    call::{CallPlaces, Callable, Context, Lane, Runtime},
    compile::explain,
    engine::{self, MAX_MEMORY},
    limits::{COMPONENT_BYTES, MOST_COMPONENT_BYTES, REFUSAL_BYTES},
    log::{LogLines, one_line},
    observer::{CacheFault, CallObserver, CodeSource, Function, NoObserver},
    slices::Slices,
    state::State,
    values::Checker,
    world,
};

/// How a loader works.
#[derive(Clone)]
pub struct LoaderConfig {
    /// Where compiled code is kept; nowhere if none. Created if needed; must be ours alone.
    pub cache_dir: Option<PathBuf>,
    /// The program that compiles and checks settings; this program itself if none.
    pub child_program: Option<ChildProgram>,
    /// How much one compilation may use.
    pub compile_limits: ChildLimits,
    /// The largest component that is compiled, in bytes, 32 MiB at most.
    pub component_bytes: usize,
    /// How many calls run at a time, of all actions together.
    pub max_instances: u32,
    /// How many of them compute at the same time; one fewer than processors if none is given, so that the host has one
    /// for itself.
    pub computing: Option<usize>,
    /// How much memory they may take together, in bytes: a call counts with the memory that it may take. Unlimited if
    /// none.
    pub memory: Option<u64>,
    /// Who counts.
    pub observer: Arc<dyn CallObserver>,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            child_program: None,
            compile_limits: ChildLimits::COMPILE,
            component_bytes: COMPONENT_BYTES,
            max_instances: 64,
            computing: None,
            memory: None,
            observer: Arc::new(NoObserver),
        }
    }
}

/// Why a loader can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The WebAssembly engine refused, for example for lack of address space.
    #[error("failed to start the WebAssembly engine: {0}")]
    Engine(String),
    /// The directory for compiled code can't be used.
    #[error("failed to open the cache of compiled components")]
    Cache(#[from] CacheError),
    /// The path of this program is unknown.
    #[error("failed to find this program's own executable")]
    Program(#[source] std::io::Error),
}

/// Loads actions, and runs their calls.
pub struct Loader {
    runtime: Arc<Runtime>,
    linker: Linker<State>,
    cache: Option<Cache>,
    child_program: ChildProgram,
    compile_limits: ChildLimits,
    component_bytes: usize,
    /// One compilation at a time.
    compilations: Semaphore,
    /// One check of a value at a time: jobs wait for it, so it does not wait for compilations. Plugins take turns.
    checks: Shares,
    loaded: Mutex<HashMap<[u8; 32], Weak<ActionPre<State>>>>,
}

impl Loader {
    /// Starts the engine and checks the cache's directory.
    ///
    /// Errors: see [`StartError`].
    pub fn new(config: LoaderConfig) -> Result<Self, StartError> {
        let LoaderConfig {
            cache_dir,
            child_program,
            compile_limits,
            component_bytes,
            max_instances,
            computing,
            memory,
            observer,
        } = config;
        let max_instances = max_instances.max(1);
        let refused = |error: wasmtime::Error| StartError::Engine(format!("{error:#}"));
        let engine = engine::running(max_instances).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(refused)?;
        bindings::Action::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)
            .map_err(refused)?;
        Ok(Self {
            linker,
            cache: cache_dir.map(Cache::open).transpose()?,
            child_program: match child_program {
                Some(program) => program,
                None => ChildProgram::this().map_err(StartError::Program)?,
            },
            compile_limits,
            component_bytes: component_bytes.min(MOST_COMPONENT_BYTES),
            compilations: Semaphore::new(1),
            checks: Shares::new(1),
            loaded: Mutex::default(),
            runtime: Arc::new(Runtime {
                engine,
                calls: CallPlaces::new(max_instances as usize, memory),
                slices: Slices::new(computing),
                observer,
            }),
        })
    }

    async fn load_action(
        &self,
        name: &str,
        component: &[u8],
        settings: &Value,
        limits: &Limits,
    ) -> Result<LoadedAction, LoadError> {
        world::check_bytes(component, self.component_bytes)?;
        if limits.memory > MAX_MEMORY {
            let (memory, most) = (limits.memory >> 20, MAX_MEMORY >> 20);
            let message =
                format!("spec.limits.memory is {memory} MiB; at most {most} MiB are allowed");
            return Err(world::refusal("BadLimits", message));
        }
        let component = Callable {
            component: self.executable(name, component).await?,
            runtime: self.runtime.clone(),
            name: name.to_owned(),
            limits: limits.clone(),
        };
        let registration = set_up(&component, settings).await?;
        let checker = Checker::new(name, self.child_program.clone(), self.checks.clone());
        let schema = &registration.settings_schema;
        checker.check_settings(schema, settings).await?;
        Ok(LoadedAction {
            component,
            registration,
            checker,
        })
    }

    /// The component, linked: from memory, from the cache, or from the compiler.
    async fn executable(
        &self,
        name: &str,
        component: &[u8],
    ) -> Result<Arc<ActionPre<State>>, LoadError> {
        let started = Instant::now();
        let observer = &self.runtime.observer;
        let done = |source| observer.compiled(name, source, started.elapsed());
        let key = Key::new(&self.runtime.engine, component);
        if let Some(executable) = self.known(&key) {
            done(CodeSource::Memory);
            return Ok(executable);
        }
        if let Some(compiled) = self.cached(key).await {
            let executable = self.link(key, compiled).await?;
            done(CodeSource::Cache);
            return Ok(executable);
        }
        if let Some(error) = self.refused(key).await {
            return Err(explain(&error));
        }
        // The semaphore is never closed.
        let _turn = self.compilations.acquire().await.ok();
        if let Some(executable) = self.known(&key) {
            done(CodeSource::Memory);
            return Ok(executable);
        }
        let compiled = compile(
            &self.child_program,
            &key.compatibility,
            component,
            &self.compile_limits,
        )
        .await;
        let compiled = self.keep(key, compiled).await?;
        let executable = self.link(key, compiled).await?;
        done(CodeSource::Compiler);
        Ok(executable)
    }

    fn known(&self, key: &Key) -> Option<Arc<ActionPre<State>>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&key.component).and_then(Weak::upgrade)
    }

    async fn cached(&self, key: Key) -> Option<Arc<CompiledComponent>> {
        let read = self.in_cache(move |cache| cache.read(&key)).await?;
        self.read_or_none(read).map(Arc::new)
    }

    /// Why the component can't be compiled, if that was found before.
    async fn refused(&self, key: Key) -> Option<ChildError> {
        let limits = self.compile_limits;
        let found = self.in_cache(move |cache| cache.refusal(&key, &limits));
        self.read_or_none(found.await?)
    }

    /// What the cache had. A file that can't be read or verified counts as none.
    fn read_or_none<T>(&self, read: Result<Option<T>, CacheError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            warn!("compiling again: {}", explained(&error));
            self.runtime.observer.cache_failed(CacheFault::Read);
            None
        })
    }

    /// Stores what the compiler said, for the next start.
    async fn keep(
        &self,
        key: Key,
        compiled: Result<CompiledComponent, ChildError>,
    ) -> Result<Arc<CompiledComponent>, LoadError> {
        let (written, result) = match compiled {
            Ok(compiled) => {
                let compiled = Arc::new(compiled);
                let kept = Arc::clone(&compiled);
                let written = self.in_cache(move |cache| cache.write(&key, &kept)).await;
                (written, Ok(compiled))
            }
            Err(error) => {
                let refusal = explain(&error);
                let written = self.in_cache(move |cache| cache.refuse(&key, &error)).await;
                (written, Err(refusal))
            }
        };
        if let Some(Err(error)) = written {
            self.runtime.observer.cache_failed(CacheFault::Write);
            warn!(
                "what the compiler answered can't be stored, so the component is compiled again after a restart: {}",
                explained(&error)
            );
        }
        result
    }

    /// Does this with the cache, if there is one, on a thread that may wait for the disk.
    async fn in_cache<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cache) -> Result<T, CacheError> + Send + 'static,
    ) -> Option<Result<T, CacheError>> {
        let cache = self.cache.clone()?;
        // Only a panic ends the task otherwise.
        tokio::task::spawn_blocking(move || work(&cache)).await.ok()
    }

    /// Prepares code to run, checks its world and links it.
    async fn link(
        &self,
        key: Key,
        compiled: Arc<CompiledComponent>,
    ) -> Result<Arc<ActionPre<State>>, LoadError> {
        let engine = self.runtime.engine.clone();
        let loaded = tokio::task::spawn_blocking(move || compiled.load(&engine)).await;
        let component = loaded
            .map_err(wasmtime::Error::new)
            .flatten()
            .map_err(|error| world::refusal("CompileFailed", format!("{error:#}")))?;
        world::check(&self.runtime.engine, &component)?;
        let executable = self
            .linker
            .instantiate_pre(&component)
            .and_then(ActionPre::new)
            .map_err(|error| world::unlinkable(&error))?;
        let executable = Arc::new(executable);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, known| known.strong_count() > 0);
        loaded.insert(key.component, Arc::downgrade(&executable));
        Ok(executable)
    }
}

impl ActionLoader for Loader {
    fn load<'a>(
        &'a self,
        name: &'a str,
        component: &'a [u8],
        settings: &'a Value,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<Arc<dyn Action>, LoadError>> {
        Box::pin(async move {
            match self.load_action(name, component, settings, limits).await {
                Ok(action) => Ok(Arc::new(action) as Arc<dyn Action>),
                // It may quote the component's content, at any length.
                Err(error) => Err(LoadError {
                    message: one_line(&error.message, REFUSAL_BYTES),
                    ..error
                }),
            }
        })
    }
}

/// Calls the component's setup: what it watches and which settings it accepts.
async fn set_up(component: &Callable, settings: &Value) -> Result<Registration, LoadError> {
    let settings = settings.to_string();
    let context = Context {
        cluster: None,
        log: LogLines::of_action(&component.name),
        job: String::new(),
        lane: Lane::Load,
        admit: None,
    };
    let refused = |message: String| {
        ActionError::Terminal(Failure::new(
            "SetupFailed",
            one_line(&message, REFUSAL_BYTES),
        ))
    };
    let answer = component.ask(
        Function::Setup,
        context,
        move |store, action| {
            Box::pin(async move {
                action
                    .operon_action_handler()
                    .call_setup(store, &settings)
                    .await
            })
        },
        |answer| answer.and_then(answer::registration).map_err(refused),
    );
    answer.await.map_err(|error| LoadError {
        reason: "SetupFailed",
        message: format!("setup failed: {}", error.failure().message),
        transient: matches!(error, ActionError::Plugin(_)),
    })
}

/// An error with its causes, on one line.
fn explained(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
