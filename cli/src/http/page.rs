//! `/`: the dashboard, one page without anything from elsewhere.

use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};

use super::body::{self, Body, Refusal, Reply};
use crate::base64;

/// The page. `NONCE` stands where its style and its script name the number that the policy allows.
const PAGE: &str = include_str!("page.html");
const NONCE: &str = "{{nonce}}";

/// The page, with a policy that lets it run its own style and script, and talk to this port only.
pub(super) fn page() -> Result<Reply, Refusal> {
    let mut random = [0; 16];
    if getrandom::fill(&mut random).is_err() {
        let text = "the system gives no random bytes";
        return Err(body::error(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    let nonce = base64::encode(&random);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut reply =
        body::reply(StatusCode::OK, "text/html; charset=utf-8", Body::whole(PAGE.replace(NONCE, &nonce)));
    let headers = reply.headers_mut();
    let policy = HeaderValue::from_str(&policy).expect("base64 is visible ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(reply)
}
