//! What a configuration names: modules, archives, who may come in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use gantry_cloud_sync::dsse::PublicKey;

use super::Check;
use crate::completion::Archive;
use crate::config::{Config, Release};
use crate::routing::{Plan, Planned};
use crate::store::Store;

/// Packages, grants, and who waits for whom. A component is read and not compiled, and models are left alone: they may be large.
pub(super) fn modules(config: &Config) -> Check {
    const NAME: &str = "modules and rules";
    if config.modules.is_empty() {
        return Check::ok(NAME, "no module: studies are kept, and nothing runs on them");
    }
    let plan = match Plan::load(config).map_err(|e| e.to_string()).and_then(|plan| sound(plan, config)) {
        Ok(plan) => plan,
        Err(reason) => {
            return Check::fail(NAME, reason, "mend [[modules]] or [[rules]]; `gantry module inspect` shows a package");
        }
    };
    let (denied, leaks) = (denied(&plan), leaks(&plan));
    let mut remedies = Vec::new();
    if !denied.is_empty() {
        remedies.push(
            "allow it by `grants` in [[modules]]: with a component that imports what was not granted, a node does not start",
        );
    }
    if !leaks.is_empty() {
        remedies.push("give what depends on a module its `release` too, or take it out of `after` and `when`");
    }
    match remedies.is_empty() {
        true => Check::ok(NAME, plan.modules.into_iter().map(|module| module.name).collect::<Vec<_>>().join(", ")),
        false => Check::warn(NAME, [denied, leaks].concat().join("; "), remedies.join("; ")),
    }
}

/// The plan, of packages whose components are there.
fn sound(plan: Plan, config: &Config) -> Result<Plan, String> {
    for Planned { name, package, .. } in &plan.modules {
        package.component(config.limits.component_max_mib).map_err(|e| format!("modules ({name}): {e}"))?;
    }
    Ok(plan)
}

fn denied(plan: &Plan) -> Vec<String> {
    let asks = |module: &Planned| {
        let (_, asks) = module.policy.grant(&module.package.manifest().needs);
        asks.iter().map(|ask| format!("{} asks for {ask}, which was not granted", module.name)).collect::<Vec<_>>()
    };
    plan.modules.iter().flat_map(asks).collect()
}

/// Who sends at once what may follow from findings that do not leave, or not yet: also by way of a third module.
fn leaks(plan: &Plan) -> Vec<String> {
    // In order of the plan, so that whom a module depends on was looked at before it.
    let mut kept: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in &plan.modules {
        let mut from: BTreeSet<&str> =
            module.after.iter().filter_map(|name| kept.get(name.as_str())).flatten().copied().collect();
        if module.release != Release::AtOnce {
            from.insert(&module.name);
        }
        kept.insert(&module.name, from);
    }
    let at_once = plan.modules.iter().filter(|module| module.release == Release::AtOnce);
    let of = |module: &Planned| {
        let from = kept.get(module.name.as_str()).into_iter().flatten();
        let from: Vec<_> = from
            .filter_map(|name| plan.module(name))
            .map(|other| format!("{} (release = \"{}\")", other.name, other.release.name()))
            .collect();
        let what = "findings could leave through it";
        (!from.is_empty())
            .then(|| format!("{} is at once and depends on {}, whose {what}", module.name, from.join(", ")))
    };
    at_once.filter_map(of).collect()
}

/// As far as can be told without asking them.
pub(super) fn archives(config: &Config) -> Check {
    const NAME: &str = "pacs";
    match Archive::all(config) {
        Ok(_) => Check::ok(NAME, config.pacs.iter().map(|pacs| pacs.name.as_str()).collect::<Vec<_>>().join(", ")),
        Err(e) => Check::fail(NAME, e.to_string(), "let the user of `gantry serve` read the files that [[pacs]] names"),
    }
}

/// Whether the keys are there that packages are signed with.
pub(super) fn sources(config: &Config) -> Check {
    const NAME: &str = "module_sources";
    let keys = config.module_sources.iter().flat_map(|source| &source.trust);
    match keys.map(|key| PublicKey::load(key)).collect::<Result<Vec<_>, _>>() {
        Ok(keys) => Check::ok(NAME, format!("keys: {}", keys.len())),
        Err(e) => Check::fail(NAME, e.to_string(), "let who pulls modules read the files of module_sources.trust"),
    }
}

/// Whether anybody could ever come in, for an address that is not loopback: a node that is open to all does not start.
pub(super) fn token(config: &Config, listen: SocketAddr) -> Check {
    const NAME: &str = "web access";
    match config.node.data_folder.as_deref().map_or(Ok(false), has_tokens) {
        Ok(true) => Check::ok(NAME, "a token is needed"),
        Ok(false) => Check::fail(
            NAME,
            format!("web.listen = {listen} is not loopback, and no token was ever made"),
            "make one as the user of the node (`gantry token new`), set web.tls.client_roots, or listen on 127.0.0.1",
        ),
        Err(e) => Check::fail(NAME, e, "run this as the user of the node"),
    }
}

fn has_tokens(data: &Path) -> Result<bool, String> {
    if !Store::is_in(data) {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let store = Store::open_to_read(data).await.map_err(|e| e.to_string())?;
        let found = store.has_tokens().await.map_err(|e| e.to_string());
        store.close().await;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::web;

    #[test]
    fn modules_are_looked_at_as_a_node_does() {
        use sha2::Digest;
        let folder = tempfile::tempdir().expect("a folder");
        let package = folder.path().join("lungs");
        std::fs::create_dir(&package).expect("made");
        let manifest = format!(
            "schema = 1\nname = \"lungs\"\nversion = \"0.1.0\"\nvendor = \"Tests\"\n[label]\ntitle = \"T\"\n\
             intended_use = \"T\"\ndemonstration = true\n[accepts]\nmodality = [\"CT\"]\n[component]\nsha256 = \"{}\"\n",
            crate::hex(&sha2::Sha256::digest(b""))
        );
        std::fs::write(package.join("module.toml"), &manifest).expect("written");
        let check = |more: &str| {
            let text = format!("[[modules]]\npackage = {package:?}\n{more}");
            modules(&toml::from_str(&text).expect("a configuration"))
        };
        let missing = check("");
        assert!(missing.state == State::Fail && missing.found.contains("component.wasm"), "{missing}");
        std::fs::write(package.join("component.wasm"), "").expect("written");
        let sound = check("");
        assert!(sound.state == State::Ok && sound.found == "lungs", "{sound}");
        let rule = "[[rules]]\nname = \"night\"\neffect = \"skip\"\nmodules = [\"x\"]\n";
        for (more, says) in [("after = [\"x\"]\n", "there is no module `x`"), (rule, "rules (night)")] {
            let check = check(more);
            assert!(check.state == State::Fail && check.found.contains(says), "{check}");
        }
        let needs = "[needs]\ninterfaces = [\"gantry:imaging/priors\"]\n[component]";
        std::fs::write(package.join("module.toml"), manifest.replace("[component]", needs)).expect("written");
        let denied = check("");
        let says = "lungs asks for gantry:imaging/priors, which was not granted";
        assert!(denied.state == State::Warn && denied.found == says, "{denied}");
        let granted = check("grants = [\"gantry:imaging/priors\"]\n");
        assert!(granted.state == State::Ok, "{granted}");
        std::fs::write(package.join("module.toml"), &manifest).expect("written");
        let other = |more: &str| format!("[[modules]]\npackage = {package:?}\n{more}");
        for (release, by) in [
            ("shadow", "after = [\"lungs\"]\n"),
            ("hold", "when = { module = \"lungs\", finding = \"Nodule\", is = \"present\" }\n"),
        ] {
            let first = format!("release = \"{release}\"\n");
            let second = other(&format!("name = \"second\"\n{by}"));
            let third = other("name = \"third\"\nafter = [\"second\"]\n");
            let leaks = check(&format!("{first}{second}{third}"));
            let of = |name: &str| format!("{name} is at once and depends on lungs (release = \"{release}\")");
            let told = leaks.found.contains(&of("second")) && leaks.found.contains(&of("third"));
            assert!(leaks.state == State::Warn && told, "{leaks}");
            let kept = second.replace("name =", &format!("release = \"{release}\"\nname ="));
            let sound = check(&format!("{first}{kept}"));
            assert!(sound.state == State::Ok, "{sound}");
        }
        let apart = check(&format!("release = \"shadow\"\n{}", other("name = \"second\"\n")));
        assert!(apart.state == State::Ok, "{apart}");
    }

    #[test]
    fn a_node_that_would_be_open_to_all_is_told_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.node.data_folder = Some(folder.path().to_owned());
        let listen = "192.0.2.1:8042".parse().expect("an address");
        assert!(web::needs_token(listen, &config.web));
        assert_eq!(token(&config, listen).state, State::Fail);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let make = |token: bool| {
            runtime.block_on(async {
                let store = Store::open(folder.path()).await.expect("a journal");
                if token {
                    web::new_token(&store, "viewer", &[crate::config::Scope::Read], None).await.expect("a token");
                }
                store.close().await;
            });
        };
        make(false);
        assert_eq!(token(&config, listen).state, State::Fail, "a journal without one");
        make(true);
        assert_eq!(token(&config, listen).state, State::Ok);
    }
}
