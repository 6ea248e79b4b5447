//! Who may do what: the token, and commands that a page of another site sends through somebody's browser.

use std::cell::Cell;
use std::net::IpAddr;

use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::body::{self, Refusal};
use super::counters::add;
use super::site::Site;
use crate::clients::{Client, equal_in_constant_time};

/// Checks the token. Wrong ones are counted, and slowed down together with those of the RPC port; `wrong` counts those
/// of the connection.
///
/// # Errors
/// The response: no token, or a wrong one.
pub(super) async fn check_token(
    site: &dyn Site,
    client: &Client,
    wrong: &Cell<u32>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let right = site.token();
    if right.is_empty() {
        return Ok(());
    }
    let unauthorized =
        |text: &str| Err(body::error(StatusCode::UNAUTHORIZED, text).with(WWW_AUTHENTICATE, "Bearer"));
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let bearer = given.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let Some((_, token)) = bearer else {
        add(&site.counters().without_token, 1);
        return unauthorized("this agent wants its RPC token, in a header 'Authorization: Bearer TOKEN'");
    };
    site.guesses().turn(client.source).await;
    if equal_in_constant_time(token.trim_ascii(), right.as_bytes()) {
        return Ok(());
    }
    wrong.set(wrong.get().saturating_add(1));
    add(&site.counters().wrong_tokens, 1);
    site.guesses().wrong(client.source, client.peer, wrong.get()).await;
    unauthorized("wrong token")
}

/// Refuses commands that a browser may have sent for a page of another site: with another site's `Origin`, without the
/// content type that makes browsers ask first, or, where no token is wanted, under a name that another site can have
/// pointed here.
///
/// # Errors
/// The response.
pub(super) fn check_origin(site: &dyn Site, head: &Parts) -> Result<(), Refusal> {
    if head.method != Method::POST {
        return Ok(());
    }
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let refused = |reason: &str| {
        add(&site.counters().cross_site, 1);
        Err(body::error(StatusCode::FORBIDDEN, reason))
    };
    if let Some(origin) = head.headers.get(ORIGIN)
        && origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_none_or(|(_, from)| from != host)
    {
        return refused("this is a page of another site");
    }
    if site.token().is_empty() && !is_sure(host) {
        return refused(
            "an agent without a token takes commands only under its IP address or as localhost: set 'rpc_auth'",
        );
    }
    let kind = text(CONTENT_TYPE).and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        let text = "the body must be JSON, with a header 'Content-Type: application/json'";
        return Err(body::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// Whether no other site can have this name: an address, or this machine's own name for itself.
fn is_sure(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_can_point_here_are_not_sure() {
        for sure in ["127.0.0.1:8500", "10.1.2.3", "[::1]:8500", "[::1]", "localhost:1", "LOCALHOST"] {
            assert!(is_sure(sure), "{sure}");
        }
        for not in ["", "evil.example:8500", "127.0.0.1.evil.example", "localhost.evil.example", "[x]:1"] {
            assert!(!is_sure(not), "{not}");
        }
    }
}
