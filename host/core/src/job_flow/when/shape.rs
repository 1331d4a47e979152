//! What an expression may do: looked up in its tree before it is ever evaluated.

use std::collections::BTreeSet;

use cel::{
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators},
    parser::Expression,
};

use super::WhenError;

/// The most nodes of a tree, and how deep it may be.
pub(super) const MAX_NODES: usize = 8000;
pub(super) const MAX_DEPTH: usize = 64;

/// How often texts may be put together.
const MAX_SUMS: usize = 16;

/// The name of the map of steps in an expression, and the fields of a step.
const STEPS: &str = "steps";
const FIELDS: [&str; 3] = ["phase", "reason", "outputs"];

/// The parser's name for the result of iterating over a list.
const RESULT: &str = "@result";

/// What may be called.
const FUNCTIONS: [&str; 27] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
];

/// What is known of an expression.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The steps that it names.
    pub(super) steps: BTreeSet<String>,
    /// The outputs that it names, each with its step.
    pub(super) outputs: BTreeSet<(String, String)>,
    /// The outputs that it names of steps that only the evaluation knows, as in `steps[s].outputs.x`.
    pub(super) outputs_of_any: BTreeSet<String>,
    /// Whether it may refer to any step.
    pub(super) is_about_all: bool,
    /// Whether it iterates over a list.
    pub(super) goes_through: bool,
    /// How many nodes its tree has.
    pub(super) size: usize,
    sums: usize,
}

/// A node, and its context.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Expression,
    depth: usize,
    /// The name of the loop variable, inside a loop.
    item: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn child(self, node: &'a Expression) -> Self {
        Self {
            node,
            depth: self.depth + 1,
            item: self.item,
        }
    }
}

impl Shape {
    /// Walks through a tree, without recursion.
    pub(super) fn of(expression: &Expression) -> Result<Self, WhenError> {
        let mut shape = Self::default();
        let mut left = vec![Place {
            node: expression,
            depth: 0,
            item: None,
        }];
        while let Some(place) = left.pop() {
            shape.size += 1;
            if shape.size > MAX_NODES || place.depth > MAX_DEPTH {
                return Err(WhenError::TooLarge);
            }
            shape.visit(place, &mut left)?;
        }
        Ok(shape)
    }

    fn visit<'a>(&mut self, place: Place<'a>, left: &mut Vec<Place<'a>>) -> Result<(), WhenError> {
        match &place.node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => identifier(name, place.item),
            Expr::Select(select) => self.select(select, place, left),
            Expr::Call(call) => self.call(call, place, left),
            Expr::List(list) => {
                left.extend(list.elements.iter().map(|node| place.child(node)));
                Ok(())
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            left.extend([place.child(&entry.key), place.child(&entry.value)]);
                        }
                        EntryExpr::StructField(_) => return Err(not("objects")),
                    }
                }
                Ok(())
            }
            Expr::Comprehension(all) => {
                if place.item.is_some() || self.goes_through {
                    return Err(WhenError::NotAvailable(
                        "it can iterate over a list only once".to_owned(),
                    ));
                }
                self.goes_through = true;
                if matches!(all.accu_init.expr, Expr::List(_)) {
                    return Err(not("map and filter"));
                }
                if all.iter_var == STEPS || all.iter_var2.is_some() || all.accu_var != RESULT {
                    return Err(not("this form of iteration"));
                }
                if is_steps(&all.iter_range) {
                    self.is_about_all = true;
                } else {
                    left.push(place.child(&all.iter_range));
                }
                for node in [&all.accu_init, &all.loop_cond, &all.loop_step, &all.result] {
                    left.push(Place {
                        item: Some(&all.iter_var),
                        ..place.child(node)
                    });
                }
                Ok(())
            }
            Expr::Struct(_) => Err(not("objects")),
            Expr::Unspecified => Err(WhenError::Syntax("it is not an expression".to_owned())),
        }
    }

    fn select<'a>(
        &mut self,
        select: &'a SelectExpr,
        place: Place<'a>,
        left: &mut Vec<Place<'a>>,
    ) -> Result<(), WhenError> {
        let SelectExpr {
            operand,
            field,
            test: _,
        } = select;
        if is_steps(operand) {
            self.steps.insert(field.clone());
            return Ok(());
        }
        if is_step(operand) && !FIELDS.contains(&field.as_str()) {
            return Err(WhenError::NotAvailable(format!(
                "a step has the fields phase, reason and outputs, not {field:?}"
            )));
        }
        self.note_output(operand, field);
        left.push(place.child(operand));
        Ok(())
    }

    fn call<'a>(
        &mut self,
        call: &'a CallExpr,
        place: Place<'a>,
        left: &mut Vec<Place<'a>>,
    ) -> Result<(), WhenError> {
        let CallExpr {
            func_name,
            target,
            args,
        } = call;
        let name = func_name.as_str();
        if !FUNCTIONS.contains(&name) {
            return Err(not(&format!("the function {name}")));
        }
        let is_count = args.first().is_some_and(|first| is_named(first, RESULT));
        if name == operators::ADD && !is_count {
            self.sums += 1;
            if self.sums > MAX_SUMS || place.item.is_some() {
                return Err(not("this number of + operators"));
            }
        }
        match (name, args.as_slice()) {
            (operators::INDEX, [of, key]) if is_steps(of) => {
                match text(key) {
                    Some(step) => {
                        self.steps.insert(step.to_owned());
                    }
                    None => self.is_about_all = true,
                }
                left.push(place.child(key));
                return Ok(());
            }
            (operators::INDEX, [of, key]) => {
                if let Some(field) = text(key) {
                    if is_step(of) && !FIELDS.contains(&field) {
                        return Err(WhenError::NotAvailable(format!(
                            "a step has the fields phase, reason and outputs, not {field:?}"
                        )));
                    }
                    self.note_output(of, field);
                }
            }
            _ => {}
        }
        for node in target.as_deref().into_iter().chain(args) {
            let is_harmless = matches!(name, operators::IN | "size");
            if is_steps(node) && is_harmless {
                self.is_about_all = true;
            } else {
                left.push(place.child(node));
            }
        }
        Ok(())
    }

    /// Notes the use of an output, if `of` is the outputs of a step that is named.
    fn note_output(&mut self, of: &Expression, output: &str) {
        let (step, field) = match &of.expr {
            Expr::Select(select) => (&*select.operand, select.field.as_str()),
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::INDEX, [step, key]) => (step, text(key).unwrap_or_default()),
                _ => return,
            },
            _ => return,
        };
        if field != "outputs" {
            return;
        }
        if let Some(name) = named_step(step) {
            self.outputs.insert((name.to_owned(), output.to_owned()));
        } else if is_step(step) {
            self.outputs_of_any.insert(output.to_owned());
        }
    }
}

fn identifier(name: &str, item: Option<&str>) -> Result<(), WhenError> {
    if item.is_some_and(|item| name == item || name == RESULT) {
        return Ok(());
    }
    Err(WhenError::NotAvailable(if name == STEPS {
        "steps must be followed by the name of a step, as in steps[\"name\"].phase".to_owned()
    } else {
        format!("there is no variable {name:?}; put a string in quotes")
    }))
}

fn not(what: &str) -> WhenError {
    WhenError::NotAvailable(format!("{what} can't be used here"))
}

fn is_named(node: &Expression, wanted: &str) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == wanted)
}

fn is_steps(node: &Expression) -> bool {
    is_named(node, STEPS)
}

/// Whether this is a step: `steps.name`, `steps["name"]`.
fn is_step(node: &Expression) -> bool {
    match &node.expr {
        Expr::Select(select) => is_steps(&select.operand),
        Expr::Call(call) => {
            call.func_name == operators::INDEX && call.args.first().is_some_and(is_steps)
        }
        _ => false,
    }
}

/// The name of a step that is named as it is.
fn named_step(node: &Expression) -> Option<&str> {
    match &node.expr {
        Expr::Select(select) => is_steps(&select.operand).then_some(&select.field),
        Expr::Call(call) => match call.args.as_slice() {
            [of, key] if call.func_name == operators::INDEX && is_steps(of) => text(key),
            _ => None,
        },
        _ => None,
    }
}

/// A text that is written as it is.
fn text(node: &Expression) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
