//! `moby build --timings`: what took how long, what was reused, what the end had to wait for; as an HTML page that needs
//! nothing else, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::ui::size;
use crate::ui::timings::{Unit, critical_path};

/// The version of the JSON's form.
const VERSION: u32 = 1;
/// Rows of the page. A build of very many parts is shown by its longest ones.
const ROWS: usize = 400;
/// Widths in the drawing.
const NAME_WIDTH: u64 = 380;
const BARS_WIDTH: u64 = 800;
const ROW: u64 = 18;

/// The whole as JSON: `{"version", "duration", "units", "criticalPath", "stages"}`, times in microseconds.
pub fn json(units: &[Unit]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Report<'a> {
        version: u32,
        duration: u64,
        units: &'a [Unit],
        critical_path: Vec<&'a Unit>,
        stages: BTreeMap<&'a str, Stage>,
    }
    let critical_path = critical_path(units);
    let report = Report { version: VERSION, duration: duration(units), units, critical_path, stages: stages(units) };
    // Numbers and strings only: nothing that JSON could not hold.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

/// What the units of a stage come to.
#[derive(Debug, Default, Serialize)]
struct Stage {
    /// Made now.
    made: u64,
    /// There already.
    reused: u64,
    /// Microseconds, of all threads together; what lies in one another counts twice.
    time: u64,
    /// Bytes that went through.
    bytes: u64,
}

fn stages(units: &[Unit]) -> BTreeMap<&str, Stage> {
    let mut stages: BTreeMap<&str, Stage> = BTreeMap::new();
    for unit in units {
        let stage = stages.entry(unit.stage).or_default();
        *(if unit.reused { &mut stage.reused } else { &mut stage.made }) += 1;
        stage.time += unit.duration();
        stage.bytes += if unit.reused { 0 } else { unit.bytes };
    }
    stages
}

fn duration(units: &[Unit]) -> u64 {
    units.iter().map(|unit| unit.end).max().unwrap_or(0)
}

/// The whole as a page.
pub fn html(title: &str, units: &[Unit]) -> String {
    let path = critical_path(units);
    let total = duration(units).max(1);
    let title = escape(title);
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}: timings</title><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n<p>{} in all. Bars on the critical path are dark, what was reused is hollow.</p>\n",
        time(total)
    );
    page.push_str("<table><tr><th>stage<th>made<th>reused<th>time of all threads<th>bytes</tr>\n");
    for (name, stage) in stages(units) {
        let Stage { made, reused, time: taken, bytes } = stage;
        let _ =
            writeln!(page, "<tr><td>{}<td>{made}<td>{reused}<td>{}<td>{}</tr>", escape(name), time(taken), size(bytes));
    }
    page.push_str("</table>\n<h2>Critical path</h2>\n<ol>\n");
    for unit in &path {
        let _ = writeln!(page, "<li>{} {}: {}</li>", escape(unit.stage), escape(&unit.subject), time(unit.duration()));
    }
    page.push_str("</ol>\n<h2>Everything</h2>\n");
    page.push_str(&drawing(units, &path, total));
    page.push_str("</body></html>\n");
    page
}

fn drawing(units: &[Unit], path: &[&Unit], total: u64) -> String {
    let mut longest: Vec<usize> = (0..units.len()).collect();
    longest.sort_by_key(|number| std::cmp::Reverse(units[*number].duration()));
    longest.truncate(ROWS);
    longest.sort_unstable();
    let height = ROW * (longest.len() as u64 + 1);
    let mut svg = format!("<svg width=\"{}\" height=\"{height}\">\n", NAME_WIDTH + BARS_WIDTH + 80);
    for (row, unit) in longest.into_iter().map(|number| &units[number]).enumerate() {
        let y = ROW * row as u64;
        let x = NAME_WIDTH + unit.start * BARS_WIDTH / total;
        let width = (unit.duration() * BARS_WIDTH / total).max(1);
        let class = match (path.contains(&unit), unit.reused) {
            (_, true) => "reused",
            (true, _) => "critical",
            _ => "made",
        };
        let name = format!("{} {}", unit.stage, unit.subject);
        let short: String = match name.char_indices().nth(58) {
            Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
            None => name.clone(),
        };
        let _ = writeln!(
            svg,
            "<g><title>{}: {} to {}, {}</title><text x=\"0\" y=\"{}\">{}</text>\
             <rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text></g>",
            escape(&name),
            time(unit.start),
            time(unit.end),
            size(unit.bytes),
            y + 13,
            escape(&short),
            y + 2,
            ROW - 4,
            x + width + 4,
            y + 13,
            time(unit.duration()),
        );
    }
    svg + "</svg>\n"
}

const STYLE: &str = "body{font:14px sans-serif;margin:2em}svg text{font:11px monospace}td,th{padding:2px 12px;\
text-align:left}.made{fill:#8ab4e8}.critical{fill:#1a4f9c}.reused{fill:none;stroke:#7a7a7a}";

/// A time as people read it.
fn time(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.2} s", microseconds as f64 / 1e6),
    }
}

/// Names come from blueprints and images, which may have anything in them.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> Vec<Unit> {
        let unit = |stage, subject: &str, start, end, reused| Unit {
            stage,
            subject: subject.into(),
            start,
            end,
            bytes: 2048,
            reused,
            thread: 0,
        };
        vec![
            unit("read", "a.yml", 0, 900, false),
            unit("compress", "<script>&\"", 1_000, 2_000_000, false),
            unit("compress", "old", 1_000, 1_001, true),
        ]
    }

    #[test]
    fn the_page_holds_every_unit_and_no_foreign_markup() {
        let page = html("x<y>", &units());
        for part in ["<title>x&lt;y&gt;: timings</title>", "900 µs", "2.00 s", "class=\"reused\"", "class=\"critical\""]
        {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<tr><td>compress<td>1<td>1<td>2.00 s<td>2.0 KiB</tr>"), "{page}");
    }

    #[test]
    fn the_json_has_the_same() {
        let report: serde_json::Value = serde_json::from_str(&json(&units())).unwrap();
        assert_eq!(report["duration"], 2_000_000);
        assert_eq!(report["units"].as_array().unwrap().len(), 3);
        assert_eq!(report["stages"]["compress"]["reused"], 1);
        assert_eq!(report["criticalPath"][1]["subject"], "<script>&\"");
    }

    #[test]
    fn a_build_of_nothing_has_a_page_too() {
        assert!(html("x", &[]).contains("0 µs") || html("x", &[]).contains("1 µs"));
    }
}
