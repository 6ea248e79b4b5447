//! `/v1/members` and `/v1/coordinates`, which are sent while they are read, and one member.

use std::rc::Rc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use thane_engine::api::{ApiError, Listing};
use thane_engine::event::{MemberRef, Members};
use thane_engine::pattern::Pattern;
use tokio::sync::mpsc;

use super::body::{self, Body, Refusal, Reply};
use super::json::{Member, Place, refusal};
use super::site::Site;

/// Which members are wanted: expressions for whole values.
#[derive(Default)]
struct Filter {
    name: Option<Pattern>,
    status: Option<Pattern>,
    tags: Vec<(String, Pattern)>,
}

impl Filter {
    fn of(parameters: &[(String, String)]) -> Result<Filter, Refusal> {
        let refused = |text: String| body::error(StatusCode::BAD_REQUEST, text);
        let mut filter = Filter::default();
        for (name, expression) in parameters {
            let whole = Pattern::new(&format!("^(?:{expression})$"))
                .map_err(|error| refused(format!("'{name}' is no regular expression: {error}")))?;
            match name.as_str() {
                "name" => filter.name = Some(whole),
                "status" => filter.status = Some(whole),
                _ => match name.strip_prefix("tag.") {
                    Some(tag) => filter.tags.push((tag.to_owned(), whole)),
                    None => {
                        let known = "the parameters are 'name', 'status' and 'tag.NAME'";
                        return Err(refused(format!("unknown parameter '{name}': {known}")));
                    }
                },
            }
        }
        Ok(filter)
    }

    /// A missing tag is an empty text.
    fn matches(&self, member: &MemberRef<'_>) -> bool {
        let fits =
            |pattern: &Option<Pattern>, text: &str| pattern.as_ref().is_none_or(|it| it.is_match(text));
        if !fits(&self.name, member.name) || !fits(&self.status, member.status.as_str()) {
            return false;
        }
        let tags = if self.tags.is_empty() { Default::default() } else { member.tags() };
        self.tags.iter().all(|(name, pattern)| pattern.is_match(tags.get(name).map_or("", String::as_str)))
    }
}

/// All members that the parameters select.
pub(super) async fn members(site: &dyn Site, parameters: &[(String, String)]) -> Result<Reply, Refusal> {
    let filter = Filter::of(parameters)?;
    let listing = site.handle().list().await.map_err(|error| refusal(&error))?;
    let (source, body) = Body::pieces();
    tokio::task::spawn_local(async move {
        let write = async |piece: &Members, into: &mut Elements| {
            piece.iter().filter(|member| filter.matches(member)).for_each(|m| into.add(&Member::from(&m)));
            Ok(())
        };
        stream(listing, "members", source, write).await;
    });
    Ok(body::reply(StatusCode::OK, "application/json", body))
}

/// The coordinates that the node knows: its own, and those of members that it has probed.
pub(super) async fn coordinates(site: Rc<dyn Site>) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Known<'a> {
        name: &'a str,
        coordinate: Place,
    }
    let listing = site.handle().list().await.map_err(|error| refusal(&error))?;
    let (source, body) = Body::pieces();
    tokio::task::spawn_local(async move {
        let write = async |piece: &Members, into: &mut Elements| {
            let names: Vec<String> = piece.iter().map(|member| member.name.to_owned()).collect();
            let found = site.handle().coordinates(names).await?;
            for (member, coordinate) in piece.iter().zip(&found) {
                if let Some(coordinate) = coordinate {
                    into.add(&Known { name: member.name, coordinate: coordinate.into() });
                }
            }
            Ok(())
        };
        stream(listing, "coordinates", source, write).await;
    });
    Ok(body::reply(StatusCode::OK, "application/json", body))
}

/// The elements of an array, written one after the other.
struct Elements {
    text: Vec<u8>,
    any: bool,
}

impl Elements {
    fn add(&mut self, element: &impl Serialize) {
        if std::mem::replace(&mut self.any, true) {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, element).expect("memory takes all writes");
    }
}

/// Sends `{NAME:[...]}`. If the node stops meanwhile the text breaks off, so that it is no JSON.
async fn stream(
    mut listing: Listing,
    name: &str,
    to: mpsc::Sender<Bytes>,
    write: impl AsyncFn(&Members, &mut Elements) -> Result<(), ApiError>,
) {
    let mut elements = Elements { text: format!("{{\"{name}\":[").into_bytes(), any: false };
    loop {
        let piece = match listing.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(_) => return,
        };
        if write(&piece, &mut elements).await.is_err() {
            return;
        }
        let text = std::mem::take(&mut elements.text);
        if !text.is_empty() && to.send(text.into()).await.is_err() {
            return;
        }
    }
    elements.text.extend_from_slice(b"]}\n");
    // An error means that the client is gone.
    let _ = to.send(elements.text.into()).await;
}

/// One member, with its coordinate and the estimated round trip to it, if they are known.
pub(super) async fn member(site: &dyn Site, name: &str) -> Result<Reply, Refusal> {
    #[derive(Serialize)]
    struct Found<'a> {
        #[serde(flatten)]
        member: Member<'a>,
        coordinate: Option<Place>,
        /// Seconds.
        round_trip: Option<f64>,
    }
    let failed = |error: ApiError| refusal(&error);
    let handle = site.handle();
    let mut listing = handle.list().await.map_err(failed)?;
    listing.retain(|member| member.name == name).await.map_err(failed)?;
    let found = listing.next().await.map_err(failed)?;
    let Some(member) = found.as_ref().and_then(Members::first) else {
        return Err(body::error(StatusCode::NOT_FOUND, format!("no member is called '{name}'")));
    };
    let names = vec![handle.name().to_owned(), name.to_owned()];
    let coordinates = handle.coordinates(names).await.map_err(failed)?;
    let (own, its) = (coordinates.first().copied().flatten(), coordinates.get(1).copied().flatten());
    let round_trip = own.zip(its).filter(|_| name != handle.name()).map(|(own, its)| own.round_trip_to(&its));
    let found =
        Found { member: Member::from(&member), coordinate: its.as_ref().map(Place::from), round_trip };
    Ok(body::json(StatusCode::OK, &found))
}
