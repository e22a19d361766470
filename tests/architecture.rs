//! Holds the architecture (docs/architecture.md) by reading the sources: order of modules, sizes, places of `unsafe`.
//!
//! In: `src/`, `arena/src/` and docs/operations.md. Out: one failed test per broken rule, with every offender as
//! `path:line`. Holds: each rule first finds an offender planted for it, because a rule that cannot fail holds nothing.
//! Code under `#[cfg(test)]`, files named `tests.rs` and folders named `tests` are left alone.

#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{Offence, Source, is_word};

/// A module uses only what stands before it. `journal` is the format, `journal::file` the file.
/// `report` stands before `engine`, which fills it in.
const ORDER: [&str; 23] = [
    "units",
    "limits",
    "error",
    "secret",
    "audit",
    "uri",
    "manifest",
    "verify",
    "unpack",
    "formats",
    "journal",
    "plan",
    "schedule",
    "wire",
    "disk",
    "journal::file",
    "origin",
    "resolve",
    "report",
    "engine",
    "cache",
    "bench",
    "cli",
];

/// All that the simulator may drive; nothing may use the simulator.
const SIMULATED: [&str; 8] = ["units", "limits", "error", "manifest", "verify", "journal", "plan", "schedule"];

/// Uses against the order: who, what, why. One that is no longer needed is an offender too.
const ORDER_EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// No clock, socket, file, thread, process or environment: `now` and seeds come as arguments.
const PURE: [&str; 10] =
    ["units", "limits", "uri", "manifest", "verify", "unpack", "formats", "journal", "plan", "schedule"];
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio_uring",
    "rustix",
    "reqwest",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
];
/// Plain values that live beside sockets.
const PURE_ALL_THE_SAME: [&str; 3] = ["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr"];

const FILE_LINES_MAX: usize = 600;
const FN_LINES_MAX: usize = 70;
/// A module with modules in it (`x/mod.rs`, or `x.rs` beside `x/`): a head, the main type, what it shows of the rest.
const MOD_LINES_MAX: usize = 150;

/// Longer modules with modules in them: path, why.
const MOD_EXCEPTIONS: [(&str, &str); 2] = [
    (
        "arena/src/http.rs",
        "the fault origin's whole port and its accept loop: its folder holds only framing and replies",
    ),
    ("arena/src/s3.rs", "the S3 endpoint's whole port: its folder holds only the backend and its listing"),
];

/// The word in a comment on the line, or the line above, of an `unwrap` or `expect` that says why it cannot fail.
const PROOF: &str = "proof:";

// ── Rules ──

#[test]
fn a_module_uses_only_what_stands_before_it() {
    let rule = order;
    catches(rule, "src/units.rs", "//! x\nuse crate::engine::pull;", &[2]);
    catches(rule, "src/plan/mod.rs", "//! x\nuse crate::{\n    units,\n    wire::{self, Access},\n};", &[4]);
    catches(rule, "src/wire/mod.rs", "//! x\nfn f(s: &crate::disk::Slab) {}", &[2]);
    catches(rule, "src/schedule/pieces.rs", "//! x\nuse super::super::disk::Slab;", &[2]);
    catches(rule, "src/uri/mod.rs", "//! x\nuse super::wire::Access;", &[2]);
    catches(rule, "src/disk/part.rs", "//! x\nuse crate::journal::{file::Journal, record};", &[2]);
    catches(rule, "src/sim/world.rs", "//! x\nuse crate::secret::Secret;", &[2]);
    catches(rule, "src/cli/mod.rs", "//! x\nuse crate::sim::World;", &[2]);
    catches(rule, "src/elsewhere.rs", "//! x", &[1]);
    catches(rule, "src/cli/mod.rs", "//! x\nuse crate::elsewhere::Thing;", &[2]);
    spares(rule, "src/journal/file.rs", "//! x\nuse super::record;\nuse crate::disk::Dest; // crate::engine");
    spares(rule, "src/disk/part.rs", "//! x\n#[cfg(test)]\nmod tests { use crate::engine::pull; }");
    spares(rule, "src/engine/lane.rs", "//! x\nuse crate::report::Report; const S: &str = \"crate::cli::main\";");
    holds(rule, "move the shared part to the left, or pass it in as an argument");
    let used = uses(&tree());
    let stale = |(from, to, _): &&(&str, &str, &str)| !used.iter().any(|(_, a, b)| a == from && b == to);
    assert_eq!(ORDER_EXCEPTIONS.iter().find(stale), None, "an exception that nothing needs");
}

fn order(files: &[Source]) -> Vec<Offence> {
    let rank = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.module().is_some()) {
        let own = module_name(&file.module_path());
        if own != "sim" && rank(&own).is_none() {
            found.push(file.offence(1, format!("`{own}` has no place in ORDER")));
        }
    }
    for ((path, line), from, to) in uses(files) {
        let excepted = ORDER_EXCEPTIONS.iter().any(|(a, b, _)| *a == from && *b == to);
        let allowed = match (rank(&from), rank(&to)) {
            (_, None) => false,
            (None, Some(_)) => from != "sim" || SIMULATED.contains(&to.as_str()),
            (Some(from), Some(to)) => to < from,
        };
        if !allowed && !excepted {
            found.push(Offence { path, line, why: format!("`{from}` uses `{to}`") });
        }
    }
    found
}

/// Every use of one module of `src/` by another: where, who, what.
fn uses(files: &[Source]) -> BTreeSet<((String, usize), String, String)> {
    let mut found = BTreeSet::new();
    for file in files.iter().filter(|file| file.module().is_some()) {
        let own = module_name(&file.module_path());
        for (line, path) in file.paths() {
            let Some(target) = file.resolve(&path).filter(|target| !target.is_empty()) else { continue };
            let target = module_name(&target);
            if target != own {
                found.insert(((file.path.clone(), line), own.clone(), target));
            }
        }
    }
    found
}

#[test]
fn the_pure_half_takes_time_and_chance_as_arguments() {
    let rule = pure;
    catches(rule, "src/plan/mod.rs", "//! x\nuse tokio::time::sleep;", &[2]);
    catches(rule, "src/schedule/retry.rs", "//! x\nuse std::time::{Duration, Instant};", &[2]);
    catches(rule, "src/schedule/retry.rs", "//! x\nuse std::time;\nfn f() { time::SystemTime::now(); }", &[3]);
    catches(rule, "src/verify/tree.rs", "//! x\nfn f() { std::fs::read(\"x\"); }", &[2]);
    catches(rule, "src/journal/record.rs", "//! x\nuse std::{\n    fmt,\n    fs::File,\n    thread,\n};", &[4, 5]);
    catches(rule, "src/uri/mod.rs", "//! x\nuse std::net::{IpAddr, TcpStream};", &[2]);
    spares(rule, "src/journal/file.rs", "//! x\nuse std::fs::File;");
    spares(rule, "src/uri/mod.rs", "//! x\nfn f(t: &str) { t.parse::<std::net::Ipv4Addr>(); } // std::fs");
    spares(
        rule,
        "src/units.rs",
        "//! x\nuse std::time::Duration;\n#[cfg(test)]\nmod tests { use std::time::Instant; }",
    );
    holds(rule, "pass `now`, a seed or the bytes in; effects belong to engine, wire, disk and origin");
}

fn pure(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    let is = |path: &str, prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
    for file in files.iter().filter(|file| PURE.contains(&module_name(&file.module_path()).as_str())) {
        for (line, path) in file.paths() {
            let clock = path.iter().any(|word| word == "Instant" || word == "SystemTime");
            let path = path.join("::");
            let impure = IMPURE.iter().any(|prefix| is(&path, prefix));
            if (clock || impure) && !PURE_ALL_THE_SAME.iter().any(|value| is(&path, value)) {
                found.push(file.offence(line, format!("`{path}` in the pure half")));
            }
        }
    }
    found
}

#[test]
fn files_and_functions_stay_short() {
    let long_file = format!("//! x\n{}", "const A: u8 = 0;\n".repeat(600));
    let tested = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}", "const A: u8 = 0;\n".repeat(900));
    let function = |lines: usize| format!("//! x\nstruct S;\npub(super) async fn f() {{\n{}}}", "g();\n".repeat(lines));
    let rule = lengths;
    catches(rule, "src/units.rs", &long_file, &[1]);
    catches(rule, "arena/src/fault.rs", &long_file, &[1]);
    for parent in ["src/wire/mod.rs", "src/wire.rs"] {
        let long = format!("//! x\n{}", "const A: u8 = 0;\n".repeat(150));
        let files = [Source::parse(parent, &long), Source::parse("src/wire/url.rs", &long)];
        let found: Vec<String> = rule(&files).into_iter().map(|offence| offence.path).collect();
        assert_eq!(found, [parent], "the rule is blind");
    }
    catches(rule, "src/units.rs", &function(69), &[3]);
    catches(rule, "src/units.rs", &function(69).replace("g();", "g(\"}\", '}'); // }"), &[3]);
    spares(rule, "src/units.rs", &function(68));
    spares(rule, "src/units.rs", &tested);
    spares(rule, "src/units.rs", "//! x\ntype F = fn(u8);\ntrait T { fn f(&self, a: [u8; 4]); }");
    holds(rule, "split where a part has a name of its own");
}

fn lengths(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.production_lines();
        if FILE_LINES_MAX < lines {
            found.push(file.offence(1, format!("{lines} lines, over {FILE_LINES_MAX}")));
        }
        let folder = file.path.strip_suffix("mod.rs").map_or_else(|| file.path.replace(".rs", "/"), str::to_owned);
        let parent = files.iter().any(|other| other.path != file.path && other.path.starts_with(&folder));
        let excepted = MOD_EXCEPTIONS.iter().any(|(path, _)| *path == file.path);
        if parent && MOD_LINES_MAX < lines && !excepted {
            found.push(file.offence(1, format!("{lines} lines, over {MOD_LINES_MAX} for a module with modules in it")));
        }
        for (name, first, last) in file.functions() {
            let lines = last - first + 1;
            if FN_LINES_MAX < lines {
                found.push(file.offence(first, format!("fn {name} has {lines} lines, over {FN_LINES_MAX}")));
            }
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    catches(heads, "src/units.rs", "use std::fmt;\n//! Late.", &[1]);
    catches(heads, "arena/src/lib.rs", "// Not a doc comment.", &[1]);
    catches(heads, "src/units.rs", "//!\n", &[1]);
    spares(heads, "src/units.rs", "\n//! Sizes.");
    holds(heads, "begin with `//!`: purpose, in, out, what it holds");
}

fn heads(files: &[Source]) -> Vec<Offence> {
    let headless = |file: &&Source| {
        let first = file.lines.iter().find(|line| !line.trim().is_empty());
        file.is_rust() && first.and_then(|line| line.strip_prefix("//!")).is_none_or(|head| head.trim().is_empty())
    };
    files.iter().filter(headless).map(|file| file.offence(1, "no `//!` head".to_owned())).collect()
}

#[test]
fn unsafe_stays_in_disk_and_is_argued() {
    let rule = unsafety;
    catches(rule, "src/wire/mod.rs", "//! x\n// SAFETY: no.\nunsafe { f() }", &[3]);
    catches(rule, "arena/src/pool.rs", "//! x\n// SAFETY: no.\nunsafe { f() }", &[3]);
    catches(rule, "src/disk/slab.rs", "//! x\nunsafe { f() }\n// SAFETY: late.", &[2]);
    catches(rule, "src/disk/slab.rs", "//! x\n// SAFETY: for f.\nunsafe { f() }\ng();\ng();\nunsafe { h() }", &[6]);
    spares(rule, "src/disk/slab.rs", "//! x\n// SAFETY: one.\n// two\n// three\n// four\n#[inline]\nunsafe fn f() {}");
    spares(rule, "src/wire/mod.rs", "//! No unsafe here.\n#![deny(unsafe_code)]\nconst A: &str = \"unsafe\";");
    holds(rule, "move it beneath src/disk/, and say in a SAFETY comment above who keeps the promise");
}

fn unsafety(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files {
        for token in file.tokens.iter().filter(|token| token.text == "unsafe") {
            if !file.path.starts_with("src/disk/") {
                found.push(file.offence(token.line, "`unsafe` outside src/disk/".to_owned()));
            } else if !file.is_argued(token.line) {
                found.push(file.offence(token.line, "`unsafe` without a SAFETY comment".to_owned()));
            }
        }
    }
    found
}

#[test]
fn each_foreign_interface_has_one_home() {
    let rule = homes;
    catches(rule, "src/disk/probe.rs", "//! x\ntokio_uring::start(f());", &[2]);
    catches(rule, "src/wire/mod.rs", "//! x\nuse aws_smithy_types::byte_stream::ByteStream;", &[2]);
    catches(rule, "src/resolve/mod.rs", "//! x\nfn f() -> aws_sdk_s3::Client {}", &[2]);
    catches(rule, "src/cli/mod.rs", "//! x\nuse aws_config::BehaviorVersion;", &[2]);
    catches(rule, "src/wire/mod.rs", "//! x\nuse google_cloud_auth::credentials::Credentials;", &[2]);
    catches(rule, "src/resolve/mod.rs", "//! x\nuse azure_identity::ClientSecretCredential;", &[2]);
    spares(rule, "src/disk/uring.rs", "//! x\nuse tokio_uring::buf::IoBuf;");
    spares(rule, "src/origin/s3.rs", "//! x\nuse aws_sdk_s3::Client;");
    spares(rule, "src/wire/mod.rs", "//! x\n/// Unlike aws_sdk_s3, tokio_uring.\nconst A: &str = \"aws_sdk_s3\";");
    holds(rule, "tokio_uring belongs to src/disk/uring.rs, the SDKs' crates to src/origin/");
}

fn homes(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        for token in &file.tokens {
            let text = token.text.as_str();
            let sdk = ["aws_sdk_", "aws_smithy_"].iter().any(|prefix| text.starts_with(prefix))
                || [
                    "aws_config",
                    "aws_credential_types",
                    "aws_sigv4",
                    "aws_types",
                    "google_cloud_auth",
                    "azure_core",
                    "azure_identity",
                ]
                .contains(&text);
            let stray = sdk && !file.path.starts_with("src/origin/");
            if stray || (text == "tokio_uring" && file.path != "src/disk/uring.rs") {
                found.push(file.offence(token.line, format!("`{text}` away from its home")));
            }
        }
    }
    found
}

#[test]
fn nothing_half_done_and_nothing_printed_outside_cli() {
    let rule = strays;
    catches(rule, "src/plan/mod.rs", "//! x\nfn f() { todo!() }\nfn g() { unimplemented!(\"x\") }", &[2, 3]);
    catches(rule, "src/cli/mod.rs", "//! x\ndbg!(x);", &[2]);
    catches(rule, "src/engine/mod.rs", "//! x\nprintln!(\"x\");\neprint!(\"x\");", &[2, 3]);
    catches(rule, "arena/src/serve.rs", "//! x\neprintln!(\"x\");", &[2]);
    spares(rule, "src/sim/trace.rs", "//! x\neprintln!(\"{action}\");");
    spares(rule, "src/cli/progress.rs", "//! x\neprintln!(\"todo!()\"); // dbg!(x)");
    spares(rule, "src/units.rs", "//! x\nfn todo() {}\n#[cfg(test)]\nmod tests { fn f() { println!(\"x\"); } }");
    holds(rule, "finish it; speak through tracing, the report or src/cli/");
}

fn strays(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files {
        for pair in file.tokens.windows(2).filter(|pair| pair[1].text == "!") {
            let name = pair[0].text.as_str();
            let printed = ["println", "eprintln", "print", "eprint"].contains(&name);
            let half_done = ["dbg", "todo", "unimplemented"].contains(&name);
            // The simulator replays a seed aloud for whoever runs its tests.
            let may_print = file.path.starts_with("src/cli/") || file.path.starts_with("src/sim/");
            if half_done || (printed && !may_print) {
                found.push(file.offence(pair[0].line, format!("`{name}!`")));
            }
        }
    }
    found
}

#[test]
fn an_unwrap_outside_tests_carries_its_proof() {
    let rule = unwraps;
    catches(rule, "src/plan/mod.rs", "//! x\nfn f() { g().unwrap(); }", &[2]);
    catches(rule, "arena/src/pool.rs", "//! x\nfn f() {\n    g()\n        .expect(\"x\");\n}", &[4]);
    catches(rule, "src/plan/mod.rs", "//! x\n// proof: too far.\n\nfn f() { g().unwrap_err(); }", &[4]);
    catches(rule, "src/plan/mod.rs", "//! x\nfn f() { g(\"proof: a string\").unwrap(); }", &[2]);
    spares(
        rule,
        "src/plan/mod.rs",
        "//! x\n// Proof: 4 is even.\nlet a = half(4).unwrap();\nhalf(6).unwrap(); // proof: as 4",
    );
    spares(
        rule,
        "src/plan/mod.rs",
        "//! x\n#[expect(dead_code, reason = \"x\")]\nfn f() { g().unwrap_or(0) } // .unwrap()",
    );
    spares(rule, "src/plan/mod.rs", "//! x\n#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}");
    holds(rule, "return the error, or say why it cannot happen in a `// proof: …` comment on the line or just above");
}

fn unwraps(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files {
        for three in file.tokens.windows(3).filter(|three| three[0].text == "." && three[2].text == "(") {
            let (name, line) = (three[1].text.as_str(), three[1].line);
            let proven = file.comment(line).contains(PROOF) || file.comment(line - 1).contains(PROOF);
            if ["unwrap", "expect", "unwrap_err", "expect_err"].contains(&name) && !proven {
                found.push(file.offence(line, format!("`.{name}(` without a proof")));
            }
        }
    }
    found
}

#[test]
fn names_say_what_a_thing_is() {
    let rule = names;
    catches(rule, "src/wire/mod.rs", "//! x\npub struct PoolManager;\ntrait RetryHandler {}", &[2, 3]);
    catches(rule, "src/wire/utils.rs", "//! x", &[1]);
    spares(rule, "src/wire/mod.rs", "//! x\nfn f(manager: Manager) {}\nstruct Managers;");
    holds(rule, "name it after what it holds or decides, in the words of docs/architecture.md");
}

fn names(files: &[Source]) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let stem = file.path.rsplit(['/', '.']).nth(1).unwrap_or_default();
        if ["util", "utils", "helper", "helpers", "common", "misc"].contains(&stem) {
            found.push(file.offence(1, format!("a file named `{stem}`")));
        }
        for pair in file.tokens.windows(2) {
            let (kind, name) = (pair[0].text.as_str(), pair[1].text.as_str());
            let empty = ["Manager", "Handler", "Helper", "Util", "Utils"].iter().any(|end| name.ends_with(end));
            if ["struct", "enum", "trait"].contains(&kind) && empty {
                found.push(file.offence(pair[1].line, format!("a {kind} named `{name}`")));
            }
        }
    }
    found
}

const OPERATIONS: &str = "docs/operations.md";

#[test]
fn every_limit_is_documented_for_operators() {
    let limits = "//! x\npub struct Limits {\n    /// Bound.\n    pub memory_max: u64,\n    pub span: (u64, u64),\n}";
    let planted = |docs: &str| {
        let files = [Source::parse("src/limits.rs", limits), Source::parse(OPERATIONS, docs)];
        undocumented(&files).iter().map(|offence| offence.line).collect::<Vec<_>>()
    };
    assert_eq!(planted("`memory_max_bytes`, lifespan"), [4, 5]);
    assert_eq!(planted("don't: `memory_max`"), [5]);
    assert_eq!(planted("`memory_max` and `span`."), []);
    catches(undocumented, "src/limits.rs", limits, &[4, 5]);
    catches(undocumented, "src/limits.rs", "//! x\npub struct Bounds { pub a: u64 }", &[1]);
    holds(undocumented, "name the field in docs/operations.md with its flag, default and reason");
}

fn undocumented(files: &[Source]) -> Vec<Offence> {
    let docs = files.iter().filter(|file| file.path == OPERATIONS).flat_map(|file| &file.lines);
    let words: BTreeSet<&str> = docs.flat_map(|line| line.split(|c| !is_word(c))).collect();
    let Some(limits) = files.iter().find(|file| file.path == "src/limits.rs") else { return Vec::new() };
    let fields = limits.fields("Limits");
    if fields.is_empty() {
        return vec![limits.offence(1, "no fields of `struct Limits` found".to_owned())];
    }
    let missing = fields.into_iter().filter(|(_, name)| !words.contains(name.as_str()));
    missing.map(|(line, name)| limits.offence(line, format!("`{name}` is not in {OPERATIONS}"))).collect()
}

// ── Checking ──

/// The name in [`ORDER`] of a path from the crate's root.
fn module_name(path: &[String]) -> String {
    match path {
        [first, second, ..] if first == "journal" && second == "file" => "journal::file".to_owned(),
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

type Rule = fn(&[Source]) -> Vec<Offence>;

/// The rule finds exactly these lines of a planted file.
fn catches(rule: Rule, path: &str, text: &str, lines: &[usize]) {
    let found: Vec<usize> = rule(&[Source::parse(path, text)]).iter().map(|offence| offence.line).collect();
    assert_eq!(found, lines, "the rule is blind: lines found in a planted {path}:\n{text}");
}

/// The rule has nothing against a planted file.
fn spares(rule: Rule, path: &str, text: &str) {
    catches(rule, path, text, &[]);
}

/// The rule has nothing against the tree.
fn holds(rule: Rule, advice: &str) {
    let found = rule(&tree());
    let list: Vec<String> = found.iter().map(|it| format!("  {}:{}: {}", it.path, it.line, it.why)).collect();
    assert!(found.is_empty(), "{} offenders:\n{}\n{advice}", found.len(), list.join("\n"));
}

/// Every source file of the workspace and the page for operators.
fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "arena/src"] {
        walk(root, folder, &mut paths);
    }
    assert!(20 < paths.len(), "the sources are not where this test looks: {paths:?}");
    let read = |path: &String| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut files: Vec<Source> = paths.iter().map(|path| Source::parse(path, &read(path))).collect();
    files.extend(fs::read_to_string(root.join(OPERATIONS)).ok().map(|text| Source::parse(OPERATIONS, &text)));
    files
}

fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) {
    let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if name == "tests" {
            continue;
        }
        if root.join(&path).is_dir() {
            walk(root, &path, paths);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            paths.push(path);
        }
    }
}
