//! Generated from the contract in `wit/`. Natively only its plain types are used; the calls go to the fake.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated, and natively only in part used"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "analyzer",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_analyzer",
    default_bindings_module: "gantry_guest::__private::bindings",
    additional_derives: [PartialEq],
    // They hold handles, which are compared by nobody.
    additional_derives_ignore: ["prior", "segmentation"],
});
