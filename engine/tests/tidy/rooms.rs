//! Rooms: the files and folders right beneath a package's `src`. No two of them import each other, not even around a
//! corner, and some must not name others at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{Token, paths, test_modules, tokens};

/// One reason for an arrow between two rooms.
#[derive(Debug)]
pub(crate) struct Arrow {
    pub(crate) file: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// What is named there.
    pub(crate) name: String,
}

struct File {
    path: String,
    room: String,
    tokens: Vec<Token>,
    /// Path of its module from the crate's root.
    module: Vec<String>,
}

/// All arrows between the rooms of a package, of (path from `src`, text) of each file. Roots (`lib.rs`, `main.rs`)
/// are no rooms; what they re-export is followed to its room. Tests are left out.
pub(crate) fn arrows(sources: &[(String, String)]) -> Vec<Arrow> {
    let tests: BTreeSet<String> = sources.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let rooms: BTreeSet<String> = sources.iter().filter_map(|(path, _)| room_of(path)).collect();
    let roots = sources.iter().filter(|(path, _)| room_of(path).is_none());
    let mut reexports = BTreeMap::new();
    for (_, text) in roots {
        let code = tokens(text);
        let uses = code.iter().enumerate().filter(|(_, token)| *token == "use");
        // In a root, `use room::Name` and `use crate::room::Name` are the same.
        for (place, _) in uses {
            let mut rooted = vec!["crate".to_owned(), "::".to_owned()];
            let own = code[place + 1..].iter().position(|token| token == "crate").filter(|at| *at == 0);
            let start = place + 1 + own.map_or(0, |_| 2);
            rooted.extend(code[start..].iter().take_while(|token| *token != ";").cloned());
            for path in paths(&rooted, &[]).into_iter().filter(|path| rooms.contains(&path[0])) {
                reexports.insert(path[path.len() - 1].clone(), path[0].clone());
            }
        }
    }
    let files: Vec<File> = sources
        .iter()
        .filter(|(path, _)| !tests.iter().any(|test| path == test || path.starts_with(&folder_of(test))))
        .filter_map(|(path, text)| {
            Some(File {
                path: path.clone(),
                room: room_of(path)?,
                tokens: tokens(text),
                module: module_of(path),
            })
        })
        .collect();
    let mut arrows = Vec::new();
    for file in &files {
        for path in paths(&file.tokens, &file.module) {
            let first = path.first().map(String::as_str).unwrap_or_default();
            let to =
                if rooms.contains(first) { Some(first) } else { reexports.get(first).map(String::as_str) };
            if let Some(to) = to.filter(|to| *to != file.room) {
                arrows.push(Arrow {
                    file: file.path.clone(),
                    from: file.room.clone(),
                    to: to.to_owned(),
                    name: path.join("::"),
                });
            }
        }
    }
    arrows.extend(calls(&files));
    arrows
}

/// Calls of methods that another room than the type's own implements: the caller names the type alone, and depends on
/// the implementing room all the same. Only names that no other room defines can be told.
fn calls(files: &[File]) -> Vec<Arrow> {
    let mut types: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut functions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        for pair in file.tokens.windows(2) {
            let defined = match pair[0].as_str() {
                "struct" | "enum" | "union" => &mut types,
                "fn" => &mut functions,
                _ => continue,
            };
            defined.entry(&pair[1]).or_default().insert(&file.room);
        }
    }
    let mut abroad = BTreeMap::new();
    for file in files {
        for (kind, method) in inherent_methods(&file.tokens) {
            let elsewhere = types.get(kind).is_some_and(|rooms| !rooms.contains(file.room.as_str()));
            if elsewhere && functions[method].len() == 1 {
                abroad.insert(method, (kind, file.room.as_str()));
            }
        }
    }
    let mut arrows = Vec::new();
    for file in files {
        for three in file.tokens.windows(3) {
            let called = (three[0] == "." || three[0] == "::") && three[2] == "(";
            let Some((kind, to)) = abroad.get(three[1].as_str()).filter(|_| called) else { continue };
            if *to != file.room {
                arrows.push(Arrow {
                    file: file.path.clone(),
                    from: file.room.clone(),
                    to: (*to).to_owned(),
                    name: format!("{kind}::{}", three[1]),
                });
            }
        }
    }
    arrows
}

/// Type and name of each method in an `impl Type` block.
fn inherent_methods(tokens: &[Token]) -> Vec<(&str, &str)> {
    let mut methods = Vec::new();
    for (place, _) in tokens.iter().enumerate().filter(|(_, token)| *token == "impl") {
        let (mut angles, mut kind, mut body) = (0, "", None);
        for (at, token) in tokens.iter().enumerate().skip(place + 1) {
            match token.as_str() {
                "<" => angles += 1,
                ">" if tokens[at - 1] != "-" => angles -= 1,
                "for" | ";" | "," | ")" | "=" if angles == 0 => break,
                "{" => {
                    body = Some(at);
                    break;
                }
                "where" => {}
                name if angles == 0 && body.is_none() && tokens[at - 1] != "where" => kind = name,
                _ => {}
            }
        }
        let Some(body) = body else { continue };
        let mut depth = 0;
        for pair in tokens[body..].windows(2) {
            match pair[0].as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "fn" if depth == 1 => methods.push((kind, pair[1].as_str())),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    methods
}

/// Rooms that depend on each other, around whatever corners: each set with the arrows inside it.
pub(crate) fn circles(arrows: &[Arrow]) -> Vec<(BTreeSet<&str>, Vec<&Arrow>)> {
    let mut reach: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows {
        reach.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    loop {
        let before = reach.clone();
        for reached in reach.values_mut() {
            let further = reached.iter().filter_map(|room| before.get(room)).flatten().copied();
            *reached = reached.iter().copied().chain(further).collect();
        }
        if before == reach {
            break;
        }
    }
    let reaches = |from: &str, to: &str| reach.get(from).is_some_and(|rooms| rooms.contains(to));
    let mut found: Vec<(BTreeSet<&str>, Vec<&Arrow>)> = Vec::new();
    for &room in reach.keys().filter(|room| reaches(room, room)) {
        let members = reach[room].iter().copied().filter(|other| reaches(other, room)).collect();
        if !found.iter().any(|(known, _)| *known == members) {
            let inside =
                |arrow: &&Arrow| members.contains(arrow.from.as_str()) && members.contains(arrow.to.as_str());
            let inner = arrows.iter().filter(inside).collect();
            found.push((members, inner));
        }
    }
    found
}

/// What a room may name.
pub(crate) enum Rule {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Anything but these.
    Not(&'static [&'static str]),
}

/// The arrows that a rule for their room forbids.
pub(crate) fn forbidden<'a>(arrows: &'a [Arrow], rules: &[(&str, Rule)]) -> Vec<&'a Arrow> {
    let breaks = |arrow: &&Arrow| {
        rules.iter().filter(|(room, _)| *room == arrow.from).any(|(_, rule)| match rule {
            Rule::Only(allowed) => !allowed.contains(&arrow.to.as_str()),
            Rule::Not(refused) => refused.contains(&arrow.to.as_str()),
        })
    };
    arrows.iter().filter(breaks).collect()
}

/// `a/b.rs` and `a.rs` lie in room `a`; `lib.rs` and `main.rs` in none.
fn room_of(path: &str) -> Option<String> {
    let first = path.split('/').next().unwrap_or(path);
    let room = first.strip_suffix(".rs").unwrap_or(first);
    let is_root = path == "lib.rs" || path == "main.rs" || room == "bin";
    (!is_root).then(|| room.to_owned())
}

fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    module.pop_if(|last| last == "mod");
    module
}

/// The files that a file declares as modules for tests only.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let is_index = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
    let folder = match path.rsplit_once('/') {
        _ if !is_index => format!("{}/", path.trim_end_matches(".rs")),
        Some((folder, _)) => format!("{folder}/"),
        None => String::new(),
    };
    test_modules(text).iter().map(|name| format!("{folder}{name}.rs")).collect()
}

fn folder_of(file: &str) -> String {
    format!("{}/", file.trim_end_matches(".rs"))
}
