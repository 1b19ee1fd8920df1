//! Tables of plain text whose columns line up, for everything that the lab prints.

/// A table that is filled row by row.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&text| text.to_owned()).collect()] }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|&text| text.to_owned()).collect());
    }

    /// The whole table; all lines have the same width.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width =
            |column: usize| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let cells =
                    widths.iter().enumerate().map(|(column, &width)| format!("{:width$}", cell(row, column)));
                format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
            })
            .collect();
        let rule = widths.iter().map(|&width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|");
        lines.insert(1.min(lines.len()), format!("|{rule}|"));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["fault", "gap"]);
        table.row(&["power-off", "5.1"]);
        table.row(&["x"]);
        let expected = "| fault     | gap |\n|-----------|-----|\n| power-off | 5.1 |\n| x         |     |";
        assert_eq!(table.render(), expected);
    }
}
