//! Tests of the generated CustomResourceDefinitions, and of manifests against the types.

mod conditions;
mod crds;
mod embedded;
mod manifests;
