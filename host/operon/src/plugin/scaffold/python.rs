//! The example in Python: `examples/python`.

use super::example::{Example, example};

pub(in super::super) const PYTHON: Example = Example {
    name: ("annotate-py", "AnnotatePy"),
    files: example![
        "python":
        ".gitignore"
        "README.md"
        "action.py"
        "component.py"
        "job.yaml"
        "operon.py"
        "plugin.yaml"
        "pod.yaml"
        "pyproject.toml"
        "requirements.txt"
        "tests/__init__.py"
        "tests/test_action.py"
        "tests/test_operon.py"
        "tests/world.py"
        "wit/action.wit"
    ],
    sources: "  \
  action.py        the action
  operon.py        the contract in Python
  component.py     the glue to the host
  tests/           tests of the action",
    next: "  \
  python3 -m unittest    # without a cluster",
    helper: "operon.py",
};
