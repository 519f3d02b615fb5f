//! Tokens a second over length, a line for each model, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A model's line.
pub(super) struct Line {
    pub(super) label: String,
    /// Length in tokens, tokens a second.
    pub(super) points: Vec<(f64, f64)>,
}

/// Colours that differ in lightness too, so that a grey print can be read.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 63, 140),
    RGBColor(214, 96, 0),
    RGBColor(0, 135, 90),
    RGBColor(170, 30, 90),
    RGBColor(110, 110, 110),
    RGBColor(120, 85, 30),
];

/// Writes the file.
pub(super) fn draw(path: &Path, lines: &[Line]) -> Result<()> {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let highest = all().map(|point| point.1).fold(1.0, f64::max);
    let (least, most) =
        all().fold((f64::MAX, 1.0_f64), |(a, b), point| (a.min(point.0), b.max(point.0)));
    // One length alone needs room beside it on a logarithmic axis.
    let lengths = (least.max(1.0) / 1.2)..(most * 1.2);
    let broken = |error: DrawingAreaErrorKind<_>| anyhow!("{error}");
    let area = SVGBackend::new(path, (900, 520)).into_drawing_area();
    area.fill(&WHITE).map_err(broken)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(lengths.log_scale(), 0.0..highest * 1.15)
        .map_err(broken)?;
    chart
        .configure_mesh()
        .x_desc("tokens of a sequence")
        .y_desc("tokens a second")
        .x_label_formatter(&|length| format!("{length:.0}"))
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(broken)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(4))
            .map_err(broken)?
            .label(line.label.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(broken)?;
    area.present().map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_every_label_and_is_svg() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let line = |label: &str, points: &[(f64, f64)]| Line {
            label: label.to_owned(),
            points: points.to_vec(),
        };
        draw(
            &path,
            &[line("one", &[(32.0, 900.0), (512.0, 700.0)]), line("other", &[(32.0, 300.0)])],
        )
        .unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("one") && svg.contains("other"), "{svg}");
        draw(&path, &[line("alone", &[(128.0, 5.0)])]).unwrap();
    }
}
