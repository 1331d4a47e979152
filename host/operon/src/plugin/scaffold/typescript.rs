//! The example in TypeScript: `examples/typescript`.

use super::example::{Example, example};

pub(in super::super) const TYPESCRIPT: Example = Example {
    name: ("annotate-ts", "AnnotateTs"),
    files: example![
        "typescript":
        ".gitignore"
        "README.md"
        "job.yaml"
        "package-lock.json"
        "package.json"
        "plugin.yaml"
        "pod.yaml"
        "src/action.ts"
        "src/component.ts"
        "src/operon.ts"
        "test/action.test.ts"
        "test/world.ts"
        "tsconfig.json"
        "wit/action.wit"
    ],
    sources: "  \
  src/action.ts    the action
  src/operon.ts    the contract in TypeScript, and the glue to the host
  test/            tests of the action",
    next: "  \
  npm ci                 # the compiler and QuickJS
  npm test               # without a cluster",
    helper: "src/operon.ts",
};
