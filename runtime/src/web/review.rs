//! `/api/results`: what becomes of results, and what people say of them.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use super::accept::{accepted, choose};
use super::error::WebError;
use super::json::{JSON, Page, body, job, json, parse};
use super::qido::{Listed, Parameters};
use super::{Caller, Shared, uid};
use crate::config::Scope;
use crate::review::{self, SayError, Saying};
use crate::store::{Deliverable, Given, Released, Which};

type Answer = Result<Response<Body>, WebError>;

/// Whether somebody is shown what may not leave. A viewer shows what it gets, and that is not for reports.
fn reviews(caller: &Caller) -> bool {
    [Scope::Review, Scope::Administer].into_iter().any(|scope| caller.may(scope).is_ok())
}

/// Results, the latest first.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    choose(&accepted(&headers, None)?, &[JSON])?;
    let (mut study, mut held) = (None, false);
    let page = Page::of(&parameters, shared.config.qido_results_max, |name, value| {
        match (name, value) {
            ("study", _) => study = Some(uid(value)?),
            ("held", "true") => held = true,
            ("held", "false") => held = false,
            ("held", _) => return Err(WebError::BadRequest("held is true or false".into())),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let study = study.as_ref().map(|uid| uid.as_str());
    let which = match (reviews(&caller), held) {
        (true, true) => Which::Held,
        (true, false) => Which::All,
        (false, true) => return Err(WebError::Forbidden(Scope::Review)),
        (false, false) => Which::MayLeave,
    };
    let results = shared.store.results(study, which, page.limit, page.offset).await?;
    let mut response = json(StatusCode::OK, &results)?;
    let detail = format!("{} results", results.len());
    response.extensions_mut().insert(Listed { study_instance_uid: study.map(str::to_owned), detail });
    Ok(response)
}

/// One result with all that something can be said of.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    choose(&accepted(&headers, None)?, &[JSON])?;
    let id = job(&id)?;
    if !reviews(&caller) && shared.store.deliverable(id).await? != Deliverable::Now {
        return Err(WebError::NotFound("result"));
    }
    let shown = review::show(&shared.store, &shared.data, id).await.map_err(refused)?;
    let mut response = json(StatusCode::OK, &shown)?;
    let study_instance_uid = Some(shown.reviewed.job.study_instance_uid.clone());
    response.extensions_mut().insert(Listed { study_instance_uid, detail: "a result".into() });
    Ok(response)
}

/// Somebody says of a finding whether it is right.
pub(super) async fn verdict(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let id = job(&id)?;
    let (head, sent) = request.into_parts();
    let saying: Saying = parse(&body(&shared, &head.headers, sent, &[JSON]).await?)?;
    match review::say(&shared.store, &shared.data, id, &saying, &caller.name).await.map_err(refused)? {
        Given::New(row) => json(StatusCode::CREATED, &row),
        Given::Same(row) => json(StatusCode::OK, &row),
        Given::Conflict(row) => Err(WebError::Conflict(review::conflict(&row))),
        Given::NoResult => Err(WebError::NotFound("result")),
    }
}

/// How a result is released.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Releasing {
    despite_verdicts: bool,
    by: Option<String>,
}

/// Somebody lets a result leave.
pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let id = job(&id)?;
    let (head, sent) = request.into_parts();
    let sent = body(&shared, &head.headers, sent, &[JSON]).await?;
    let Releasing { despite_verdicts, by } = if sent.is_empty() { Releasing::default() } else { parse(&sent)? };
    let who = review::who(&caller.name, by.as_deref()).map_err(|e| WebError::BadRequest(e.to_string()))?;
    let released = shared.store.release_result(id, &who, despite_verdicts).await?;
    match released {
        Released::Yes | Released::Already => match shared.store.reviewed(id).await? {
            Some(reviewed) => json(StatusCode::OK, &reviewed.release),
            None => Err(WebError::NotFound("result")),
        },
        Released::NoSuchJob => Err(WebError::NotFound("job")),
        _ => Err(WebError::Conflict(review::not_released(&released))),
    }
}

fn refused(error: SayError) -> WebError {
    match error {
        SayError::Review(error) => WebError::BadRequest(error.to_string()),
        SayError::NoResult => WebError::NotFound("result"),
        SayError::Deleted => WebError::Conflict(error.to_string()),
        SayError::Open(_) | SayError::Store(_) => WebError::internal(&error),
    }
}
