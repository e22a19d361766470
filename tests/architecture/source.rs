//! Reads Rust as far as the rules of `architecture.rs` need: words, paths, functions, comments, test code.

use std::collections::BTreeSet;

/// A broken rule: where, and what.
pub(super) struct Offence {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) why: String,
}

/// A word or sign of the code.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) line: usize,
    /// A word, one character of punctuation, or `"` for a literal.
    pub(super) text: String,
}

/// One file.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) lines: Vec<String>,
    /// Without comments, literals and test code.
    pub(super) tokens: Vec<Token>,
    test_lines: BTreeSet<usize>,
    /// Line and text of each comment line.
    comments: Vec<(usize, String)>,
}

impl Source {
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        let mut this = Self {
            path: path.to_owned(),
            lines,
            tokens: Vec::new(),
            test_lines: BTreeSet::new(),
            comments: Vec::new(),
        };
        if this.is_rust() {
            let mut lexer =
                Lexer { text: text.chars().collect(), at: 0, line: 1, tokens: Vec::new(), comments: Vec::new() };
            lexer.run();
            this.comments = lexer.comments;
            (this.tokens, this.test_lines) = without_tests(lexer.tokens);
        }
        this
    }

    pub(super) fn offence(&self, line: usize, why: String) -> Offence {
        Offence { path: self.path.clone(), line, why }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn production_lines(&self) -> usize {
        self.lines.len() - self.test_lines.len()
    }

    /// The file's place among the crate's modules; none for the roots and for other crates.
    pub(super) fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        (inner != "lib" && inner != "main").then(|| inner.strip_suffix("/mod").unwrap_or(inner))
    }

    pub(super) fn module_path(&self) -> Vec<String> {
        self.module().into_iter().flat_map(|module| module.split('/')).map(str::to_owned).collect()
    }

    /// `path` from the crate's root; none when it leads out of the crate or nowhere.
    pub(super) fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "super" | "self" => self.module_path(),
            _ => return None,
        };
        let ups = path.iter().take_while(|word| *word == "super").count();
        base.truncate(base.len().saturating_sub(ups));
        base.extend(path.iter().skip(ups.max(1)).cloned());
        Some(base)
    }

    /// Every path of two words or more, with the groups of `use` spelled out.
    pub(super) fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let starts = is_name(&self.tokens[at]) && self.text(at + 1) == ":" && self.text(at + 2) == ":";
            at = if starts { self.path_tree(at, &[], &mut found) } else { at + 1 };
        }
        found
    }

    /// Reads one path, or one branch of a `use` group, from token `at`; returns the token after it.
    fn path_tree(&self, mut at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
        let mut path = prefix.to_vec();
        loop {
            let line = self.tokens.get(at).map_or(0, |token| token.line);
            path.push(self.text(at).to_owned());
            at += 1;
            if self.text(at) != ":" || self.text(at + 1) != ":" {
                found.push((line, path));
                return at;
            }
            at += 2;
            match self.text(at) {
                "{" => break,
                // A turbofish: the words in it are paths of their own.
                "<" => {
                    found.push((line, path));
                    return at;
                }
                _ => {}
            }
        }
        at += 1;
        while at < self.tokens.len() && self.text(at) != "}" {
            // What is no branch is a comma or an `as` with its name.
            let branch = self.text(at - 1) == "{" || self.text(at - 1) == ",";
            at = if branch { self.path_tree(at, &path, found) } else { at + 1 };
        }
        at + 1
    }

    /// Name, first line and last line of each function with a body.
    pub(super) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            if pair[0].text == "fn" && is_name(&pair[1]) {
                let end = item_end(&self.tokens, at);
                if self.text(end) == "}" {
                    found.push((pair[1].text.clone(), pair[0].line, self.tokens[end].line));
                }
            }
        }
        found
    }

    /// Line and name of each public field of struct `name`.
    pub(super) fn fields(&self, name: &str) -> Vec<(usize, String)> {
        let Some(at) = self.tokens.windows(2).position(|pair| pair[0].text == "struct" && pair[1].text == name) else {
            return Vec::new();
        };
        let body = &self.tokens[at..=item_end(&self.tokens, at).min(self.tokens.len() - 1)];
        let field = |three: &&[Token]| three[0].text == "pub" && three[2].text == ":";
        body.windows(3).filter(field).map(|three| (three[1].line, three[1].text.clone())).collect()
    }

    /// A SAFETY comment within three lines before `line`, or in the block of comments and attributes just above.
    pub(super) fn is_argued(&self, line: usize) -> bool {
        let says = |line: usize| self.comment(line).contains("safety:");
        let above = |line: &usize| {
            let text = self.lines[line - 1].trim_start();
            text.starts_with("//") || text.starts_with("#[")
        };
        (line.saturating_sub(3)..=line).any(says) || (1..line).rev().take_while(above).any(says)
    }

    /// The comment on a line, in lower case.
    pub(super) fn comment(&self, line: usize) -> String {
        let on_line = self.comments.iter().filter(|(at, _)| *at == line);
        on_line.map(|(_, text)| text.to_lowercase()).collect()
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_name(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The index of the token that ends the item at `at`: its `;` or its closing brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 0 => return index,
            "}" if depth == 1 => return index,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return index,
            _ => {}
        }
    }
    tokens.len()
}

/// Leaves out the items under `#[cfg(test)]`, and tells their lines.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, BTreeSet<usize>) {
    let (mut kept, mut test_lines) = (Vec::new(), BTreeSet::new());
    let mut at = 0;
    while at < tokens.len() {
        let texts: Vec<&str> = tokens[at..].iter().take(12).map(|token| token.text.as_str()).collect();
        let attribute = texts.iter().position(|text| *text == "]").map_or(&texts[..], |end| &texts[..end]);
        let test = attribute.starts_with(&["#", "[", "cfg", "("])
            && attribute.contains(&"test")
            && !attribute.contains(&"not");
        if test {
            // The attribute's own brackets end before the item begins.
            let end = item_end(&tokens, at + attribute.len() + 1).min(tokens.len() - 1);
            test_lines.extend(tokens[at].line..=tokens[end].line);
            at = end + 1;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, test_lines)
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<(usize, String)>,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('\'', _) => self.quote(),
                _ if is_word(c) => self.word(),
                _ => {
                    if !c.is_whitespace() {
                        self.push(c.to_string());
                    }
                    self.step();
                }
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn push(&mut self, text: String) {
        self.tokens.push(Token { line: self.line, text });
    }

    fn line_comment(&mut self) {
        let text = self.text[self.at..].iter().take_while(|c| **c != '\n').collect::<String>();
        self.at += text.chars().count();
        self.comments.push((self.line, text));
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.step();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.push("\"".to_owned());
        self.step();
        while let Some(c) = self.step() {
            match c {
                '\\' => drop(self.step()),
                '"' => return,
                _ => {}
            }
        }
    }

    /// A character, or the start of a lifetime or label.
    fn quote(&mut self) {
        let character = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.step();
        if !character {
            return;
        }
        self.push("\"".to_owned());
        if self.step() == Some('\\') {
            self.step();
        }
        while self.step().is_some_and(|c| c != '\'') {}
    }

    fn word(&mut self) {
        let text: String = self.text[self.at..].iter().take_while(|c| is_word(**c)).collect();
        let hashes = self.text[self.at + text.chars().count()..].iter().take_while(|c| **c == '#').count();
        self.at += text.chars().count();
        if ["r", "br", "cr"].contains(&text.as_str()) && self.peek(hashes) == Some('"') {
            return self.raw_string(hashes);
        }
        self.push(text);
    }

    fn raw_string(&mut self, hashes: usize) {
        self.push("\"".to_owned());
        self.at += hashes + 1;
        while let Some(c) = self.step() {
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                return;
            }
        }
    }
}

#[test]
fn the_reader_sees_code_and_nothing_else() {
    let words = |text: &str| {
        let source = Source::parse("src/x.rs", text);
        source
            .tokens
            .iter()
            .filter(|token| is_name(token))
            .map(|token| token.text.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (text, expected) in [
        ("a // b\nc", "a c"),
        ("a /* b /* c */ d */ e", "a e"),
        ("a(\"b \\\" c\", d)", "a d"),
        ("r\"a\\\" b r#\"c\" d\"# e br##\"f\"# g\"## h", "b e h"),
        ("'a: loop {} '\\'' b '\"' c b'd' e", "a loop b c b e"),
        ("&'static str", "static str"),
        ("r#type a", "r type a"),
        ("a #[cfg(test)] mod b { c } d", "a d"),
        ("a #[cfg(test)] mod tests; b", "a b"),
        ("a #[cfg(all(test, unix))] fn c(x: [u8; 2]) -> u8 { { 1 } } b", "a b"),
        ("a #[cfg(not(test))] fn c() {}", "a cfg not test fn c"),
        ("a #[cfg(test)] #[derive(X)] struct B { c: u8 } d", "a d"),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}
