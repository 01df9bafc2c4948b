//! Placement constraints: operators on attributes of nodes.
//!
//! A constraint reads one attribute of a node. `hostname` (or `@hostname`) is the node's name; a
//! value of it is also compared with the node's address. `@region` and `@zone` are the labels of
//! that name, and every other attribute is a label.
//! Operators that count consider only instances of the target's template, so that a rolling upgrade
//! does not block itself.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::node::Node;

/// `[attribute, OPERATOR]` or `[attribute, OPERATOR, value]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct Constraint {
    /// The attribute of the node.
    pub attribute: String,
    /// The relation that must hold.
    pub operator: Operator,
    /// The operand of operators that take a value.
    pub value: Option<String>,
}

/// The relation between the attribute's value and the operand or the other instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// No two instances on nodes with the same value.
    Unique,
    /// All instances on nodes with one value: the given one, or that of the first instance.
    Cluster,
    /// Instances spread evenly over the values. The operand is the minimum number of values.
    GroupBy,
    /// The value matches a regular expression in full.
    Like,
    /// The value does not match a regular expression in full.
    Unlike,
    /// The maximum number of instances for each value.
    MaxPer,
    /// The value is the given one; numbers are compared with three decimals.
    Is,
}

/// The operators and their names in documents.
pub const OPERATORS: [(&str, Operator); 7] = [
    ("UNIQUE", Operator::Unique),
    ("CLUSTER", Operator::Cluster),
    ("GROUP_BY", Operator::GroupBy),
    ("LIKE", Operator::Like),
    ("UNLIKE", Operator::Unlike),
    ("MAX_PER", Operator::MaxPer),
    ("IS", Operator::Is),
];

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPERATORS.iter().find(|(_, operator)| operator == self).map(|(name, _)| *name);
        f.write_str(name.expect("every operator has a name"))
    }
}

impl Operator {
    /// Whether the operator depends on where other instances of the service are.
    pub fn counts(self) -> bool {
        matches!(self, Operator::Unique | Operator::Cluster | Operator::GroupBy | Operator::MaxPer)
    }
}

/// Why a constraint is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The constraint does not have two or three parts.
    #[error("a constraint is [attribute, OPERATOR] or [attribute, OPERATOR, value], not {0} parts")]
    Shape(usize),
    /// An unknown operator.
    #[error("`{0}` is not an operator: use UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER or IS")]
    Operator(String),
    /// A value for an operator that takes none.
    #[error("UNIQUE takes no value")]
    UniqueValue,
    /// A missing or invalid value.
    #[error("{operator} needs {expected}")]
    Value {
        /// The operator.
        operator: Operator,
        /// The value that it needs.
        expected: &'static str,
    },
    /// A regular expression that does not compile.
    #[error("`{pattern}` is not a regular expression: {message}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// The error of the compiler.
        message: String,
    },
}

impl TryFrom<Vec<String>> for Constraint {
    type Error = Error;
    fn try_from(parts: Vec<String>) -> Result<Self, Error> {
        let count = parts.len();
        let mut parts = parts.into_iter();
        let (Some(attribute), Some(name), value, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Shape(count));
        };
        let operator = OPERATORS.iter().find(|(known, _)| *known == name);
        let operator = operator.map(|(_, operator)| *operator).ok_or(Error::Operator(name))?;
        let constraint = Constraint { attribute, operator, value };
        constraint.check()?;
        Ok(constraint)
    }
}

impl From<Constraint> for Vec<String> {
    fn from(constraint: Constraint) -> Self {
        let parts = [constraint.attribute, constraint.operator.to_string()];
        parts.into_iter().chain(constraint.value).collect()
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.attribute, self.operator)?;
        self.value.iter().try_for_each(|value| write!(f, " {value}"))
    }
}

fn full_match(pattern: &str) -> Result<regex::Regex, Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build().map_err(
        |error| {
            // The lines before the last draw the pattern, which a one-line message repeats.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let message = reason.trim_start_matches("error: ").into();
            Error::Pattern { pattern: pattern.into(), message }
        },
    )
}

/// Numbers are equal if they are equal when rounded to three decimals. Strings are compared first,
/// because `nan` parses as a number that is not equal to itself.
fn same(left: &str, right: &str) -> bool {
    let thousandths =
        |text: &str| text.parse::<f64>().ok().map(|number| (number * 1000.0).round_ties_even());
    left == right || thousandths(left).is_some_and(|left| thousandths(right) == Some(left))
}

impl Constraint {
    /// Checks that the value fits the operator.
    pub fn check(&self) -> Result<(), Error> {
        let value = |expected| Error::Value { operator: self.operator, expected };
        let is_count = |text: &str| text.parse::<u32>().is_ok();
        match (self.operator, self.value.as_deref()) {
            (Operator::Unique, Some(_)) => Err(Error::UniqueValue),
            (Operator::Unique | Operator::Cluster | Operator::GroupBy, None) => Ok(()),
            (Operator::Cluster, Some(_)) => Ok(()),
            (Operator::GroupBy, Some(text)) if is_count(text) => Ok(()),
            (Operator::GroupBy, Some(_)) => Err(value("a whole number of groups, or no value")),
            (Operator::MaxPer, Some(text)) if is_count(text) => Ok(()),
            (Operator::MaxPer, _) => Err(value("a whole number")),
            (Operator::Like | Operator::Unlike, Some(pattern)) => full_match(pattern).map(drop),
            (Operator::Like | Operator::Unlike, None) => Err(value("a regular expression")),
            (Operator::Is, Some(text))
                if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/.-".contains(&b)) =>
            {
                Ok(())
            }
            (Operator::Is, _) => Err(value("a value of letters, digits and _ / . -")),
        }
    }

    /// Compiles the constraint for evaluation on many nodes.
    pub fn compile(&self) -> Rule {
        let pattern = match self.operator {
            Operator::Like | Operator::Unlike => {
                self.value.as_deref().and_then(|value| full_match(value).ok())
            }
            _ => None,
        };
        Rule {
            constraint: self.clone(),
            number: self.value.as_deref().and_then(|value| value.parse().ok()).unwrap_or(0),
            pattern,
            counts: BTreeMap::new(),
            levels: BTreeMap::new(),
            first: None,
        }
    }
}

/// A compiled constraint and the counts of the instances placed so far.
#[derive(Debug, Clone)]
pub struct Rule {
    constraint: Constraint,
    number: u32,
    pattern: Option<regex::Regex>,
    /// Number of instances for each value of the attribute; never 0.
    counts: BTreeMap<String, u32>,
    /// Number of values for each number of instances; never 0. Derived from `counts`, because
    /// GROUP_BY needs the smallest count for every node that it evaluates.
    levels: BTreeMap<u32, u32>,
    /// The value of the first instance, which CLUSTER without a value follows; `None` for other
    /// constraints.
    first: Option<String>,
}

/// Equal if constraint and counts are equal.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.constraint == other.constraint
            && self.counts == other.counts
            && self.first == other.first
    }
}

impl Rule {
    /// The constraint that this rule was compiled from.
    pub fn constraint(&self) -> &Constraint {
        &self.constraint
    }

    /// The same rule without counted instances.
    pub(crate) fn without_counts(&self) -> Rule {
        Rule {
            constraint: self.constraint.clone(),
            number: self.number,
            pattern: self.pattern.clone(),
            counts: BTreeMap::new(),
            levels: BTreeMap::new(),
            first: None,
        }
    }

    fn follows_first(&self) -> bool {
        self.constraint.operator == Operator::Cluster && self.constraint.value.is_none()
    }

    /// Counts an instance that runs on `node`. Instances are counted in the order of their ids.
    pub fn count(&mut self, node: &Node) {
        let Some(value) = node.attribute(&self.constraint.attribute) else { return };
        if self.first.is_none() && self.follows_first() {
            self.first = Some(value.into());
        }
        let count = match self.counts.get_mut(value) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                self.counts.insert(value.into(), 1);
                1
            }
        };
        self.change_level(count - 1, count);
    }

    /// Removes an instance from the counts. Returns false if the value that CLUSTER follows may
    /// have changed: all instances must then be counted again.
    pub(crate) fn uncount(&mut self, node: &Node) -> bool {
        let Some(value) = node.attribute(&self.constraint.attribute) else { return true };
        let Some(count) = self.counts.get_mut(value) else { return false };
        *count -= 1;
        let count = *count;
        if count == 0 {
            self.counts.remove(value);
        }
        self.change_level(count + 1, count);
        if !self.follows_first() {
            return true;
        }
        self.first = self.counts.keys().next().cloned();
        self.counts.len() <= 1
    }

    /// Records that the count of a value changed from `from` to `to`.
    fn change_level(&mut self, from: u32, to: u32) {
        if let Some(values) = self.levels.get_mut(&from) {
            *values -= 1;
            if *values == 0 {
                self.levels.remove(&from);
            }
        }
        if to > 0 {
            *self.levels.entry(to).or_insert(0) += 1;
        }
    }

    /// Whether one more instance may run on `node`.
    pub fn allows(&self, node: &Node) -> bool {
        let Some(value) = node.attribute(&self.constraint.attribute) else {
            return self.constraint.operator == Operator::Unlike;
        };
        let count = self.counts.get(value).copied().unwrap_or(0);
        let wanted = self.constraint.value.as_deref();
        let is = |matches: &dyn Fn(&str) -> bool| {
            node.attribute_matches(&self.constraint.attribute, matches) == Some(true)
        };
        let matches = |pattern: &regex::Regex| is(&|value| pattern.is_match(value));
        match self.constraint.operator {
            Operator::Unique => count == 0,
            Operator::Cluster => {
                wanted.or(self.first.as_deref()).is_none_or(|wanted| is(&|value| wanted == value))
            }
            Operator::GroupBy => {
                let smallest = self.levels.keys().next().copied().unwrap_or(0);
                count == 0 || (self.counts.len() >= self.number as usize && count == smallest)
            }
            Operator::Like => self.pattern.as_ref().is_some_and(matches),
            Operator::Unlike => !self.pattern.as_ref().is_some_and(matches),
            Operator::MaxPer => count < self.number,
            Operator::Is => wanted.is_some_and(|wanted| is(&|value| same(wanted, value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, labels: &[(&str, &str)]) -> Node {
        let mut node = Node::new(name.parse().unwrap());
        node.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        node
    }

    fn constraint(text: &str) -> Result<Constraint, Error> {
        text.split(' ').map(String::from).collect::<Vec<_>>().try_into()
    }

    /// `placed` and `offered` are values of the attribute `rack`; `-` is a node without it.
    fn allows(text: &str, placed: &[&str], offered: &str) -> bool {
        let with = |rack: &str| match rack {
            "-" => node("n", &[]),
            rack => node("n", &[("rack", rack)]),
        };
        let mut rule = constraint(text).unwrap().compile();
        placed.iter().for_each(|rack| rule.count(&with(rack)));
        rule.allows(&with(offered))
    }

    #[test]
    fn operators_allow_and_reject_values() {
        assert!(allows("rack UNIQUE", &["a"], "b") && !allows("rack UNIQUE", &["a"], "a"));
        assert!(allows("rack CLUSTER", &[], "b") && !allows("rack CLUSTER", &["a"], "b"));
        assert!(allows("rack CLUSTER b", &[], "b") && !allows("rack CLUSTER b", &[], "a"));
        assert!(allows("rack GROUP_BY", &["a", "b", "a"], "b"));
        assert!(!allows("rack GROUP_BY", &["a", "b", "a"], "a"));
        assert!(!allows("rack GROUP_BY 3", &["a", "b"], "a"), "a third group must come first");
        assert!(allows("rack GROUP_BY 3", &["a", "b"], "c"));
        assert!(allows("rack LIKE r[0-9]", &[], "r1") && !allows("rack LIKE r[0-9]", &[], "r11"));
        assert!(allows("rack UNLIKE r[0-9]", &[], "x") && !allows("rack UNLIKE r[0-9]", &[], "r1"));
        assert!(
            allows("rack MAX_PER 2", &["a"], "a") && !allows("rack MAX_PER 2", &["a", "a"], "a")
        );
        assert!(allows("rack IS 0.8", &[], "0.8001") && !allows("rack IS 0.8", &[], "0.801"));
        assert!(allows("rack IS eu/1", &[], "eu/1") && !allows("rack IS eu/1", &[], "eu/2"));
        assert!(allows("rack UNLIKE x", &[], "-"), "only UNLIKE matches a missing attribute");
        for text in
            ["rack UNIQUE", "rack CLUSTER", "rack GROUP_BY", "rack LIKE .*", "rack MAX_PER 9"]
        {
            assert!(!allows(text, &[], "-"), "{text}");
        }
    }

    #[test]
    fn values_are_compared_as_numbers_if_both_are_numbers() {
        let is = |wanted: &str, own: &str| allows(&format!("rack IS {wanted}"), &[], own);
        for (wanted, own) in [("2", "2.0"), ("0.0004", "0"), ("-1", "-1.0001"), ("nan", "nan")] {
            assert!(is(wanted, own) && is(own, wanted), "{wanted} is {own}");
        }
        for (wanted, own) in [("2", "3"), ("0.001", "0"), ("1", "-1"), ("a", "A"), ("1", "a")] {
            assert!(!is(wanted, own) && !is(own, wanted), "{wanted} is not {own}");
        }
    }

    /// The planner skips nodes that do not.
    #[test]
    fn an_operator_counts_if_placements_change_its_verdict() {
        for (name, operator) in OPERATORS {
            let text = match operator {
                Operator::Unique | Operator::Cluster | Operator::GroupBy => format!("rack {name}"),
                _ => format!("rack {name} 1"),
            };
            let placed = ["1", "1", "2"];
            let changes = |offered| allows(&text, &[], offered) != allows(&text, &placed, offered);
            assert_eq!(operator.counts(), ["1", "2", "-"].into_iter().any(changes), "{text}");
        }
    }

    #[test]
    fn constraints_are_written_in_the_form_that_was_read() {
        for text in [
            "rack UNIQUE",
            "rack CLUSTER",
            "rack CLUSTER b",
            "rack GROUP_BY",
            "rack GROUP_BY 3",
            "rack LIKE [ab].*",
            "rack UNLIKE a|b",
            "rack MAX_PER 2",
            "rack IS a_B/0.9-x",
            "rack IS ",
        ] {
            let constraint = constraint(text).unwrap();
            assert_eq!(constraint.to_string(), text);
            assert_eq!(Vec::from(constraint.clone()).join(" "), text);
            assert_eq!(constraint.compile().constraint(), &constraint);
        }
    }

    #[test]
    fn the_attribute_hostname_is_the_name_of_the_node() {
        let mut rule = constraint("hostname UNIQUE").unwrap().compile();
        rule.count(&node("n1", &[]));
        assert!(!rule.allows(&node("n1", &[])) && rule.allows(&node("n2", &[])));
    }

    /// The API of a foreign system may show the address of a node as the host of an instance.
    #[test]
    fn the_attribute_hostname_also_has_the_address_of_the_node() {
        let at = |name: &str, address: &str| Node { address: address.into(), ..node(name, &[]) };
        let (here, there) = (at("n1", "10.0.0.1"), at("n2", "10.0.0.2"));
        for text in ["CLUSTER 10.0.0.1", "IS 10.0.0.1", "IS n1", "LIKE 10[.]0[.]0[.]1", "LIKE n1"] {
            let rule = constraint(&format!("hostname {text}")).unwrap().compile();
            assert!(rule.allows(&here) && !rule.allows(&there), "{text}");
        }
        for text in ["UNLIKE 10[.]0[.]0[.]1", "UNLIKE n1"] {
            let rule = constraint(&format!("hostname {text}")).unwrap().compile();
            assert!(!rule.allows(&here) && rule.allows(&there), "{text}");
        }
        let mut rule = constraint("hostname CLUSTER").unwrap().compile();
        rule.count(&here);
        assert!(rule.allows(&here) && !rule.allows(&there));
    }

    #[test]
    fn invalid_constraints_are_rejected() {
        for text in [
            "rack",
            "rack UNIQ",
            "rack unique",
            "rack UNIQUE 1",
            "rack MAX_PER",
            "rack MAX_PER x",
            "rack MAX_PER -1",
            "rack LIKE",
            "rack LIKE [",
            "rack UNLIKE",
            "rack UNLIKE (",
            "rack GROUP_BY x",
            "rack GROUP_BY 1.5",
            "rack IS",
            "rack IS a*b",
            "a IS b c",
        ] {
            assert!(constraint(text).is_err(), "{text}");
        }
    }
}
