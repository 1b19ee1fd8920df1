//! The table at the end: all runs of all rows, minimum, median and maximum of each figure, its bound, kube-vip's figure
//! and the verdict. Pure; fed with outcomes, gives lines that line up.

use std::time::Duration;

use super::outcome::{Outcome, Reading};
use super::table::UNBOUND;
use crate::report::Table;

/// Where the figures of kube-vip 1.2.3 come from.
pub const SOURCE: &str = "kube-vip 1.2.3 measured on a bench of the same build: three nodes in namespaces, a real \
API server, ARP mode, leases 5/3/1 s, n = 4; ms, min / median / max";

/// A figure of several runs.
struct Series<'a> {
    label: &'a str,
    readings: Vec<&'a Reading>,
}

/// Renders the table of these outcomes; runs of one row need not stand together.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut table =
        Table::new(&["fault", "figure", "IPv4 ms", "IPv6 ms", "bound", "calm", "kube-vip 1.2.3", "verdict"]);
    let mut done: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if done.contains(&outcome.row.name) {
            continue;
        }
        done.push(outcome.row.name);
        for (index, series) in series(outcomes, outcome.row.name).iter().enumerate() {
            let first = index == 0;
            table.row(&[
                if first { outcome.row.title } else { "" },
                series.label,
                &spread(&series.readings, "IPv4"),
                &spread(&series.readings, "IPv6"),
                &bound(series.readings[0].bound),
                &millis(series.readings.iter().map(|reading| reading.calm).max().unwrap_or_default()),
                if first { outcome.row.upstream } else { "" },
                verdict(&series.readings),
            ]);
        }
    }
    table.render()
}

/// Adds the figures of these outcomes to a table that compares: two cells of its own, then fault and figure.
pub fn compare(outcomes: &[Outcome], who: [&str; 2], table: &mut Table) {
    let mut done: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if done.contains(&outcome.row.name) {
            continue;
        }
        done.push(outcome.row.name);
        for series in series(outcomes, outcome.row.name) {
            let calm = series.readings.iter().map(|reading| reading.calm).max().unwrap_or_default();
            table.row(&[
                who[0],
                who[1],
                outcome.row.title,
                series.label,
                &spread(&series.readings, "IPv4"),
                &spread(&series.readings, "IPv6"),
                &millis(calm),
            ]);
        }
    }
}

/// One line per run: the readings beside their bounds.
pub fn line(outcome: &Outcome) -> String {
    let readings: Vec<String> = outcome
        .readings
        .iter()
        .map(|reading| {
            let value = reading.value.map_or("never".to_owned(), millis);
            let mark = if reading.kept { "" } else { " BROKEN" };
            format!("{} {} {value} ms{mark}", reading.family, reading.label)
        })
        .collect();
    readings.join(", ")
}

fn series<'a>(outcomes: &'a [Outcome], name: &str) -> Vec<Series<'a>> {
    let mut all: Vec<Series<'a>> = Vec::new();
    for reading in outcomes.iter().filter(|o| o.row.name == name).flat_map(|o| &o.readings) {
        match all.iter_mut().find(|series| series.label == reading.label) {
            Some(series) => series.readings.push(reading),
            None => all.push(Series { label: &reading.label, readings: vec![reading] }),
        }
    }
    all
}

/// "12 / 15 / 19", or one figure when all are equal; a value that never came is the largest.
fn spread(readings: &[&Reading], family: &str) -> String {
    let mut values: Vec<Option<Duration>> =
        readings.iter().filter(|reading| reading.family == family).map(|reading| reading.value).collect();
    values.sort_by_key(|value| value.unwrap_or(Duration::MAX));
    let show = |value: Option<Duration>| value.map_or("never".to_owned(), millis);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(min), Some(median), Some(max)) if min != max => {
            format!("{} / {} / {}", show(*min), show(*median), show(*max))
        }
        (Some(only), ..) => show(*only),
        _ => "-".to_owned(),
    }
}

fn verdict(readings: &[&Reading]) -> &'static str {
    match readings {
        [first, ..] if first.bound == UNBOUND => "-",
        _ if readings.iter().all(|reading| reading.kept) => "kept",
        _ => "BROKEN",
    }
}

fn bound(bound: Duration) -> String {
    match bound {
        UNBOUND => "-".to_owned(),
        Duration::ZERO => "0".to_owned(),
        _ => format!("<= {}", bound.as_millis()),
    }
}

/// Milliseconds; with one digit behind the point below 100.
fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if time.is_zero() {
        "0".to_owned()
    } else if millis < 100.0 {
        format!("{millis:.1}")
    } else {
        format!("{millis:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::table::row;

    fn outcome(gap: Option<u64>, kept: bool) -> Outcome {
        let reading = |family| Reading {
            family,
            label: "gap".to_owned(),
            value: gap.map(Duration::from_millis),
            bound: Duration::from_millis(100),
            calm: Duration::from_micros(2100),
            kept,
        };
        Outcome {
            row: row("sigterm").expect("a row"),
            readings: vec![reading("IPv4"), reading("IPv6")],
            victim: 1,
        }
    }

    #[test]
    fn runs_become_minimum_median_and_maximum() {
        let text = render(&[outcome(Some(40), true), outcome(Some(20), true), outcome(Some(300), true)]);
        assert!(text.contains("20.0 / 40.0 / 300"), "{text}");
        assert!(text.contains("70 / 548 / 910") && text.contains("kept"), "{text}");
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }

    #[test]
    fn one_broken_run_breaks_the_row_and_never_is_the_maximum() {
        let text = render(&[outcome(Some(40), true), outcome(None, false)]);
        assert!(text.contains("BROKEN") && text.contains("/ never"), "{text}");
    }
}
