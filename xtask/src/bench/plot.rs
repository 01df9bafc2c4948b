//! A drawing of the figures of a bench over the commits: one line per figure, each on its own
//! logarithmic scale, so that equal factors have equal heights.

use std::fmt::Write as _;

use super::{Figure, table};

const WIDTH: f64 = 860.0;
const ROW_HEIGHT: f64 = 44.0;
/// The horizontal range of the lines; names stand left of it and the last values right.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 740.0;
/// A line fills its height only if its values differ by at least this factor: noise stays flat.
const FACTOR_MIN: f64 = 2.0;

/// A figure and its values by commit, oldest first.
pub(crate) struct Series<'a> {
    pub(crate) figure: &'a Figure,
    pub(crate) values: Vec<(&'a str, f64)>,
}

/// The drawing as an SVG document with the title `label`.
pub(crate) fn svg(label: &str, series: &[Series<'_>]) -> String {
    let height = ROW_HEIGHT * series.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1d2021\"/>\n\
         <g font-family=\"system-ui,sans-serif\" font-size=\"13\" fill=\"#d0d0d0\">\n",
        escape(label)
    );
    for (i, series) in series.iter().enumerate() {
        row(&mut text, series, ROW_HEIGHT * i as f64);
    }
    text.push_str("</g>\n</svg>\n");
    text
}

fn row(text: &mut String, series: &Series<'_>, top: f64) {
    let points = points(&series.values, top);
    let (Some(&(x, y)), Some(&(_, last))) = (points.last(), series.values.last()) else {
        return;
    };
    let line: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let middle = top + ROW_HEIGHT / 2.0 + 4.5;
    let name = escape(&series.figure.what);
    let value = escape(&table::with_unit(last, &series.figure.unit));
    let commits: Vec<_> = series.values.iter().map(|(commit, _)| *commit).collect();
    let _ = write!(
        text,
        "<text x=\"16\" y=\"{middle:.1}\">{name}</text>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#83a598\" stroke-width=\"2\"><title>{}</title></polyline>\n\
         <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#fabd2f\"/>\n\
         <text x=\"{:.1}\" y=\"{middle:.1}\">{value}</text>\n",
        line.join(" "),
        commits.join(" "),
        RIGHT + 12.0,
    );
}

/// Where the values are drawn in the row that begins at `top`; greater values are higher.
fn points(values: &[(&str, f64)], top: f64) -> Vec<(f64, f64)> {
    let logs: Vec<f64> = values.iter().map(|(_, value)| value.max(1e-9).ln()).collect();
    let (min, max) =
        logs.iter().fold((f64::MAX, f64::MIN), |(min, max), log| (min.min(*log), max.max(*log)));
    let middle = f64::midpoint(min, max);
    let range = (max - min).max(FACTOR_MIN.ln());
    let last = values.len().saturating_sub(1);
    let x = |i: usize| match last {
        0 => RIGHT,
        last => LEFT + (RIGHT - LEFT) * i as f64 / last as f64,
    };
    let (centre, scale) = (top + ROW_HEIGHT / 2.0, ROW_HEIGHT * 0.7);
    logs.iter()
        .enumerate()
        .map(|(i, log)| (x(i), centre - (log - middle) / range * scale))
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greater_values_are_higher_and_noise_stays_flat() {
        let points = points(&[("a", 10.0), ("b", 40.0), ("c", 10.0)], 0.0);
        assert_eq!(points.iter().map(|(x, _)| *x).collect::<Vec<_>>(), [LEFT, 570.0, RIGHT]);
        assert!(points[1].1 < points[0].1 && points[0].1 == points[2].1);
        assert!((points[0].1 - points[1].1 - ROW_HEIGHT * 0.7).abs() < 1e-6);

        let flat = super::points(&[("a", 10.0), ("b", 10.1)], 0.0);
        assert!((flat[0].1 - flat[1].1).abs() < 1.0, "{flat:?}");
    }
}
