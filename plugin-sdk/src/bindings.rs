//! The code that `wit-bindgen` generates from `wit/action.wit`. Nothing here is written by hand, and it is
//! the only module with unsafe code: lifting and lowering values across the component's boundary.
#![expect(
    clippy::same_length_and_capacity,
    reason = "generated: a list crosses the boundary as a pointer and one length"
)]

wit_bindgen::generate!({
    path: "wit",
    world: "action",
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    default_bindings_module: "operon_sdk::bindings",
    export_macro_name: "export_action",
});
