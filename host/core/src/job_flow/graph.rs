//! The validated steps of a flow: no step waits for itself, every expression can be evaluated, and a
//! dependency that does not exist is known as such. A [`FlowGraph`] is acyclic, or it does not exist; later
//! code does not read the names in the spec again.

mod error;
mod order;

use std::collections::{BTreeSet, HashMap};

use operon_api::job_flow::{JobFlowSpec, MAX_STEPS, Step};

pub use self::error::{GraphError, UnknownDependency, nearest};
use self::order::{Places, ancestors, cycle, order};
use super::when::When;

/// The steps of a flow, by their place in the spec, and what they wait for.
#[derive(Debug)]
pub struct FlowGraph {
    names: Vec<String>,
    places: HashMap<String, usize>,
    dependencies: Vec<Vec<usize>>,
    unknown: Vec<Option<UnknownDependency>>,
    order: Vec<usize>,
    ancestors: Vec<Places>,
    conditions: Vec<Option<When>>,
    on_exit: Option<usize>,
}

/// How much all the `when` of a flow may cost; a unit is some 100 ns.
const MAX_COST: usize = 2_000_000;

impl FlowGraph {
    /// The graph of a spec, in time linear in its size.
    ///
    /// # Errors
    /// The first error that is found in it.
    pub fn new(spec: &JobFlowSpec) -> Result<Self, GraphError> {
        let (names, places) = names(spec)?;
        let dependencies = dependencies(spec, &places)?;
        let unknown = spec.flows.iter().map(|step| unknown(step, &names, &places));
        let dependents = dependents(&dependencies);
        let on_exit = on_exit(spec, &names, &places, &dependencies, &dependents)?;
        let order = order(&dependencies, &dependents).ok_or_else(|| {
            let path = cycle(&dependencies, &dependents).into_iter();
            GraphError::Cycle {
                path: path.map(|step| names[step].clone()).collect(),
            }
        })?;
        let mut graph = Self {
            ancestors: ancestors(&order, &dependencies),
            conditions: Vec::with_capacity(names.len()),
            unknown: unknown.collect(),
            names,
            places,
            dependencies,
            order,
            on_exit,
        };
        graph.check_inputs(spec)?;
        graph.conditions = graph.conditions(spec)?;
        Ok(graph)
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never: a flow has a step.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a step.
    pub fn name(&self, step: usize) -> &str {
        self.names.get(step).map_or("", String::as_str)
    }

    /// The step of a name.
    pub fn step(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The existing dependencies of a step, in the order of the spec.
    pub fn dependencies(&self, step: usize) -> &[usize] {
        self.dependencies.get(step).map_or(&[], Vec::as_slice)
    }

    /// A dependency of a step that is no step, if it has one: such a step can't start.
    pub fn unknown(&self, step: usize) -> Option<&UnknownDependency> {
        self.unknown.get(step)?.as_ref()
    }

    /// What a step depends on, directly or not, in the order of the spec.
    pub fn ancestors(&self, step: usize) -> Vec<usize> {
        let all = 0..self.len();
        all.filter(|other| self.is_before(*other, step)).collect()
    }

    /// The step that runs last.
    pub fn on_exit(&self) -> Option<usize> {
        self.on_exit
    }

    /// All steps, each after its dependencies.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The steps in layers: each step is in the first layer after all of its dependencies, `onExit` in one
    /// of its own at the end.
    pub fn layers(&self) -> Vec<Vec<usize>> {
        let mut layer_of = vec![0_usize; self.len()];
        let mut layers: Vec<Vec<usize>> = Vec::new();
        for step in &self.order {
            let before = self.dependencies(*step).iter();
            let layer = before.map(|d| layer_of[*d] + 1).max().unwrap_or(0);
            layer_of[*step] = layer;
        }
        for (step, layer) in layer_of.iter().enumerate() {
            if self.on_exit == Some(step) {
                continue;
            }
            if layers.len() <= *layer {
                layers.resize(layer + 1, Vec::new());
            }
            layers[*layer].push(step);
        }
        layers.extend(self.on_exit.map(|step| vec![step]));
        layers
    }

    /// The `when` of a step, if it has one.
    pub(super) fn condition(&self, step: usize) -> Option<&When> {
        self.conditions.get(step)?.as_ref()
    }

    /// Whether the `when` of `step` may refer to `other`.
    pub fn is_before(&self, other: usize, step: usize) -> bool {
        if self.on_exit == Some(step) {
            return other != step;
        }
        self.ancestors
            .get(step)
            .is_some_and(|places| places.has(other))
    }

    fn before(&self, step: usize, name: &str) -> Result<usize, Option<String>> {
        let found = self.step(name).filter(|other| self.is_before(*other, step));
        found.ok_or_else(|| {
            if self.step(name).is_some() {
                return None;
            }
            let candidates = self.ancestors(step);
            nearest(name, candidates.into_iter().map(|other| self.name(other)))
        })
    }

    /// Whether a step depends on this name, which is no step: then that is all that is wrong with it.
    fn needs_unknown(&self, spec: &JobFlowSpec, step: usize, name: &str) -> bool {
        let needs = |step: &Step| step.dependencies.iter().any(|d| d == name);
        self.step(name).is_none() && spec.flows.get(step).is_some_and(needs)
    }

    fn check_inputs(&self, spec: &JobFlowSpec) -> Result<(), GraphError> {
        for (place, step) in spec.flows.iter().enumerate() {
            for input in &step.inputs {
                if self.needs_unknown(spec, place, &input.step) {
                    continue;
                }
                let names = || (step.name.clone(), input.env.clone(), input.step.clone());
                let other = self.before(place, &input.step).map_err(|hint| {
                    let (step, env, from) = names();
                    GraphError::InputNotBefore {
                        step,
                        env,
                        from,
                        hint,
                    }
                })?;
                let declared = &spec.flows[other].outputs;
                if !declared.contains(&input.output) {
                    let (step, env, from) = names();
                    return Err(GraphError::InputNotDeclared {
                        step,
                        env,
                        from,
                        output: input.output.clone(),
                        hint: nearest(&input.output, declared.iter().map(String::as_str)),
                    });
                }
            }
        }
        Ok(())
    }

    fn conditions(&self, spec: &JobFlowSpec) -> Result<Vec<Option<When>>, GraphError> {
        let mut conditions = Vec::with_capacity(self.len());
        let (mut cost, mut dearest) = (0_usize, (0, 0));
        for (place, step) in spec.flows.iter().enumerate() {
            let Some(text) = &step.when else {
                conditions.push(None);
                continue;
            };
            let when = When::compile(text).map_err(|error| GraphError::When {
                step: step.name.clone(),
                error,
            })?;
            self.check_condition(spec, place, &when)?;
            let before = match self.on_exit {
                Some(last) if last == place => self.len(),
                _ => self.ancestors[place].count(),
            };
            let own = when.cost(before);
            cost = cost.saturating_add(own);
            dearest = dearest.max((own, place));
            conditions.push(Some(when));
        }
        if cost > MAX_COST {
            return Err(GraphError::WhenTooExpensive(self.name(dearest.1).into()));
        }
        Ok(conditions)
    }

    /// The steps and outputs that a `when` names must exist.
    fn check_condition(
        &self,
        spec: &JobFlowSpec,
        place: usize,
        when: &When,
    ) -> Result<(), GraphError> {
        let is_known = |about: &str| !self.needs_unknown(spec, place, about);
        for about in when.steps().iter().filter(|about| is_known(about)) {
            self.before(place, about)
                .map_err(|hint| GraphError::WhenNotBefore {
                    step: self.name(place).to_owned(),
                    about: about.clone(),
                    hint,
                })?;
        }
        let outputs = when.outputs().iter();
        for (about, output) in outputs.filter(|(about, _)| is_known(about)) {
            let other = self.step(about).and_then(|other| spec.flows.get(other));
            let declared = other.map(|step| step.outputs.as_slice());
            let declared = declared.unwrap_or_default();
            if !declared.contains(output) {
                return Err(GraphError::WhenNotDeclared {
                    step: self.name(place).to_owned(),
                    about: about.clone(),
                    output: output.clone(),
                    hint: nearest(output, declared.iter().map(String::as_str)),
                });
            }
        }
        let steps = spec.flows.iter().enumerate();
        let before = steps.filter(|(other, _)| self.is_before(*other, place));
        let declared: BTreeSet<_> = before.flat_map(|(_, step)| &step.outputs).collect();
        let mut of_any = when.outputs_of_any().iter();
        match of_any.find(|output| !declared.contains(output)) {
            Some(output) => Err(GraphError::WhenDeclaredByNone {
                step: self.name(place).to_owned(),
                output: output.clone(),
                hint: nearest(output, declared.into_iter().map(String::as_str)),
            }),
            None => Ok(()),
        }
    }
}

type Names = (Vec<String>, HashMap<String, usize>);

fn names(spec: &JobFlowSpec) -> Result<Names, GraphError> {
    match spec.flows.len() {
        0 => return Err(GraphError::Empty),
        many if many > MAX_STEPS => return Err(GraphError::TooMany(many)),
        _ => {}
    }
    let mut places = HashMap::with_capacity(spec.flows.len());
    for (place, step) in spec.flows.iter().enumerate() {
        if places.insert(step.name.clone(), place).is_some() {
            return Err(GraphError::Duplicate(step.name.clone()));
        }
    }
    let names = spec.flows.iter().map(|step| step.name.clone());
    Ok((names.collect(), places))
}

fn dependencies(
    spec: &JobFlowSpec,
    places: &HashMap<String, usize>,
) -> Result<Vec<Vec<usize>>, GraphError> {
    let of = |step: &Step| {
        if step.dependencies.contains(&step.name) {
            return Err(GraphError::SelfDependency(step.name.clone()));
        }
        let known = step.dependencies.iter();
        let mut found: Vec<_> = known.filter_map(|name| places.get(name)).copied().collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    };
    spec.flows.iter().map(of).collect()
}

/// The first dependency of a step that is no step.
fn unknown(
    step: &Step,
    names: &[String],
    places: &HashMap<String, usize>,
) -> Option<UnknownDependency> {
    let mut dependencies = step.dependencies.iter();
    let dependency = dependencies.find(|name| !places.contains_key(*name))?;
    let others = names.iter().filter(|name| **name != step.name);
    Some(UnknownDependency {
        dependency: dependency.clone(),
        hint: nearest(dependency, others.map(String::as_str)),
    })
}

fn dependents(dependencies: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); dependencies.len()];
    for (step, before) in dependencies.iter().enumerate() {
        for dependency in before {
            dependents[*dependency].push(step);
        }
    }
    dependents
}

fn on_exit(
    spec: &JobFlowSpec,
    names: &[String],
    places: &HashMap<String, usize>,
    dependencies: &[Vec<usize>],
    dependents: &[Vec<usize>],
) -> Result<Option<usize>, GraphError> {
    let Some(name) = spec.on_exit.as_ref().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let Some(place) = places.get(name).copied() else {
        return Err(GraphError::UnknownOnExit {
            name: name.clone(),
            hint: nearest(name, names.iter().map(String::as_str)),
        });
    };
    if !dependencies[place].is_empty() {
        return Err(GraphError::OnExitDepends(name.clone()));
    }
    if let Some(by) = dependents[place].first() {
        return Err(GraphError::OnExitNeeded {
            name: name.clone(),
            by: names[*by].clone(),
        });
    }
    Ok(Some(place))
}

#[cfg(test)]
mod tests;
