//! WADO-RS: what an archive has of a study, taken in as it comes. Nothing of it is parsed before our scan.

use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::redirect::Policy;

use crate::ingest::{Arrival, Asked, Form, Incoming, Intake, Refused};
use crate::web::accept::Media;
use crate::web::multipart::{Event, Headers, MultipartError, Parser};

/// Files as the archive keeps them, not decoded for us (PS3.18 section 8.7.3.5.2).
const AS_KEPT: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
const DICOM: &str = "application/dicom";

/// Where and how.
pub(super) struct Retriever {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
    instances_max: usize,
}

/// It does not come whole. Says no patient data.
#[derive(Debug, thiserror::Error)]
pub(super) enum RetrieveError {
    /// The archive, or the way to it.
    #[error("{0}")]
    Answer(String),
    /// The archive: no sound multipart body.
    #[error("its answer: {0}")]
    Multipart(#[from] MultipartError),
    /// The archive: more than we want.
    #[error("it sends more than pacs.prior_instances_max = {0} instances of a study")]
    Instances(usize),
    /// What it sends is refused, or the host cannot keep it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<reqwest::Error> for RetrieveError {
    /// Without addresses, which hold what was asked for.
    fn from(error: reqwest::Error) -> Self {
        Self::Answer(crate::printable(&super::pacs::failed(error)))
    }
}

impl Retriever {
    /// Below a base address of DICOMweb. It follows no redirection: what the operator trusts is that address.
    pub(super) fn new(base: &str, token: Option<&str>, instances_max: usize) -> Result<Self, String> {
        let client = reqwest::Client::builder().redirect(Policy::none()).build().map_err(|e| e.to_string())?;
        Ok(Self { client, base: base.to_owned(), token: token.map(str::to_owned), instances_max })
    }

    /// Takes in all that it has of a study; when this returns well, it has come to its end.
    pub(super) async fn retrieve(
        &self,
        intake: &Intake,
        arrival: &Arrival,
        asked: &std::sync::Arc<Asked>,
    ) -> Result<(), RetrieveError> {
        let mut request = self.client.get(format!("{}/studies/{}", self.base, asked.study)).header(ACCEPT, AS_KEPT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await?;
        let mut parser = parser(&response)?;
        let form = Form::Asked(asked.clone());
        let mut taking = Taking { intake, arrival, form, most: self.instances_max, count: 0, part: None };
        while let Some(piece) = response.chunk().await? {
            parser.push(&piece);
            while let Some(event) = parser.event()? {
                match event {
                    Event::Part(headers) => taking.begin(&headers)?,
                    Event::Data(data) => taking.write(&data).await?,
                    Event::PartEnd => taking.end().await?,
                    Event::End => return Ok(()),
                }
            }
        }
        Ok(parser.finish()?)
    }
}

fn parser(response: &reqwest::Response) -> Result<Parser, RetrieveError> {
    let refused = |reason: String| Err(RetrieveError::Answer(reason));
    if response.status() != reqwest::StatusCode::OK {
        return refused(format!("it answers WADO-RS with status {}", response.status().as_u16()));
    }
    if response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() != b"identity") {
        return refused("it answers WADO-RS with a Content-Encoding that nobody asked for".into());
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).and_then(Media::parse);
    match kind.filter(|kind| kind.kind == "multipart/related") {
        Some(kind) => Ok(Parser::new(kind.parameter("boundary").unwrap_or_default())?),
        None => refused("it answers WADO-RS with something else than multipart/related".into()),
    }
}

/// A study that is being taken in.
struct Taking<'a> {
    intake: &'a Intake,
    arrival: &'a Arrival,
    form: Form,
    most: usize,
    count: usize,
    part: Option<Box<Incoming>>,
}

impl Taking<'_> {
    fn begin(&mut self, headers: &Headers) -> Result<(), RetrieveError> {
        self.count += 1;
        if self.count > self.most {
            return Err(RetrieveError::Instances(self.most));
        }
        // Without a header of its own, a part is what the whole says.
        let kind = headers.get("content-type").map(Media::parse);
        if kind.is_some_and(|kind| kind.is_none_or(|kind| kind.kind != DICOM)) {
            return Err(RetrieveError::Answer(format!("it sends a part that is not {DICOM}")));
        }
        self.part = Some(Box::new(self.intake.begin(self.arrival, self.form.clone())?));
        Ok(())
    }

    async fn write(&mut self, data: &[u8]) -> Result<(), RetrieveError> {
        match &mut self.part {
            Some(part) => Ok(part.write(data).await?),
            None => Ok(()),
        }
    }

    async fn end(&mut self) -> Result<(), RetrieveError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        match part.finish().await {
            // It was fetched before, in another encoding: the first stays.
            Ok(_) | Err(Refused::Conflict) => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }
}
