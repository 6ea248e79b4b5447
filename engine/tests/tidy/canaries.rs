//! Each rule catches what it is for: small trees in memory that must fail, and some that must not.

use crate::citations::{citations, sections};
use crate::rooms::Rule::{Not, Only};
use crate::rooms::{arrows, circles, forbidden};

/// The circles of a package with these files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let arrows = arrows(&files);
    circles(&arrows).into_iter().map(|(rooms, _)| rooms.into_iter().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn two_rooms_that_import_each_other_are_a_circle() {
    let files =
        [("a.rs", "use crate::b::B;"), ("b/mod.rs", "mod c;"), ("b/c.rs", "fn f() -> crate::a::A { x }")];
    assert_eq!(circles_of(&files), ["a b"]);
}

#[test]
fn circles_are_found_around_corners_and_in_use_trees() {
    let files = [
        ("a.rs", "use std::fmt;\nuse crate::{b::{self, B}, wire};"),
        ("b.rs", "pub use super::c::{C, D as E};"),
        ("c/deep/d.rs", "type A = super::super::super::a::A;"),
        ("wire.rs", ""),
        ("x.rs", "use crate::a::A;"),
    ];
    assert_eq!(circles_of(&files), ["a b c"]);
}

#[test]
fn what_the_root_re_exports_is_followed_to_its_room() {
    let files = [
        ("lib.rs", "mod a; mod b;\npub use b::{B, C};\npub use crate::b::D;"),
        ("a.rs", "use crate::B;"),
        ("b.rs", "use crate::a::A;"),
    ];
    assert_eq!(circles_of(&files), ["a b"]);
    let files = [files[0], ("a.rs", "use crate::D;"), files[2]];
    assert_eq!(circles_of(&files), ["a b"]);
}

#[test]
fn a_method_implemented_above_its_type_is_an_arrow_of_its_callers() {
    let above = "use crate::below::Below;\nimpl<'a> Below<'a> {\n    pub fn lend(&self) -> u8 { 1 }\n}";
    let below = "pub struct Below<'a>(&'a u8);\nfn f(below: &Below<'_>) { below.lend(); }";
    assert_eq!(circles_of(&[("above.rs", above), ("below.rs", below)]), ["above below"]);
    let by_path = below.replace("below.lend()", "Below::lend(below)");
    assert_eq!(circles_of(&[("above.rs", above), ("below.rs", &by_path)]), ["above below"]);
    // A trait's method is no inherent one, and a method of the type's own room belongs there.
    let of_trait = above.replace("impl<'a> Below<'a>", "impl<'a> Lend for Below<'a>");
    assert_eq!(circles_of(&[("above.rs", &of_trait), ("below.rs", below)]), [""; 0]);
    let own = format!("{below}\nimpl Below<'_> {{ fn lend(&self) {{}} }}");
    assert_eq!(circles_of(&[("above.rs", "use crate::below::Below;"), ("below.rs", &own)]), [""; 0]);
}

#[test]
fn comments_literals_and_tests_are_no_imports() {
    let b = "use crate::a::A;";
    for harmless in [
        "// crate::b::B",
        "/// Like [`crate::b::B`].\nfn f() {}",
        "/* use crate::b::B; */",
        "const TEXT: &str = \"use crate::b::B;\";",
        "const TEXT: &str = r#\"\"use crate::b::B;\"#;",
        "const QUOTE: char = '\"'; // \" crate::b::B",
        "#[cfg(doc)]\nuse crate::b::{B, C};\nfn f() {}",
        "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}",
        "#[cfg(all(test, feature = \"sim\"))]\nmod tests {\n    use crate::b::B;\n}",
    ] {
        assert_eq!(circles_of(&[("a.rs", harmless), ("b.rs", b)]), [""; 0], "{harmless}");
    }
    let tests = [("a/mod.rs", "#[cfg(test)]\nmod tests;"), ("a/tests.rs", "use crate::b::B;"), ("b.rs", b)];
    assert_eq!(circles_of(&tests), [""; 0]);
    // What stands between them counts.
    let after_a_literal = "const QUOTES: [char; 2] = ['\"', '\\''];\nfn f<'a>(x: &'a u8) -> crate::b::B {}";
    assert_eq!(circles_of(&[("a.rs", after_a_literal), ("b.rs", b)]), ["a b"]);
    let behind = "#[cfg(doc)]\nuse crate::c::C;\nuse crate::b::B;";
    assert_eq!(circles_of(&[("a.rs", behind), ("b.rs", b)]), ["a b"]);
    let declared_tests = "#[cfg(test)]\nmod tests;\nuse crate::b::B;";
    assert_eq!(circles_of(&[("a.rs", declared_tests), ("b.rs", b)]), ["a b"]);
}

#[test]
fn a_wrong_arrow_is_found_and_a_right_one_is_not() {
    let files = [
        ("wire/packet.rs", "use crate::view::View;"),
        ("io/udp/mod.rs", "use crate::{api::Engine, wire::Packet};"),
        ("api/mod.rs", "use crate::io::Udp;"),
        ("view.rs", ""),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let rules = [("wire", Only(&[])), ("io", Not(&["api", "shard"])), ("api", Only(&["io"]))];
    let arrows = arrows(&files);
    let wrong: Vec<String> =
        forbidden(&arrows, &rules).iter().map(|arrow| format!("{} {}", arrow.file, arrow.name)).collect();
    assert_eq!(wrong, ["wire/packet.rs view::View", "io/udp/mod.rs api::Engine"]);
}

/// A citation, put together so that this file has none that do not exist.
fn cite(rest: &str) -> String {
    ["// Like Serf (PROTO", "COL", rest].concat()
}

#[test]
fn a_cited_section_that_does_not_exist_is_found() {
    let page = "# The protocol\n## 4 Streams\ntext\n### 4.2 Frames\n## Examples\n#### 4.2.1 More\n";
    let known = sections(page);
    assert_eq!(known.iter().copied().collect::<Vec<_>>(), ["4", "4.2", "4.2.1"]);
    let cases: [(&str, &[&str]); 9] = [
        (" 4.2)", &["4.2"]),
        (" section 4)", &["4"]),
        (" sections 4 and 4.2): 12 times", &["4", "4.2"]),
        (" 4.2, 9.9). 7", &["4.2", "9.9"]),
        (" 4 to 4.2.1; Serf: 3 s)", &["4", "4.2.1"]),
        ("\n    /// 4.20). It", &["4.20"]),
        ("S: RangeInclusive = 2..=5", &[]),
        ("_MIN 5", &[]),
        (": (u8, u8) = (5, 2)", &[]),
    ];
    for (rest, expected) in cases {
        let text = cite(rest);
        assert_eq!(citations(&text), expected, "{text}");
    }
    let text = cite(" 4.2, 9.9)");
    let missing: Vec<&str> = citations(&text).into_iter().filter(|cited| !known.contains(cited)).collect();
    assert_eq!(missing, ["9.9"]);
}
