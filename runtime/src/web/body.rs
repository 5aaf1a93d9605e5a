//! What an answer is made of, piece by piece, as the client takes it.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::error::WebError;
use super::{Shared, blocking};
use crate::study::{self, Rewrite};

/// A piece of a file.
const PIECE_BYTES: usize = 256 << 10;

/// A part of a body.
pub(super) enum Piece {
    Bytes(Bytes),
    File(PathBuf),
    /// From a place in it, so many bytes.
    Range(PathBuf, u64, u64),
    Open(tokio::io::Take<tokio::fs::File>),
    /// An instance, in Explicit VR Little Endian.
    Explicit(PathBuf),
    Rewriting(Box<Rewrite>),
}

/// Reads as the client takes it.
pub(super) fn pieced(shared: Arc<Shared>, pieces: VecDeque<Piece>) -> Body {
    let options = shared.options.apart();
    streamed(stream::try_unfold((shared, options, pieces), |(shared, options, mut pieces)| async move {
        let io = |e| WebError::internal(&e);
        loop {
            match pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Bytes(bytes)) => return Ok(Some((bytes, (shared, options, pieces)))),
                Some(Piece::File(path)) => pieces.push_front(Piece::Range(path, 0, u64::MAX)),
                Some(Piece::Range(path, at, length)) => {
                    let mut file = tokio::fs::File::open(path).await.map_err(io)?;
                    file.seek(SeekFrom::Start(at)).await.map_err(io)?;
                    pieces.push_front(Piece::Open(file.take(length)));
                }
                Some(Piece::Open(mut file)) => {
                    let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
                    if file.read_buf(&mut bytes).await.map_err(io)? > 0 {
                        pieces.push_front(Piece::Open(file));
                        return Ok(Some((bytes.freeze(), (shared, options, pieces))));
                    }
                }
                Some(Piece::Explicit(path)) => {
                    let of_request = options.clone();
                    let rewrite = blocking(move || study::rewrite(&path, &of_request)).await?;
                    let rewrite = rewrite.map_err(|e| WebError::unreadable(&e))?;
                    pieces.push_front(Piece::Rewriting(Box::new(rewrite)));
                }
                Some(Piece::Rewriting(mut rewrite)) => {
                    let place = shared.renders.acquire().await.map_err(|e| WebError::internal(&e))?;
                    let of_request = options.clone();
                    let (piece, rewrite) = blocking(move || (rewrite.piece(&of_request), rewrite)).await?;
                    drop(place);
                    if let Some(piece) = piece.map_err(|e| WebError::unreadable(&e))? {
                        pieces.push_front(Piece::Rewriting(rewrite));
                        return Ok(Some((Bytes::from(piece), (shared, options, pieces))));
                    }
                }
            }
        }
    }))
}

/// A body of what a stream gives. Where that fails, the connection ends, so that nobody takes it for whole.
pub(super) fn streamed(pieces: impl Stream<Item = Result<Bytes, WebError>> + Send + 'static) -> Body {
    Body::from_stream(pieces.inspect(|piece| {
        if let Err(e) = piece {
            tracing::warn!("an answer ends before its end: {e}");
        }
    }))
}

pub(super) fn boundary() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

pub(super) fn multipart(kind: &str, boundary: &str) -> String {
    format!("multipart/related; type=\"{kind}\"; boundary={boundary}")
}

pub(super) fn part_head(boundary: &str, kind: &str) -> Bytes {
    format!("--{boundary}\r\nContent-Type: {kind}\r\n\r\n").into()
}

/// The same, with where the part comes from.
pub(super) fn part_head_of(boundary: &str, kind: &str, url: &str) -> Bytes {
    format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Location: {url}\r\n\r\n").into()
}

pub(super) fn closing(boundary: &str) -> Bytes {
    format!("--{boundary}--\r\n").into()
}
