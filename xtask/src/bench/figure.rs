//! One measured quantity, its limit, and their serialized form.
//!
//! The form is that of a line in `benches/history.jsonl`; benches that are programs of their own
//! print it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// One measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// The measured quantity, such as `50 processes running`.
    pub(crate) what: String,
    /// The unit of both values, such as `ms`.
    pub(crate) unit: String,
    /// Our value.
    pub(crate) ours: f64,
    /// The peer's name and its value, measured in the same run.
    pub(crate) peer: Option<(String, f64)>,
    /// The limit of our value.
    pub(crate) limit: Limit,
}

/// The limit of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// No limit: the figure is only reported.
    None,
    /// Our value is at most this.
    Max(f64),
    /// Our value is at least this.
    Min(f64),
    /// Our value is at most this many times the peer's.
    RatioMax(f64),
    /// Our value is at least this many times the peer's.
    RatioMin(f64),
}

impl Figure {
    /// A figure without a peer.
    pub(crate) fn new(what: &str, unit: &str, ours: f64, limit: Limit) -> Figure {
        Figure { what: what.to_owned(), unit: unit.to_owned(), ours, peer: None, limit }
    }

    /// The same with the value of a peer.
    pub(crate) fn with_peer(self, name: &str, value: f64) -> Figure {
        Figure { peer: Some((name.to_owned(), value)), ..self }
    }

    /// Our value by the peer's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, peer)| self.ours / peer)
    }

    /// Whether the limit is kept. A ratio without a peer is not: a limit that was not measured is not kept.
    pub(crate) fn is_met(&self) -> bool {
        match (self.limit, self.ratio()) {
            (Limit::None, _) => true,
            (Limit::Max(max), _) => self.ours <= max,
            (Limit::Min(min), _) => self.ours >= min,
            (Limit::RatioMax(max), Some(ratio)) => ratio <= max,
            (Limit::RatioMin(min), Some(ratio)) => ratio >= min,
            (Limit::RatioMax(_) | Limit::RatioMin(_), None) => false,
        }
    }

    /// Whether the verdict on it depends on the machine: a time, a rate or a share of a core that
    /// is not judged by its ratio to a peer of the same run.
    pub(crate) fn depends_on_machine(&self) -> bool {
        let is_ratio = matches!(self.limit, Limit::RatioMax(_) | Limit::RatioMin(_));
        !is_ratio && ["us", "ms", "s", "1/s", "% of a core"].contains(&self.unit.as_str())
    }

    /// The figure as it is written down.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "figure": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer.as_ref().map(|(name, value)| json!({ "name": name, "value": value })),
            "limit": match self.limit {
                Limit::None => json!({}),
                Limit::Max(value) => json!({ "max": value }),
                Limit::Min(value) => json!({ "min": value }),
                Limit::RatioMax(value) => json!({ "ratio_max": value }),
                Limit::RatioMin(value) => json!({ "ratio_min": value }),
            },
        })
    }

    /// Reads the output of [`Figure::to_json`].
    pub(crate) fn from_json(value: &Value) -> Result<Figure> {
        let text = |key: &str| value[key].as_str().with_context(|| format!("no {key}: {value}"));
        let mut figure = Figure::new(
            text("figure")?,
            text("unit")?,
            value["ours"].as_f64().with_context(|| format!("no ours: {value}"))?,
            limit(&value["limit"]),
        );
        if let (Some(name), Some(peer)) =
            (value["peer"]["name"].as_str(), value["peer"]["value"].as_f64())
        {
            figure = figure.with_peer(name, peer);
        }
        Ok(figure)
    }
}

fn limit(value: &Value) -> Limit {
    let of = |kind: &str| value[kind].as_f64();
    let absolute = of("max").map(Limit::Max).or(of("min").map(Limit::Min));
    let ratio = of("ratio_max").map(Limit::RatioMax).or(of("ratio_min").map(Limit::RatioMin));
    absolute.or(ratio).unwrap_or(Limit::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: f64, peer: Option<f64>, limit: Limit) -> Figure {
        let figure = Figure::new("requests", "1/s", ours, limit);
        peer.map_or(figure.clone(), |value| figure.with_peer("HAProxy", value))
    }

    #[test]
    fn limits_are_inclusive() {
        assert!(figure(5.0, None, Limit::Max(5.0)).is_met());
        assert!(!figure(5.1, None, Limit::Max(5.0)).is_met());
        assert!(figure(5.0, None, Limit::Min(5.0)).is_met());
        assert!(figure(11.0, Some(10.0), Limit::RatioMax(1.1)).is_met());
        assert!(!figure(9.0, Some(10.0), Limit::RatioMin(1.0)).is_met());
    }

    #[test]
    fn an_unmeasured_ratio_does_not_meet_its_limit() {
        assert!(!figure(1.0, None, Limit::RatioMax(2.0)).is_met());
    }

    #[test]
    fn written_values_read_back() {
        for limit in [Limit::None, Limit::Max(1.5), Limit::Min(2.0), Limit::RatioMax(1.1)] {
            for peer in [None, Some(2.5)] {
                let figure = figure(1.25, peer, limit);
                assert_eq!(Figure::from_json(&figure.to_json()).unwrap(), figure);
            }
        }
    }
}
