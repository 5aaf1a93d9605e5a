//! `/api/quarantine`: what sync holds until a person decides. Decisions are taken on the node, with `gantry quarantine`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use gantry_cloud_sync::held::ReasonKind;

use super::accept::{accepted, choose};
use super::error::WebError;
use super::json::{JSON, Page, json};
use super::qido::{Listed, Parameters};
use super::{Caller, Shared, uid};
use crate::config::Scope;
use crate::store::{HeldSearch, HeldState};

/// Held objects, the latest first.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response<Body>, WebError> {
    choose(&accepted(&headers, None)?, &[JSON])?;
    caller.may(Scope::Review).or_else(|_| caller.may(Scope::Administer))?;
    let (mut study, mut reason, mut state) = (None, None, None);
    let unknown = |name| WebError::BadRequest(format!("{name} is none that is known here"));
    let page = Page::of(&parameters, shared.config.qido_results_max, |name, value| {
        match name {
            "study" => study = Some(uid(value)?),
            "reason" => reason = Some(ReasonKind::named(value).ok_or_else(|| unknown("reason"))?),
            "state" => state = Some(HeldState::named(value).ok_or_else(|| unknown("state"))?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let study = study.as_ref().map(|uid| uid.as_str());
    let rows = shared.store.held(HeldSearch { study, reason, state }, page.limit, page.offset).await?;
    let mut response = json(StatusCode::OK, &rows)?;
    let detail = format!("{} held objects", rows.len());
    response.extensions_mut().insert(Listed { study_instance_uid: study.map(str::to_owned), detail });
    Ok(response)
}
