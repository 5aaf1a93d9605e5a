//! The modules of a site: opened, named, and in an order in which each comes after those that it waits for.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::config::{Condition, Config, ModuleConfig, Release, RuleConfig, is_module_name};
use crate::findings::Urgency;
use crate::module::manifest::Interface;
use crate::module::package::{Package, PackageError};
use crate::sandbox::grants::{GrantError, Policy};

/// What runs on this node, and the site's rules.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Each after those that it waits for.
    pub modules: Vec<Planned>,
    /// As configured.
    pub rules: Vec<RuleConfig>,
    /// How jobs of modules that see earlier studies wait for them.
    pub priors: PriorsWait,
}

/// How a job waits until earlier studies of the patient were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriorsWait {
    /// Who is asked for them, by `pacs.name`; nobody when it is empty, and then there is nothing to wait for.
    pub archives: Vec<String>,
    /// For how long at most: `schedule.priors_wait_ms`.
    pub wait_max_ms: u64,
}

/// One module of the plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What it is called here: `[a-z0-9-]`, 1 to 64.
    pub name: String,
    /// Its package.
    pub package: Arc<Package>,
    /// What it may be given.
    pub policy: Policy,
    /// What ends before it starts, the module of `when` included.
    pub after: Vec<String>,
    /// On what it depends.
    pub when: Option<Condition>,
    /// Where its jobs stand in the queue at least.
    pub priority: Urgency,
    /// What becomes of its results.
    pub release: Release,
}

/// A plan that cannot be followed: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A package cannot be used.
    #[error("modules: {0}")]
    Package(#[from] PackageError),
    /// A grant cannot be given.
    #[error("modules ({module}): {reason}")]
    Grant {
        /// To which.
        module: String,
        /// Why.
        reason: GrantError,
    },
    /// Two modules of one name.
    #[error("modules: two are called `{0}`; give one of them another name")]
    Twice(String),
    /// A name that no module has.
    #[error("{by}: there is no module `{named}`; there are: {known}")]
    Unknown {
        /// Who names it.
        by: String,
        /// The name.
        named: String,
        /// The names that there are.
        known: String,
    },
    /// Modules that wait for each other.
    #[error("modules: each of these waits for another one: {0}; take one out of `after` or `when`")]
    Cycle(String),
}

impl Plan {
    /// Opens every package and puts the modules in order.
    ///
    /// # Errors
    /// [`PlanError`], with the names of those concerned.
    pub fn load(config: &Config) -> Result<Self, PlanError> {
        let planned = config.modules.iter().map(|module| Planned::open(module, config));
        let modules = planned.collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = modules.iter().find(|module| !names.insert(module.name.clone())) {
            return Err(PlanError::Twice(twice.name.clone()));
        }
        let unknown = |by: String, named: &String| PlanError::Unknown {
            by,
            named: crate::printable(named),
            known: names.iter().cloned().collect::<Vec<_>>().join(", "),
        };
        for module in &modules {
            if let Some(named) = module.after.iter().find(|named| !names.contains(*named)) {
                return Err(unknown(format!("modules ({})", module.name), named));
            }
        }
        for rule in &config.rules {
            if let Some(named) = rule.modules.iter().find(|named| !names.contains(*named)) {
                return Err(unknown(format!("rules ({})", rule.name), named));
            }
        }
        // The first is the only one that is asked.
        let archive = config.pacs.iter().find(|pacs| pacs.priors).map(|pacs| pacs.name.clone());
        let priors =
            PriorsWait { archives: archive.into_iter().collect(), wait_max_ms: config.schedule.priors_wait_ms };
        Ok(Self { modules: in_order(modules)?, rules: config.rules.clone(), priors })
    }

    /// The module of this name.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&Planned> {
        self.modules.iter().find(|module| module.name == name)
    }
}

impl Planned {
    fn open(module: &ModuleConfig, config: &Config) -> Result<Self, PlanError> {
        let package = Package::open(&module.package)?;
        let name = module.name.clone().unwrap_or_else(|| package.manifest().name.clone());
        debug_assert!(is_module_name(&name), "manifests and the configuration check names");
        let policy = Policy::new(&config.grants, &module.grants)
            .map_err(|reason| PlanError::Grant { module: name.clone(), reason })?;
        let mut after = module.after.clone();
        after.extend(module.when.iter().map(|when| when.module.clone()));
        after.sort();
        after.dedup();
        let (when, priority, release) = (module.when.clone(), module.priority, module.release);
        Ok(Self { name, package: Arc::new(package), policy, after, when, priority, release })
    }

    /// Whether it asks for earlier studies and was granted them.
    #[must_use]
    pub fn sees_priors(&self) -> bool {
        let (grants, _) = self.policy.grant(&self.package.manifest().needs);
        grants.interfaces.contains(&Interface::Priors)
    }
}

/// Takes again and again those whose predecessors were taken; who is left waits for itself.
fn in_order(mut left: Vec<Planned>) -> Result<Vec<Planned>, PlanError> {
    let mut taken: Vec<Planned> = Vec::new();
    while !left.is_empty() {
        let is_taken = |name: &String| taken.iter().any(|module| &module.name == name);
        let (ready, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(|module| module.after.iter().all(is_taken));
        if ready.is_empty() {
            let names: Vec<String> = waiting.into_iter().map(|module| module.name).collect();
            return Err(PlanError::Cycle(names.join(", ")));
        }
        taken.extend(ready);
        left = waiting;
    }
    Ok(taken)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    /// A package of a manifest alone; `accepts` are lines of its `[accepts]`.
    pub(in crate::routing) fn package(folder: &Path, name: &str, accepts: &str) -> std::path::PathBuf {
        let package = folder.join(name);
        std::fs::create_dir_all(&package).expect("made");
        let manifest = format!(
            "schema = 1\nname = \"{name}\"\nversion = \"0.1.0\"\nvendor = \"Tests\"\n[label]\ntitle = \"T\"\n\
             intended_use = \"T\"\ndemonstration = true\n[accepts]\nmodality = [\"CT\"]\n{accepts}\n[component]\n\
             sha256 = \"{}\"\n",
            "00".repeat(32)
        );
        std::fs::write(package.join("module.toml"), manifest).expect("written");
        package
    }

    /// A plan of modules `a`, `b`, … with the lines that each has in `[[modules]]`, and more of a configuration.
    pub(in crate::routing) fn plan(modules: &[(&str, &str, &str)], more: &str) -> Result<Plan, PlanError> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut text = String::new();
        for (name, accepts, lines) in modules {
            let package = package(folder.path(), name, accepts);
            text += &format!("[[modules]]\npackage = {package:?}\n{lines}\n");
        }
        Plan::load(&toml::from_str(&(text + more)).expect("a configuration"))
    }

    fn refused(modules: &[(&str, &str, &str)], more: &str) -> String {
        plan(modules, more).map(|_| ()).expect_err("refused").to_string()
    }

    #[test]
    fn modules_come_after_those_they_wait_for() {
        let when = "when = { module = \"b\", finding = \"x\", is = \"present\" }";
        let plan = plan(&[("a", "", "after = [\"c\"]"), ("b", "", ""), ("c", "", when)], "").expect("a plan");
        let names: Vec<&str> = plan.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
        assert_eq!(plan.modules[1].after, ["b"], "a condition is a predecessor");
    }

    #[test]
    fn cycles_unknown_names_and_two_of_one_name_are_refused_by_name() {
        let cycle = refused(&[("a", "", "after = [\"b\"]"), ("b", "", "after = [\"a\"]"), ("c", "", "")], "");
        assert!(cycle.contains("waits for another one: a, b;"), "{cycle}");
        let itself = refused(&[("a", "", "after = [\"a\"]")], "");
        assert!(itself.contains("waits for another one: a;"), "{itself}");
        let unknown = refused(&[("a", "", "after = [\"x\"]"), ("b", "", "")], "");
        assert!(unknown.contains("modules (a): there is no module `x`; there are: a, b"), "{unknown}");
        let rule = refused(&[("a", "", "")], "[[rules]]\nname = \"night\"\neffect = \"skip\"\nmodules = [\"y\"]\n");
        assert!(rule.contains("rules (night): there is no module `y`"), "{rule}");
        let twice = refused(&[("a", "", ""), ("b", "", "name = \"a\"")], "");
        assert!(twice.contains("two are called `a`"), "{twice}");
        let grant = refused(&[("a", "", "grants = [\"attribute:PatientName\"]")], "");
        assert!(grant.contains("modules (a): the attribute `PatientName` cannot be granted"), "{grant}");
    }
}
