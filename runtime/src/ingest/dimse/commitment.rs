//! placeholder
use std::sync::Arc;
use super::Shared;
use super::association::Association;
use super::command::{Command, Status};
use super::negotiate::Context;
use super::wire::Broken;
pub(super) async fn action(a: &mut Association, id: u8, _c: &Context, command: &Command) -> Result<(), Broken> {
    if command.has_data_set { a.discard(id).await?; }
    a.respond(id, command, &Status::failure(0x0211, "")).await
}
pub(super) async fn answered(_a: &mut Association, _c: &Command) -> Result<(), Broken> { Ok(()) }
pub(super) async fn deliver(shared: Arc<Shared>) { shared.stop.cancelled().await }
