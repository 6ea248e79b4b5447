//! Which request means what: the paths of the port, with the methods of each.

use hyper::{Method, StatusCode};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Page,
    Health,
    Metrics,
    Members,
    Member(String),
    Events,
    Query,
    Join,
    Leave,
    ForceLeave,
    Tags,
    Keys,
    Coordinates,
}

/// All paths but those of single members.
const PATHS: [(&str, Endpoint); 12] = [
    ("/", Endpoint::Page),
    ("/metrics", Endpoint::Metrics),
    ("/v1/health", Endpoint::Health),
    ("/v1/members", Endpoint::Members),
    ("/v1/events", Endpoint::Events),
    ("/v1/query", Endpoint::Query),
    ("/v1/join", Endpoint::Join),
    ("/v1/leave", Endpoint::Leave),
    ("/v1/force-leave", Endpoint::ForceLeave),
    ("/v1/tags", Endpoint::Tags),
    ("/v1/keys", Endpoint::Keys),
    ("/v1/coordinates", Endpoint::Coordinates),
];

impl Endpoint {
    /// What a path names. Paths are compared as they are: none is a file, and none is normalised.
    ///
    /// # Errors
    /// No such path, or a member's name that is not UTF-8 behind its percent signs.
    pub(super) fn of(path: &str) -> Result<Endpoint, StatusCode> {
        if let Some(name) = path.strip_prefix("/v1/members/") {
            if name.is_empty() || name.contains('/') {
                return Err(StatusCode::NOT_FOUND);
            }
            return percent_decoded(name).map(Endpoint::Member).ok_or(StatusCode::BAD_REQUEST);
        }
        let known = PATHS.iter().find(|(known, _)| *known == path);
        known.map(|(_, endpoint)| endpoint.clone()).ok_or(StatusCode::NOT_FOUND)
    }

    /// The methods it has, for the header `Allow`.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Endpoint::Events | Endpoint::Tags | Endpoint::Keys => "GET, HEAD, POST",
            Endpoint::Query | Endpoint::Join | Endpoint::Leave | Endpoint::ForceLeave => "POST",
            _ => "GET, HEAD",
        }
    }

    pub(super) fn allows(&self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Whether anyone may see it: the page is in the program, and probes of health have no token.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Endpoint::Page | Endpoint::Health)
    }
}

/// The text of a part of a path or query; `None` if it is not UTF-8, or a percent sign stands before something else
/// than two digits.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |place: usize| char::from(digits[place]).to_digit(16);
        bytes.push(u8::try_from(digit(0)? << 4 | digit(1)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a URI's query.
///
/// # Errors
/// One of them can't be decoded.
pub(super) fn parameters(query: Option<&str>) -> Result<Vec<(String, String)>, StatusCode> {
    let given = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    let decoded = |part: &str| percent_decoded(&part.replace('+', " "));
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, decoded(value)?))
    };
    given.map(|part| pair(part).ok_or(StatusCode::BAD_REQUEST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are() {
        for tricked in [
            "/../etc/passwd",
            "//v1/members",
            "/v1//members",
            "/v1/members/",
            "/v1/members/a/b",
            "/v1/./members",
            "/v1/health/",
            "/%76%31/health",
            "/V1/health",
            "",
            "*",
        ] {
            assert_eq!(Endpoint::of(tricked), Err(StatusCode::NOT_FOUND), "{tricked}");
        }
        assert_eq!(Endpoint::of("/v1/members/a%2fb%20c"), Ok(Endpoint::Member("a/b c".to_owned())));
        assert_eq!(Endpoint::of("/v1/members/.."), Ok(Endpoint::Member("..".to_owned())));
        for bad in ["/v1/members/%", "/v1/members/%4", "/v1/members/%zz", "/v1/members/%ff"] {
            assert_eq!(Endpoint::of(bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let found = parameters(Some("status=alive&tag.a%3D=x+y%2B&empty=&&bare"));
        let expected =
            vec![pair("status", "alive"), pair("tag.a=", "x y+"), pair("empty", ""), pair("bare", "")];
        assert_eq!(found, Ok(expected));
        assert_eq!(parameters(None), Ok(Vec::new()));
        assert_eq!(parameters(Some("a=%f")), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn the_paths_are_those_of_the_openapi_file() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let text = std::fs::read_to_string(file).expect("the file is there");
        let file: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let described = file["paths"].as_object().expect("it has paths");
        let mut there: Vec<&str> =
            PATHS.iter().map(|(path, _)| *path).chain(["/v1/members/{name}"]).collect();
        let mut paths: Vec<&str> = described.keys().map(String::as_str).collect();
        there.sort_unstable();
        paths.sort_unstable();
        assert_eq!(there, paths);
        for (path, methods) in described {
            let endpoint = Endpoint::of(path).expect("it is there");
            for method in ["get", "post"] {
                let upper = method.to_uppercase();
                let allowed = endpoint.allowed().split(", ").any(|allowed| allowed == upper);
                assert_eq!(methods.get(method).is_some(), allowed, "{method} {path}");
            }
        }
    }
}
