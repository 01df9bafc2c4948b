//! The module graph of each crate, and the cycles in it.
//!
//! A module is a source file. It depends on another when it names it or one of its items; a re-export is followed to
//! the module that defines the item. Two kinds of references are no dependency: those of test code, and those of a
//! module to its ancestors, since a module is a part of its parent and may use the parent's items. Macros are not
//! expanded and types are not inferred: a method call is no reference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Finding, Rule,
    lexer::Source,
    uses::{self, Path},
};

const CYCLE: Rule = Rule {
    id: "cycle",
    why: "the modules of a cycle can only be understood, tested and changed together",
    remedy: "move what both need into a module below them, or pass it as a parameter",
};

/// The longest chain of re-exports that is followed.
const REEXPORTS_MAX: usize = 8;

/// The cycles in the module graphs of all crates: one finding for each set of modules that reach each other.
pub(super) fn check<'a>(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<(&str, &Source)>> = BTreeMap::new();
    for (path, source) in files {
        if let Some((folder, below)) = path.split_once("/src/") {
            crates.entry(folder).or_default().push((below, source));
        }
    }
    crates.iter().flat_map(|(folder, files)| check_crate(folder, files)).collect()
}

fn check_crate(folder: &str, files: &[(&str, &Source)]) -> Vec<Finding> {
    let graph = Graph::read(files);
    let finding = |component: BTreeSet<&Name>| {
        let cycle = graph.shortest_cycle(&component);
        let (path, line) = cycle.first().and_then(|first| first.reference.as_ref()).map_or_else(
            || (folder.to_owned(), 1),
            |(file, line)| (format!("{folder}/src/{file}"), *line),
        );
        let mut names: Vec<_> = cycle.iter().map(|step| shown(step.from)).collect();
        names.extend(names.first().cloned());
        let others = component.len() - cycle.len();
        let more = if others > 0 {
            format!(" ({others} more modules reach each other)")
        } else {
            String::new()
        };
        Finding {
            path,
            line,
            rule: &CYCLE,
            what: format!("modules depend on each other: {}{more}", names.join(" -> ")),
        }
    };
    graph.components().into_iter().map(finding).collect()
}

/// The path of a module below the crate, such as `["control", "observe"]`; empty for the root.
type Name = Vec<String>;

fn shown(name: &Name) -> String {
    if name.is_empty() { "crate".to_owned() } else { name.join("::") }
}

#[derive(Debug, Default)]
struct Graph {
    /// For each module the modules it depends on, each with file and line of the first reference.
    edges: BTreeMap<Name, BTreeMap<Name, (String, usize)>>,
}

/// One step on a cycle.
struct Step<'a> {
    from: &'a Name,
    reference: Option<(String, usize)>,
}

impl Graph {
    fn read(files: &[(&str, &Source)]) -> Self {
        let tree = Tree::read(files);
        let mut graph = Self::default();
        for (name, module) in &tree.modules {
            for path in module.paths.iter().filter(|path| !path.is_test) {
                if let Some(used) = tree.resolve(name, &path.path)
                    && !name.starts_with(&used)
                {
                    let at = (module.file.clone(), path.line);
                    graph.edges.entry(name.clone()).or_default().entry(used).or_insert(at);
                }
            }
        }
        graph
    }

    fn used(&self, name: &Name) -> impl Iterator<Item = (&Name, &(String, usize))> {
        self.edges.get(name).into_iter().flatten()
    }

    /// The modules that a module reaches over at least one edge.
    fn reached<'a>(&'a self, start: &'a Name) -> BTreeSet<&'a Name> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(name) = open.pop() {
            open.extend(self.used(name).map(|(used, _)| used).filter(|used| reached.insert(*used)));
        }
        reached
    }

    /// The sets of two or more modules that reach each other.
    fn components(&self) -> Vec<BTreeSet<&Name>> {
        let reached: BTreeMap<&Name, BTreeSet<&Name>> =
            self.edges.keys().map(|name| (name, self.reached(name))).collect();
        let mut placed: BTreeSet<&Name> = BTreeSet::new();
        let mut components = Vec::new();
        for (name, reaches) in reached.iter().filter(|(name, reaches)| reaches.contains(*name)) {
            if placed.contains(*name) {
                continue;
            }
            let component: BTreeSet<&Name> = reaches
                .iter()
                .copied()
                .filter(|other| reached.get(other).is_some_and(|back| back.contains(*name)))
                .collect();
            placed.extend(component.iter().copied());
            components.push(component);
        }
        components
    }

    /// A shortest cycle among the modules of a component.
    fn shortest_cycle<'a>(&'a self, component: &BTreeSet<&'a Name>) -> Vec<Step<'a>> {
        let cycles = component.iter().filter_map(|start| self.cycle_from(start, component));
        let names = cycles.min_by_key(Vec::len).unwrap_or_default();
        let next = |index: usize| names[(index + 1) % names.len()];
        let step = |(index, from): (usize, &&'a Name)| Step {
            from,
            reference: self.edges.get(*from).and_then(|used| used.get(next(index))).cloned(),
        };
        names.iter().enumerate().map(step).collect()
    }

    /// A shortest path within the component from `start` back to it, without the last step.
    fn cycle_from<'a>(
        &'a self,
        start: &'a Name,
        component: &BTreeSet<&'a Name>,
    ) -> Option<Vec<&'a Name>> {
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([vec![start]]);
        while let Some(path) = open.pop_front() {
            for (used, _) in self.used(path.last()?).filter(|(used, _)| component.contains(used)) {
                if used == start {
                    return Some(path);
                }
                if seen.insert(used) {
                    open.push_back(path.iter().copied().chain([used]).collect());
                }
            }
        }
        None
    }
}

/// The modules of one crate.
#[derive(Debug, Default)]
struct Tree {
    modules: BTreeMap<Name, Module>,
}

#[derive(Debug)]
struct Module {
    /// Its file, below `src/`.
    file: String,
    paths: Vec<Path>,
}

impl Tree {
    fn read(files: &[(&str, &Source)]) -> Self {
        let has_library = files.iter().any(|(file, _)| *file == "lib.rs");
        let mut modules = BTreeMap::new();
        let mut test_modules = Vec::new();
        for (file, source) in files {
            let Some(name) = module_name(file, has_library) else { continue };
            for child in declared_for_tests(source) {
                test_modules.push([name.as_slice(), &[child]].concat());
            }
            let paths = uses::paths(source);
            modules.insert(name, Module { file: (*file).to_owned(), paths });
        }
        modules.retain(|name, _| !test_modules.iter().any(|tests| name.starts_with(tests)));
        Self { modules }
    }

    /// The module that defines the item that `path` refers to in `module`; `None` for an item of another crate.
    fn resolve(&self, module: &Name, path: &str) -> Option<Name> {
        let words: Vec<&str> = path.split("::").collect();
        // A single word is a name in scope, whose `use` is a reference of its own.
        if words.len() < 2 {
            return None;
        }
        let (start, rest) = self.origin(module, &words)?;
        self.walk(start, rest, REEXPORTS_MAX)
    }

    /// The module in which a path begins, and the words that are left.
    fn origin<'a>(&self, module: &Name, words: &'a [&'a str]) -> Option<(Name, &'a [&'a str])> {
        let mut at = module.clone();
        let (first, mut rest) = words.split_first()?;
        match *first {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop()?;
                while let Some(("super", after)) =
                    rest.split_first().map(|(word, after)| (*word, after))
                {
                    at.pop()?;
                    rest = after;
                }
            }
            child => {
                at.push(child.to_owned());
                self.modules.get(&at)?;
            }
        }
        Some((at, rest))
    }

    /// Follows the words of a path downwards through modules and re-exports, up to the first item.
    fn walk(&self, mut at: Name, words: &[&str], reexports_left: usize) -> Option<Name> {
        let Some((word, rest)) = words.split_first() else { return Some(at) };
        at.push((*word).to_owned());
        if self.modules.contains_key(&at) {
            return self.walk(at, rest, reexports_left);
        }
        at.pop();
        let is_it = |path: &&Path| *word != "*" && path.bound.as_deref() == Some(*word);
        let Some(import) = self.modules.get(&at)?.paths.iter().find(is_it) else { return Some(at) };
        let target: Vec<&str> = import.path.split("::").collect();
        let (start, target) = self.origin(&at, &target).filter(|_| reexports_left > 0)?;
        self.walk(start, &[target, rest].concat(), reexports_left - 1)
    }
}

/// The module that a file is; `None` for a program beside a library, which is a crate of its own.
fn module_name(file: &str, has_library: bool) -> Option<Name> {
    let mut name: Name = file.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    match name.last().map(String::as_str) {
        Some("lib") if name.len() == 1 => name.clear(),
        Some("main") if name.len() == 1 && has_library => return None,
        Some("main") if name.len() == 1 => name.clear(),
        Some("mod") => name.truncate(name.len() - 1),
        _ => {}
    }
    Some(name)
}

/// The modules in files of their own that a file declares under `#[cfg(test)]`.
fn declared_for_tests(source: &Source) -> impl Iterator<Item = String> {
    source.lines.iter().filter(|line| line.is_test).filter_map(|line| {
        let words: Vec<&str> = line.code.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mod")?;
        Some(words.get(at + 1)?.strip_suffix(';')?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings for a crate `a` of these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(file, text)| (format!("crates/a/src/{file}"), Source::read(text)))
            .collect();
        check(files.iter().map(|(path, source)| (path.as_str(), source)))
            .into_iter()
            .map(|finding| format!("{}:{} {}", finding.path, finding.line, finding.what))
            .collect()
    }

    #[test]
    fn a_cycle_is_reported_with_its_path() {
        let files = [
            ("lib.rs", "mod args; mod verbs;"),
            ("args.rs", "\nuse crate::verbs::apply::Arguments;"),
            ("verbs/mod.rs", "pub(crate) mod apply;"),
            ("verbs/apply.rs", "use crate::args::Global;"),
        ];
        let expected =
            "crates/a/src/args.rs:2 modules depend on each other: args -> verbs::apply -> args";
        assert_eq!(found(&files), [expected]);
    }

    #[test]
    fn a_larger_component_is_one_finding_with_its_shortest_cycle() {
        let files = [
            ("lib.rs", ""),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::{c::C, d::D};"),
            ("c.rs", "fn f() { super::a::g() }"),
            ("d.rs", "use super::b;"),
        ];
        let expected = "crates/a/src/b.rs:1 modules depend on each other: b -> d -> b (2 more modules reach each other)";
        assert_eq!(found(&files), [expected]);
    }

    #[test]
    fn a_reexport_leads_to_the_module_that_defines_the_item() {
        let files = [
            ("lib.rs", "pub use top::Thing as Renamed;"),
            ("top/mod.rs", "mod inner; mod other; pub use inner::Thing;"),
            ("top/inner.rs", "use super::other::Other;"),
            ("top/other.rs", "use crate::Renamed;"),
        ];
        let expected = "crates/a/src/top/inner.rs:1 modules depend on each other: top::inner -> top::other -> top::inner";
        assert_eq!(found(&files), [expected]);
    }

    #[test]
    fn ancestors_tests_and_other_crates_are_no_dependencies() {
        let files = [
            ("lib.rs", "mod a; mod b; use a::f;"),
            ("a/mod.rs", "mod inner; #[cfg(test)]\nmod tests; use inner::Inner; use b::Foreign;"),
            ("a/inner.rs", "use super::{f, Thing}; use crate::Root;"),
            ("a/tests.rs", "use super::inner; use crate::b;"),
            (
                "b.rs",
                "use crate::a::f;\n#[cfg(test)]\nmod tests {\n use crate::b::X; use crate::c;\n}",
            ),
            ("c.rs", "use crate::b; // crate::c\nconst S: &str = \"crate::c\";"),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn a_program_next_to_a_library_is_a_separate_crate() {
        assert_eq!(found(&[("lib.rs", "mod a;"), ("a.rs", ""), ("main.rs", "use a::f;")]), [""; 0]);
    }
}
