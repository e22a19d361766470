//! Words and tables in HTML.
//!
//! In: text from anywhere. Out: HTML. Holds: text is escaped here and nowhere else, and everything that is not a
//! literal of this module's callers goes through [`text`].

use std::fmt::Write as _;

/// Characters of one text that are shown.
const TEXT_CHARS_MAX: usize = 400;

/// Characters of one cell of a table that is there to be copied from.
const CELL_CHARS_MAX: usize = 4000;

/// `raw` as text that no browser takes for anything else: escaped, cut, without control and direction characters.
pub(super) fn text(raw: &str) -> String {
    cut(raw, TEXT_CHARS_MAX)
}

fn cut(raw: &str, most: usize) -> String {
    let mut shown = String::with_capacity(raw.len().min(most));
    for (place, letter) in raw.chars().enumerate() {
        if place == most {
            shown.push('…');
            break;
        }
        match letter {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            letter => shown.push(plain(letter)),
        }
    }
    shown
}

/// `raw` in at most `most` characters, for a plot, which escapes by itself.
pub(super) fn label(raw: &str, most: usize) -> String {
    let mut letters = raw.chars().map(plain);
    let mut shown: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn plain(letter: char) -> char {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || turns { '\u{fffd}' } else { letter }
}

/// A table. Cells are escaped; `numbers` says from which column on they are figures, set to the right.
pub(super) fn table(caption: &str, heads: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    cells(caption, heads, numbers, rows, TEXT_CHARS_MAX)
}

/// A [`table`] whose cells are seldom cut: commands are there to be copied.
pub(super) fn long_table(caption: &str, heads: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    cells(caption, heads, numbers, rows, CELL_CHARS_MAX)
}

fn cells(caption: &str, heads: &[&str], numbers: usize, rows: &[Vec<String>], most: usize) -> String {
    let mut html = format!("<div class=\"scroll\"><table><caption>{}</caption><thead><tr>", text(caption));
    let class = |column: usize| if numbers <= column { " class=\"n\"" } else { "" };
    for (column, head) in heads.iter().enumerate() {
        push(&mut html, format_args!("<th scope=\"col\"{}>{}</th>", class(column), text(head)));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let (tag, scope) = if column == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            push(&mut html, format_args!("<{tag}{scope}{}>{}</{tag}>", class(column), cut(cell, most)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Pairs of a name and a value; those without a value are left out.
pub(super) fn facts(pairs: &[(&str, String)]) -> String {
    let mut html = "<dl>".to_owned();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        push(&mut html, format_args!("<div><dt>{}</dt><dd>{}</dd></div>", text(name), text(value)));
    }
    html.push_str("</dl>\n");
    html
}

/// Sentences, each a paragraph of its own.
pub(super) fn sentences(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |html, line| html + "<p>" + &text(line) + "</p>\n")
}

/// Adds to a string, which cannot fail.
pub(super) fn push(html: &mut String, words: std::fmt::Arguments<'_>) {
    html.write_fmt(words).unwrap_or_default();
}

/// A figure with about three digits that say something.
pub(super) fn figure(value: f64) -> String {
    let value = super::series::tame(value);
    let places = match value {
        value if 100.0 <= value || value == 0.0 => 0,
        value if 10.0 <= value => 1,
        value if 0.1 <= value => 2,
        value if 0.01 <= value => 3,
        _ => 4,
    };
    format!("{value:.places$}")
}

/// A time for people: `12 ms`, `0.42 s`, `4 m 07 s`.
pub(super) fn time(seconds: f64) -> String {
    let seconds = super::series::tame(seconds);
    if seconds < 0.0995 {
        format!("{} ms", figure(seconds * 1e3))
    } else {
        crate::units::show_duration(std::time::Duration::from_secs_f64(seconds))
    }
}

/// A share for people: `12 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", super::series::tame(share) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_no_markup_left() {
        for (raw, expected) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onload='x", "&quot; onload=&#39;x"),
            ("a&b", "a&amp;b"),
            ("line\nbreak\u{202e}", "line\u{fffd}break\u{fffd}"),
        ] {
            assert_eq!(text(raw), expected);
        }
        assert_eq!(text(&"x".repeat(5000)).chars().count(), TEXT_CHARS_MAX + 1);
        let rows = [vec!["x".repeat(3000), "y".repeat(5000)]];
        let (short, long) = (table("", &["", ""], 2, &rows), long_table("", &["", ""], 2, &rows));
        let count = |html: &str, letter: char| html.chars().filter(|found| *found == letter).count();
        assert_eq!((count(&short, 'x'), count(&long, 'x'), count(&long, 'y')), (400, 3000, 4002));
    }

    #[test]
    fn figures_keep_three_digits() {
        for (value, expected) in
            [(0.0, "0"), (1234.5, "1234"), (12.34, "12.3"), (0.5, "0.50"), (0.0123, "0.012"), (f64::NAN, "0")]
        {
            assert_eq!(figure(value), expected);
        }
        for (seconds, expected) in [(0.0421, "42.1 ms"), (0.5, "0.50 s"), (75.0, "1 m 15 s")] {
            assert_eq!(time(seconds), expected);
        }
    }
}
