//! `GET /api/worklist`: which studies are open, in which order, and why.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};

use super::Shared;
use super::accept::{accepted, choose};
use super::error::WebError;
use super::json::{JSON, Page, json};
use super::qido::{Listed, Parameters};
use crate::store::now_ms;

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response<Body>, WebError> {
    choose(&accepted(&headers, None)?, &[JSON])?;
    let page = Page::of(&parameters, shared.config.qido_results_max, |_, _| Ok(false))?;
    let open_since_ms = shared.worklist.open_since_ms(now_ms());
    let list = shared.store.worklist(open_since_ms, page.limit, page.offset).await?;
    let mut response = json(StatusCode::OK, &list)?;
    let detail = format!("{} of the worklist", list.studies.len());
    response.extensions_mut().insert(Listed { study_instance_uid: None, detail });
    Ok(response)
}
