//! Plots: what is drawn by `plotters`, and how its colours follow the reader's.
//!
//! In: tame figures. Out: SVG without a size of its own. Holds: every plot is drawn twice, for a wide and a narrow
//! screen, so that its words stay readable; colours are from Okabe and Ito's palette, and where one is too dark for a
//! dark page the style sheet takes another for it, by its value.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::bench::page::html::{self, push, text};
use crate::bench::page::series::{Bar, real_len};
use crate::error::Error;

pub(super) const FORE: RGBColor = RGBColor(0x1B, 0x1B, 0x1F);
const GRID: RGBColor = RGBColor(0xD9, 0xD9, 0xDE);
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const RED: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
pub(super) const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
pub(super) const ORANGE: RGBColor = RGBColor(0xE6, 0x9F, 0x00);
const PINK: RGBColor = RGBColor(0xCC, 0x79, 0xA7);
const YELLOW: RGBColor = RGBColor(0xF0, 0xE4, 0x42);
const GREY: RGBColor = RGBColor(0x99, 0x99, 0x9E);

/// What stands for a colour on a dark page.
const DARK: [(RGBColor, RGBColor); 4] = [
    (FORE, RGBColor(0xE8, 0xE8, 0xEC)),
    (GRID, RGBColor(0x3A, 0x3A, 0x42)),
    (BLUE, RGBColor(0x6C, 0xB8, 0xEE)),
    (RED, RGBColor(0xFF, 0x8A, 0x3D)),
];

/// Brakes and their colours, in the order of a report's shares.
pub(super) const BRAKES: [(&str, RGBColor); 6] =
    [("network", SKY), ("origin", ORANGE), ("throttle", RED), ("disk", PINK), ("cpu", GREEN), ("memory", YELLOW)];

/// The colour of a brake; grey for a word that is none.
pub(super) fn brake_colour(word: &str) -> RGBColor {
    BRAKES.iter().find(|(brake, _)| *brake == word).map_or(GREY, |(_, colour)| *colour)
}

/// For which screen a plot is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Screen {
    Wide,
    Narrow,
}

impl Screen {
    /// Points of a line that can be told apart.
    pub(super) fn points(self) -> usize {
        match self {
            Self::Wide => 160,
            Self::Narrow => 70,
        }
    }

    fn size(self, height: u32) -> (u32, u32) {
        match self {
            Self::Wide => (960, height),
            Self::Narrow => (420, height),
        }
    }
}

/// Rules that take the dark colours for the light ones.
pub(super) fn dark_rules() -> String {
    let mut rules = String::new();
    for (light, dark) in DARK {
        let (light, dark) = (hex(light), hex(dark));
        push(
            &mut rules,
            format_args!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}\n"),
        );
    }
    rules
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// A plot with its title, what there is to know of it, and a key to its colours.
///
/// # Errors
/// Those of `draw`, which is called for each screen.
pub(super) fn figure(
    name: &str,
    title: &str,
    about: &str,
    key: &[(RGBColor, &str)],
    draw: impl Fn(Screen) -> Result<String, Error>,
) -> Result<String, Error> {
    let mut html =
        format!("<figure data-plot=\"{name}\"><figcaption><b>{}</b> {}</figcaption>", text(title), text(about));
    if !key.is_empty() {
        html.push_str("<p class=\"key\">");
        for (colour, word) in key {
            let colour = hex(*colour);
            let swatch = format!(
                "<svg viewBox=\"0 0 12 12\"><rect width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/></svg>"
            );
            push(&mut html, format_args!("<span>{swatch}{}</span> ", text(word)));
        }
        html.push_str("</p>");
    }
    for (class, screen) in [("wide", Screen::Wide), ("narrow", Screen::Narrow)] {
        push(&mut html, format_args!("\n<div class=\"plot {class}\" role=\"img\" aria-label=\"{}\">", text(title)));
        html.push_str(&draw(screen)?);
        html.push_str("</div>");
    }
    html.push_str("</figure>\n");
    Ok(html)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Named, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// An SVG of `size` by `paint`.
fn svg(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, Error> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let painted = paint(&area).and_then(|()| area.present());
    drop(area);
    painted.map_err(|error| Error::Internal(format!("a plot could not be drawn: {error}")))?;
    Ok(svg)
}

fn words(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&FORE)
}

/// What a plot over time needs beside its lines.
pub(super) struct Axes<'a> {
    pub(super) screen: Screen,
    /// Seconds of the whole.
    pub(super) seconds: f64,
    /// The most that is drawn.
    pub(super) most: f64,
    /// What is drawn upwards.
    pub(super) unit: &'a str,
}

/// A coloured stretch behind the lines: from, to, word.
pub(super) type Stretch = (f64, f64, String);

/// A line: its points, its colour.
pub(super) type Line = (Vec<(f64, f64)>, RGBColor);

/// Lines over time, before coloured stretches, with marks at the top.
pub(super) fn over_time(
    axes: &Axes<'_>,
    stretches: &[Stretch],
    lines: &[Line],
    marks: &[f64],
) -> Result<String, Error> {
    // A little room above, and a scale where there is nothing to see.
    let (end, top) = (axes.seconds.max(0.05), (axes.most * 1.12).max(1e-3));
    let labels = if axes.screen == Screen::Wide { 10 } else { 5 };
    svg(axes.screen.size(300), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(26)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(Named(0.0, end, times(end, labels)), 0.0..top)?;
        for (from, to, word) in stretches {
            let colour = brake_colour(word);
            chart.draw_series([Rectangle::new([(*from, 0.0), (*to, top)], colour.mix(0.3).filled())])?;
        }
        mesh(&mut chart, axes, end)?;
        for (from, to, word) in stretches {
            // A word needs about a tenth of a wide plot.
            let room = if axes.screen == Screen::Wide { 0.08 } else { 0.2 };
            if room * end < to - from {
                let style = words(13).pos(Pos::new(HPos::Center, VPos::Top));
                let shown = html::label(word, 12);
                chart.draw_series([Text::new(shown, (f64::midpoint(*from, *to), top * 0.99), style)])?;
            }
        }
        for (points, colour) in lines {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        }
        let marked = marks.iter().map(|at| TriangleMarker::new((*at, top * 0.88), 7, FORE.filled()));
        chart.draw_series(marked)?;
        Ok(())
    })
}

fn mesh(chart: &mut Chart<'_, '_>, axes: &Axes<'_>, end: f64) -> Drawn {
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(words(13))
        .axis_desc_style(words(13))
        .x_labels(12)
        .y_labels(5)
        .x_label_formatter(&|at| clock(*at, end))
        .y_label_formatter(&|value| trimmed(*value))
        .x_desc("time")
        .y_desc(axes.unit)
        .draw()
}

/// A time on an axis that ends at `end`.
fn clock(at: f64, end: f64) -> String {
    let whole = std::time::Duration::from_secs_f64(at.clamp(0.0, 1e12)).as_secs();
    match end {
        end if end <= 180.0 => format!("{} s", if at == 0.0 { "0".to_owned() } else { trimmed(at) }),
        end if end <= 7200.0 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{} h {:02}", whole / 3600, whole % 3600 / 60),
    }
}

fn trimmed(value: f64) -> String {
    let shown = format!("{value:.2}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An axis from one figure to another that names those of a list.
struct Named(f64, f64, Vec<f64>);

impl Ranged for Named {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.2.iter().copied().filter(|point| self.0 <= *point && *point <= self.1).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0..self.1
    }
}

/// Round powers of ten of a second: few enough to be told apart on a narrow screen.
fn powers(apart: f64) -> Vec<f64> {
    let steps: &[f64] = match apart {
        apart if apart < 2.0 => &[1.0, 2.0, 5.0],
        apart if apart < 3.5 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let decades = (-5..=13).map(f64::from);
    decades.flat_map(|decade| steps.iter().map(move |step| decade + step.log10())).collect()
}

/// Steps that a clock has names for, in seconds.
const STEPS: [f64; 22] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0,
    3600.0, 7200.0, 14400.0, 43200.0,
];

/// Round times up to `end`, at most `most` of them and the first.
fn times(end: f64, most: u32) -> Vec<f64> {
    let fits = |step: &&f64| end / **step <= f64::from(most);
    let step = STEPS.iter().find(fits).copied().unwrap_or(end / f64::from(most));
    (0..=most).map(|number| step * f64::from(number)).collect()
}

/// A round time on an axis.
fn short_time(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{} ms", trimmed(seconds * 1e3)) } else { format!("{} s", trimmed(seconds)) }
}

/// A histogram over powers of ten of a second, with the places of some percentiles.
pub(super) fn distribution(screen: Screen, bars: &[Bar], places: &[(&str, f64)]) -> Result<String, Error> {
    let most = bars.iter().map(|bar| super::series::real(bar.count)).fold(1.0, f64::max) * 1.35;
    let (from, to) = bars.first().zip(bars.last()).map_or((-1.0, 0.0), |(first, last)| (first.from, last.to));
    let to = to.max(from + 0.1);
    svg(screen.size(280), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(26)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(Named(from, to, powers(to - from)), 0.0..most)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(words(13))
            .axis_desc_style(words(13))
            .disable_x_mesh()
            .x_labels(12)
            .y_labels(5)
            .x_label_formatter(&|power| short_time(10f64.powf(*power)))
            .y_label_formatter(&|value| trimmed(*value))
            .x_desc("from order to end")
            .y_desc("requests")
            .draw()?;
        let filled = bars.iter().filter(|bar| 0 < bar.count);
        chart.draw_series(filled.map(|bar| {
            let gap = (bar.to - bar.from) * 0.06;
            Rectangle::new([(bar.from + gap, 0.0), (bar.to - gap, super::series::real(bar.count))], BLUE.filled())
        }))?;
        // The last line is the highest: its words, to its left, lie over the tops of the others.
        for (place, (word, seconds)) in (0u32..).zip(places.iter().rev()) {
            let at = seconds.max(1e-4).log10();
            let high = most * (0.99 - 0.08 * f64::from(place));
            chart.draw_series(LineSeries::new([(at, 0.0), (at, high)], RED.stroke_width(2)))?;
            let side = if at < from + (to - from) * 0.25 { HPos::Left } else { HPos::Right };
            // A plain space at an end is lost in SVG.
            let shown = format!("\u{a0}{word} {}\u{a0}", html::time(*seconds));
            chart.draw_series([Text::new(shown, (at, high), words(13).pos(Pos::new(side, VPos::Top)))])?;
        }
        Ok(())
    })
}

/// One bar of several parts, with its spread.
pub(super) struct BarRow {
    pub(super) name: String,
    /// What it is made of, from the left.
    pub(super) parts: Vec<(f64, RGBColor)>,
    /// The least and the most that were seen.
    pub(super) spread: Option<(f64, f64)>,
    /// What is written behind it.
    pub(super) shown: String,
}

/// Height of one row, in the plot's own units.
const ROW_HEIGHT: u32 = 44;

/// Bars that lie, each under its name.
pub(super) fn bars(screen: Screen, unit: &str, rows: &[BarRow]) -> Result<String, Error> {
    let length = |row: &BarRow| row.parts.iter().map(|(part, _)| part).sum::<f64>();
    let reach = |row: &BarRow| row.spread.map_or(0.0, |(_, most)| most).max(length(row));
    // Room for the words behind the longest one.
    let room = if screen == Screen::Wide { 1.2 } else { 1.5 };
    let most = (rows.iter().map(reach).fold(0.0, f64::max) * room).max(1e-3);
    let (count, height) = (real_len(rows.len()), u32::try_from(rows.len()).unwrap_or(64) * ROW_HEIGHT + 60);
    svg(screen.size(height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(26)
            .x_label_area_size(40)
            .y_label_area_size(4)
            .build_cartesian_2d(0.0..most, 0.0..count.max(1.0))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(words(13))
            .axis_desc_style(words(13))
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(if screen == Screen::Wide { 8 } else { 4 })
            .x_label_formatter(&|value| trimmed(*value))
            .x_desc(unit)
            .draw()?;
        for (row, place) in rows.iter().zip(0u32..) {
            let top = count - f64::from(place);
            let named = words(14).pos(Pos::new(HPos::Left, VPos::Top));
            let name = html::label(&row.name, if screen == Screen::Wide { 90 } else { 46 });
            chart.draw_series([Text::new(format!("\u{a0}{name}"), (0.0, top - 0.06), named)])?;
            let mut from = 0.0;
            for (part, colour) in &row.parts {
                chart
                    .draw_series([Rectangle::new([(from, top - 0.88), (from + part, top - 0.48)], colour.filled())])?;
                from += part;
            }
            let middle = top - 0.68;
            if let Some((least, most)) = row.spread.filter(|(least, most)| least < most) {
                let line = |points: [(f64, f64); 2]| LineSeries::new(points, FORE.stroke_width(2));
                chart.draw_series(line([(least, middle), (most, middle)]))?;
                for end in [least, most] {
                    chart.draw_series(line([(end, middle - 0.13), (end, middle + 0.13)]))?;
                }
            }
            let behind = words(13).pos(Pos::new(HPos::Left, VPos::Center));
            chart.draw_series([Text::new(format!("\u{a0}{}", row.shown), (reach(row), middle), behind)])?;
        }
        Ok(())
    })
}
