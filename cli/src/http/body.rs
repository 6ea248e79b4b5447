//! Bodies: what a response consists of, and what a request may.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clients::Standing;

/// Longest body of a request, bytes. The longest event and its base64 take a fifth of it.
pub(super) const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the whole body of a request.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// Pieces of a streamed response that wait for a slow client; the source waits then.
const PIECES_WAITING_MAX: usize = 2;

/// The body of a response.
pub(super) struct Body {
    content: Content,
    /// The connection counts as idle once the body was sent.
    _in_use: Option<InUse>,
}

enum Content {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Bytes>),
}

pub(super) type Reply = Response<Body>;

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
        Body { content: Content::Whole(bytes.into()), _in_use: None }
    }

    /// A body of pieces that come one after the other. It ends with its source; the source learns of a client that is
    /// gone by [`mpsc::Sender::closed`].
    pub(super) fn pieces() -> (mpsc::Sender<Bytes>, Body) {
        let (source, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        (source, Body { content: Content::Pieces(pieces), _in_use: None })
    }

    pub(super) fn holding(mut self, in_use: InUse) -> Body {
        self._in_use = Some(in_use);
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(std::mem::take(bytes)),
            Content::Pieces(pieces) => ready!(pieces.poll_recv(ctx)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A request that is being answered: its connection is not idle.
pub(super) struct InUse(Rc<Standing>);

impl InUse {
    pub(super) fn new(standing: &Rc<Standing>) -> InUse {
        standing.busy.set(true);
        InUse(standing.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.last.set(Instant::now());
    }
}

/// A response of this type of content.
pub(super) fn reply(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let text =
        serde_json::to_vec(value).expect("what is answered has text for keys, and memory takes all writes");
    reply(status, "application/json", Body::whole(text))
}

/// What is wrong with a request, or went wrong with it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    text: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Refusal {
        self.header = Some((name, value));
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        #[derive(Serialize)]
        struct Error {
            error: String,
        }
        let mut reply = json(refusal.status, &Error { error: refusal.text });
        if let Some((name, value)) = refusal.header {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}

/// A refusal of a request.
pub(super) fn error(status: StatusCode, text: impl ToString) -> Refusal {
    Refusal { status, text: text.to_string(), header: None }
}

/// Done, and nothing to say about it.
pub(super) fn done() -> Reply {
    let mut reply = Response::new(Body::whole(Bytes::new()));
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}

/// Reads the body of a request, an object of JSON.
///
/// # Errors
/// The response: the body is too long, too slow, or not of that form.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Refusal> {
    let bytes = read_bytes(body).await?;
    serde_json::from_slice(&bytes)
        .map_err(|wrong| error(StatusCode::BAD_REQUEST, format!("the body is not as expected: {wrong}")))
}

async fn read_bytes(mut body: Incoming) -> Result<Bytes, Refusal> {
    let too_long = || {
        let text = format!("the body is longer than {REQUEST_BYTES_MAX} bytes");
        error(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        return Err(too_long());
    }
    let all = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|ctx| Pin::new(&mut body).poll_frame(ctx)).await {
            let frame = frame.map_err(|broken| error(StatusCode::BAD_REQUEST, broken))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > REQUEST_BYTES_MAX {
                    return Err(too_long());
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(REQUEST_WITHIN, all).await.unwrap_or_else(|_| {
        let text = format!("the body did not come within {}s", REQUEST_WITHIN.as_secs());
        Err(error(StatusCode::REQUEST_TIMEOUT, text))
    })
}
