//! How long plans of a large cluster take: the example `bench_planner` of the planner measures and
//! says what each figure may be.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Figure, Limit};
use crate::shell::{self, Top};

/// No-op plans, cold plans and their adoption, on one core.
pub(crate) fn plans(top: &Top) -> Result<Vec<Figure>> {
    let example =
        ["run", "--release", "--quiet", "-p", "muster-planner", "--example", "bench_planner"];
    let text = shell::output(&mut top.cargo(&example))?;
    text.lines().map(figure).collect()
}

fn figure(line: &str) -> Result<Figure> {
    let value: Value = serde_json::from_str(line).context("a figure that does not read")?;
    let number = |key: &str| value[key].as_f64().with_context(|| format!("`{line}` lacks {key}"));
    let what = value["what"].as_str().with_context(|| format!("`{line}` lacks what"))?;
    Ok(Figure {
        what: what.to_owned(),
        unit: "ms",
        ours: number("ours")?,
        peer: None,
        limit: Limit::Max(number("max")?),
    })
}
