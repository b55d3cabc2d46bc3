//! Charts as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::outcome::{Chart, Style};

/// The name of the chart's file.
pub fn file_name(chart: &Chart) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = chart.title.chars().map(plain).collect();
    let parts: Vec<_> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-") + ".svg"
}

/// The chart, drawn: a line for each name, and the interval of each point.
///
/// # Errors
/// If it cannot be drawn.
pub fn svg(chart: &Chart) -> Result<String> {
    let mut text = String::new();
    draw(chart, &mut text).map_err(|error| anyhow!("`{}` is not drawn: {error}", chart.title))?;
    Ok(text)
}

type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(chart: &Chart, text: &'a mut String) -> Result<(), Failure<'a>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let top = height(chart) * 1.1;
    let right = chart.cases.len() as f64 - 1.0;
    let mut canvas = ChartBuilder::on(&area)
        .caption(&chart.title, (FONT, 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.3..right + 0.3, 0.0..top)?;
    canvas
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(&chart.across)
        .x_labels(chart.cases.len().max(2))
        .x_label_formatter(&|at| case(chart, *at))
        .y_label_formatter(&|value| chart.unit.show(*value))
        .label_style((FONT, 13))
        .draw()?;

    for (number, line) in chart.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points = line.points.iter().enumerate().map(|(at, point)| (at as f64, point));
        let medians = points.clone().map(|(at, point)| (at, point.median));
        let joined = medians.clone().filter(|_| chart.style == Style::Joined);
        canvas
            .draw_series(LineSeries::new(joined, colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        canvas.draw_series(medians.map(|at| Circle::new(at, 3, colour.filled())))?;
        let bars = points.filter_map(|(at, point)| Some((at, point.interval?)));
        canvas.draw_series(bars.map(|(at, interval)| {
            PathElement::new([(at, interval.low), (at, interval.high)], colour.stroke_width(1))
        }))?;
    }
    if let Some(bound) = chart.bound {
        canvas
            .draw_series([PathElement::new([(-0.3, bound), (right + 0.3, bound)], BLACK)])?
            .label("promise")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
    }
    canvas
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    area.present()
}

/// The highest thing there is.
fn height(chart: &Chart) -> f64 {
    let points = chart.lines.iter().flat_map(|line| &line.points);
    let tops = points.map(|point| point.interval.map_or(point.median, |interval| interval.high));
    tops.chain(chart.bound).fold(f64::MIN_POSITIVE, f64::max)
}

/// The label of a case; nothing between two.
fn case(chart: &Chart, at: f64) -> String {
    let whole = (at - at.round()).abs() < 0.01 && at.round() >= 0.0;
    let case = whole.then(|| chart.cases.get(at.round() as usize)).flatten();
    case.cloned().unwrap_or_default()
}

const SIZE: (u32, u32) = (760, 420);
const FONT: &str = "sans-serif";
/// Told apart by everybody (Okabe and Ito, Color Universal Design, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Line;
    use crate::statistics::{Estimate, Interval};
    use crate::unit::Unit;

    fn chart() -> Chart {
        let point = |median| Estimate {
            median,
            interval: Some(Interval { low: median - 0.1, high: median + 0.1 }),
        };
        Chart {
            title: "Speed: WASM / native".to_owned(),
            across: "burst".to_owned(),
            cases: vec!["1".to_owned(), "64".to_owned(), "256".to_owned()],
            style: Style::Joined,
            unit: Unit::Ratio,
            bound: Some(0.7),
            lines: vec![Line {
                name: "three <filters>".to_owned(),
                points: vec![point(0.5), point(0.8), point(0.9)],
            }],
        }
    }

    #[test]
    fn a_chart_shows_its_title_its_cases_and_its_lines() {
        let svg = svg(&chart()).expect("it can be drawn");
        for part in
            ["<svg", "Speed: WASM / native", "burst", "256", "three &lt;filters&gt;", "promise"]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn a_file_is_named_as_its_chart() {
        assert_eq!(file_name(&chart()), "speed-wasm-native.svg");
    }

    #[test]
    fn a_chart_without_points_is_drawn_all_the_same() {
        let empty = Chart { lines: Vec::new(), bound: None, ..chart() };
        assert!(svg(&empty).expect("it can be drawn").contains("<svg"));
    }
}
