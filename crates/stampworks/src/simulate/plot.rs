//! The report as a picture: SVG, written here.

use std::fmt::Write;

/// Size of a panel's area of lines, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 44.0;
/// From the top of one panel to that of the next.
const PANEL: f64 = 320.0;
/// Points of a line at most: several seconds fall on one pixel, and the highest of them is drawn.
const POINTS_MAX: usize = 640;
/// Colours that are told apart without green and red.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#cc79a7", "#e69f00"];

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    /// Evenly spaced from x = 0 on.
    pub(super) values: Vec<f64>,
    /// Between two values.
    pub(super) step: f64,
}

/// One diagram.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    /// Powers of ten from 1 on, or evenly from 0.
    pub(super) logarithmic: bool,
    pub(super) lines: Vec<Line>,
    /// A dashed line at this value.
    pub(super) limit: Option<(String, f64)>,
}

/// The whole picture.
pub(super) fn svg(panels: &[Panel]) -> String {
    let height = PANEL * panels.len() as f64;
    let width = LEFT + WIDTH + 230.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let top = PANEL * index as f64;
        let _ = writeln!(text, "<g transform=\"translate(0 {top})\">");
        panel.draw(&mut text);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let x_max = self.x_max();
        let y_max = self.y_max();
        let middle = LEFT + WIDTH / 2.0;
        label(out, LEFT, TOP - 20.0, "start", &self.title, "bold");
        label(
            out,
            middle,
            TOP + HEIGHT + 38.0,
            "middle",
            &self.x_label,
            "normal",
        );
        label(out, LEFT, TOP - 5.0, "start", &self.y_label, "normal");
        self.draw_axes(out, x_max, y_max);
        let mut row = TOP + 10.0;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = self.points(line, x_max, y_max);
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"
            );
            key(out, row, colour, "", &line.name);
            row += 20.0;
        }
        if let Some((name, value)) = &self.limit {
            let y = self.y(*value, y_max);
            let right = LEFT + WIDTH;
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"black\" \
                 stroke-dasharray=\"6 4\"/>"
            );
            key(out, row, "black", "6 4", name);
        }
    }

    fn draw_axes(&self, out: &mut String, x_max: f64, y_max: f64) {
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" \
             stroke=\"#888888\"/>"
        );
        for tick in 0..=4 {
            let part = f64::from(tick) / 4.0;
            let x = LEFT + WIDTH * part;
            label(
                out,
                x,
                TOP + HEIGHT + 18.0,
                "middle",
                &short(x_max * part),
                "normal",
            );
        }
        for value in self.y_ticks(y_max) {
            let y = self.y(value, y_max) + 4.0;
            label(out, LEFT - 6.0, y, "end", &short(value), "normal");
        }
    }

    fn y_ticks(&self, y_max: f64) -> Vec<f64> {
        if self.logarithmic {
            let powers = y_max.log10().round() as i32;
            return (0..=powers).map(|power| 10_f64.powi(power)).collect();
        }
        (0..=4).map(|tick| y_max * f64::from(tick) / 4.0).collect()
    }

    fn x_max(&self) -> f64 {
        let ends = self
            .lines
            .iter()
            .map(|line| (line.values.len() as f64 - 1.0) * line.step);
        ends.fold(1.0, f64::max)
    }

    fn y_max(&self) -> f64 {
        let limit = self.limit.as_ref().map_or(0.0, |(_, value)| *value);
        let values = self
            .lines
            .iter()
            .flat_map(|line| line.values.iter().copied());
        let most = values.fold(limit, f64::max);
        if self.logarithmic {
            return 10_f64.powf(most.max(10.0).log10().ceil());
        }
        if most > 0.0 { most } else { 1.0 }
    }

    fn y(&self, value: f64, y_max: f64) -> f64 {
        let part = if self.logarithmic {
            value.max(1.0).log10() / y_max.log10()
        } else {
            value / y_max
        };
        TOP + HEIGHT * (1.0 - part.clamp(0.0, 1.0))
    }

    fn points(&self, line: &Line, x_max: f64, y_max: f64) -> String {
        let chunk = line.values.len().div_ceil(POINTS_MAX).max(1);
        let mut points = String::new();
        for (index, values) in line.values.chunks(chunk).enumerate() {
            let highest = values.iter().copied().fold(0.0, f64::max);
            let x = LEFT + WIDTH * (index * chunk) as f64 * line.step / x_max;
            let _ = write!(points, "{x:.1},{:.1} ", self.y(highest, y_max));
        }
        points.truncate(points.trim_end().len());
        points
    }
}

fn key(out: &mut String, row: f64, colour: &str, dashes: &str, name: &str) {
    let (from, to) = (LEFT + WIDTH + 12.0, LEFT + WIDTH + 36.0);
    let _ = writeln!(
        out,
        "<line x1=\"{from}\" y1=\"{row}\" x2=\"{to}\" y2=\"{row}\" stroke=\"{colour}\" \
         stroke-width=\"2\" stroke-dasharray=\"{}\"/>",
        if dashes.is_empty() { "none" } else { dashes }
    );
    label(out, to + 6.0, row + 4.0, "start", name, "normal");
}

fn label(out: &mut String, x: f64, y: f64, anchor: &str, text: &str, weight: &str) {
    let text = escape(text);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{text}</text>"
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A number for an axis.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trim(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trim(v / 1e3)),
        v => trim(v),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
