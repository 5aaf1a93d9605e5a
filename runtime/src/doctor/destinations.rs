//! Where results go: what the configuration names, who answers, and what nobody sends any more.

use super::Check;
use crate::config::Config;
use crate::deliver;
use crate::routing::Plan;
use crate::store::{DeliveryState, Store};

/// Files that they name, and modules whose results they are to get; they are not called.
pub(super) fn named(config: &Config) -> Check {
    const NAME: &str = "destinations";
    if let Err(e) = deliver::check(config) {
        return Check::fail(
            NAME,
            e,
            "let the user of `gantry serve` read, and of a folder write, what [[destinations]] names",
        );
    }
    // What is wrong with the modules themselves is told beside.
    let modules = Plan::load(config).map(|plan| plan.modules.into_iter().map(|module| module.name).collect::<Vec<_>>());
    let stray = config.destinations.iter().find_map(|to| {
        let stray = to.modules.iter().find(|name| modules.as_ref().is_ok_and(|modules| !modules.contains(name)));
        stray.map(|name| format!("{:?} is to get results of {name:?}, and no module is called so", to.name))
    });
    if let Some(found) = stray {
        return Check::fail(NAME, found, "name modules as [[modules]] does, or as their manifests where it does not");
    }
    let unasked: Vec<_> =
        config.destinations.iter().filter(|to| to.dimse.as_ref().is_some_and(|to| to.commitment)).collect();
    if let (Some(to), None) = (unasked.first(), config.dimse.listen) {
        return Check::warn(
            NAME,
            format!(
                "{:?} is asked for storage commitment, and dimse.listen is not set: most report by calling back",
                to.name
            ),
            "set dimse.listen, and list it in dimse.callers",
        );
    }
    Check::ok(NAME, config.destinations.iter().map(|to| to.name.as_str()).collect::<Vec<_>>().join(", "))
}

/// Whether somebody answers where results are to go. Nothing is sent.
pub(super) fn reachable(config: &Config) -> Vec<Check> {
    const NAME: &str = "destination";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let check = |(name, answered): (String, Result<String, String>)| match answered {
        Ok(found) => Check::ok(NAME, format!("{name}: {found}")),
        Err(e) => Check::warn(
            NAME,
            format!("{name}: {e}"),
            "fine while it is down: results wait for it; else mend [[destinations]]",
        ),
    };
    runtime.block_on(deliver::call(config)).into_iter().map(check).collect()
}

/// Results that nobody sends: their destination is gone from the configuration.
pub(super) fn left_behind(config: &Config) -> Option<Check> {
    const NAME: &str = "outbox";
    let data = config.node.data_folder.as_deref().filter(|data| Store::is_in(data))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let counts = runtime.block_on(async {
        let store = Store::open_to_read(data).await.ok()?;
        // A journal of an earlier version has none.
        let counts = store.open_deliveries().await.ok();
        store.close().await;
        counts
    })?;
    let known = |name: &str| config.destinations.iter().any(|to| to.name == name);
    if let Some(stray) = counts.iter().find(|count| !known(&count.destination)) {
        return Some(Check::warn(
            NAME,
            format!("{} results wait for {:?}, which is not configured", stray.count, stray.destination),
            "configure it again, or let go of them: `gantry outbox drop --destination`",
        ));
    }
    let dead: u64 = counts.iter().filter(|count| count.state == DeliveryState::Dead).map(|count| count.count).sum();
    Some(match dead {
        0 => Check::ok(NAME, "no result was given up"),
        dead => Check::warn(
            NAME,
            format!("{dead} results did not reach their destination and were given up"),
            "see `gantry outbox list --state dead`, then `gantry outbox retry` or `drop`",
        ),
    })
}
