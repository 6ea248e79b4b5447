//! Just enough of Rust's syntax to see what a file names: tokens without comments, literals and tests, and the
//! paths that start at `crate` or `super`.

/// A name, a number, `::`, or one other character.
pub(crate) type Token = String;

/// The tokens of a file, without its inline tests (they come last, by the rules of code).
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let tests = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].map(|mark| inline_module(text, mark));
    let end = tests.into_iter().flatten().min().unwrap_or(text.len());
    let code = without_comments_and_literals(&text[..end]);
    let mut tokens = Vec::new();
    let mut rest = code.as_str();
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let len = match first {
            c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        if !first.is_whitespace() {
            tokens.push(rest[..len].to_owned());
        }
        rest = &rest[len..];
    }
    without_imports_for_documentation(tokens)
}

/// Imports under `#[cfg(doc)]` serve links in documentation alone.
fn without_imports_for_documentation(mut tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 8] = ["#", "[", "cfg", "(", "doc", ")", "]", "use"];
    while let Some(start) = tokens.windows(MARK.len()).position(|window| window == MARK) {
        let end =
            tokens[start..].iter().position(|token| token == ";").map_or(tokens.len(), |end| start + end);
        tokens.drain(start..end);
    }
    tokens
}

/// Where a module with its body in the same file starts, if that mark stands before one.
fn inline_module(text: &str, mark: &str) -> Option<usize> {
    text.match_indices(mark).map(|(place, _)| place).find(|&place| {
        let item = text[place..].find("mod ").map(|start| &text[place + start..]).unwrap_or("");
        item.find(['{', ';']).is_some_and(|end| item[end..].starts_with('{'))
    })
}

/// The names of the modules that only tests compile and that have files of their own.
pub(crate) fn test_modules(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (place, _) in text.match_indices("#[cfg(") {
        let mut lines = text[place..].lines();
        let condition = lines.next().unwrap_or("");
        let Some(module) = lines.find(|line| !line.trim_start().starts_with("#[")) else { continue };
        let name = module.trim_end().strip_suffix(';').and_then(|item| item.rsplit_once("mod "));
        if let Some((_, name)) = name.filter(|_| condition.contains("(test") || condition.contains(" test")) {
            names.push(name.to_owned());
        }
    }
    names
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_len(rest),
            'r' if starts_raw_string(rest, &code) => raw_string_len(rest),
            '\'' => char_len(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (place, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

fn starts_raw_string(text: &str, before: &str) -> bool {
    let continues_name =
        before.chars().next_back().is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_');
    !continues_name && text[1..].trim_start_matches('#').starts_with('"') && !text[1..].starts_with("##\"#")
}

fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    let end = ["\"", &"#".repeat(hashes)].concat();
    let start = 1 + hashes + 1;
    text[start..].find(&end).map_or(text.len(), |place| start + place + end.len())
}

/// The length of a character literal; 0 for a lifetime.
fn char_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3)
        }
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// The paths in the tokens that start at `crate` or `super`, seen from the module at `module`: without `crate`, each
/// branch of a use tree a path of its own.
pub(crate) fn paths(tokens: &[Token], module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = |name: &str| tokens[at] == name && tokens.get(at + 1).is_some_and(|next| next == "::");
        let after_path = at > 0 && tokens[at - 1] == "::";
        let mut base = None;
        if starts("crate") {
            base = Some(Vec::new());
            at += 2;
        } else if starts("super") && !after_path {
            let mut parent = module.to_vec();
            while tokens[at] == "super" && tokens.get(at + 1).is_some_and(|next| next == "::") {
                parent.pop();
                at += 2;
            }
            base = Some(parent);
        }
        match base {
            Some(base) => at = tree(tokens, at, base, &mut found),
            None => at += 1,
        }
    }
    found
}

/// Reads a use tree, or a path, from its first name on. Returns where it ends.
fn tree(tokens: &[Token], mut at: usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while let Some(token) = tokens.get(at).filter(|token| *token != "}") {
                    at = if token == "," { at + 1 } else { tree(tokens, at, path.clone(), found) };
                }
                return at + 1;
            }
            Some(name) => path.push(name.to_owned()),
            None => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|next| next != "::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    if tokens.get(at).is_some_and(|next| next == "as") { at + 2 } else { at }
}
