//! That no two modules of a folder import from each other, directly or by others.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::{Source, is_of_tests, source, sources};

/// The paths that begin with `crate` or `super`, as modules below `src`.
struct Paths<'s> {
    module: &'s [String],
    depth: usize,
    /// Whether a path that begins with any other name is one of the module's own.
    is_relative: bool,
    found: BTreeSet<Vec<String>>,
}

impl<'s> Paths<'s> {
    fn of(source: &'s Source) -> Self {
        Self {
            module: &source.module,
            depth: 0,
            is_relative: false,
            found: BTreeSet::new(),
        }
    }

    fn resolve(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.module.to_vec(),
            Some(_) if self.is_relative => self.module.to_vec(),
            _ => return,
        };
        let mut ups = 0;
        for segment in segments {
            match segment.as_str() {
                "crate" => {}
                "super" => {
                    ups += 1;
                    if ups > self.depth {
                        base.pop();
                    }
                }
                name => base.push(name.to_owned()),
            }
        }
        self.found.insert(base);
    }

    fn walk(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let joined = |name: &syn::Ident| {
            let mut path = prefix.to_vec();
            path.push(name.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.walk(&joined(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.resolve(&joined(&name.ident)),
            syn::UseTree::Rename(rename) => self.resolve(&joined(&rename.ident)),
            syn::UseTree::Glob(_) => self.resolve(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.walk(prefix, tree)),
        }
    }
}

impl<'a> Visit<'a> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.walk(&[], &item.tree);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_of_tests(item) {
            self.depth += 1;
            visit::visit_item_mod(self, item);
            self.depth -= 1;
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.resolve(&segments);
        visit::visit_path(self, path);
    }
}

type Module = Vec<String>;

/// What modules hand on of others', by the module and the name there.
fn handed_on(sources: &[Source]) -> BTreeMap<Module, Module> {
    let mut exports = BTreeMap::new();
    for source in sources {
        for item in &source.tree.items {
            let syn::Item::Use(item) = item else { continue };
            if matches!(item.vis, syn::Visibility::Inherited) {
                continue;
            }
            let mut paths = Paths::of(source);
            paths.is_relative = true;
            paths.visit_item_use(item);
            for path in paths.found {
                let name = path.last().cloned().unwrap_or_default();
                exports.insert(source.module.iter().cloned().chain([name]).collect(), path);
            }
        }
    }
    exports
}

/// A path, and all that it begins with, the longest first.
fn begins(path: &[String]) -> impl Iterator<Item = &[String]> {
    (0..=path.len()).rev().map(|length| &path[..length])
}

/// Which modules of a folder import from which others of it. A module and what is inside of it are one; what a folder hands on
/// is its module's that it comes from.
fn imports(sources: &[Source]) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| source.module.as_slice()).collect();
    let exports = handed_on(sources);
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let mut paths = Paths::of(source);
        paths.visit_file(&source.tree);
        for path in &paths.found {
            let path = begins(path).find_map(|start| exports.get(start)).unwrap_or(path);
            let Some(target) = begins(path).find(|start| modules.contains(start)) else {
                continue;
            };
            let pairs = source.module.iter().zip(target);
            let common = pairs.take_while(|(one, other)| one == other).count();
            if common < source.module.len() && common < target.len() {
                let (from, to) = (source.module[..=common].to_vec(), target[..=common].to_vec());
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    edges
}

/// The modules that can be reached from themselves.
fn circles(edges: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for start in edges.keys() {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            open.extend(
                edges
                    .get(module)
                    .into_iter()
                    .flatten()
                    .filter(|next| reached.insert(*next)),
            );
        }
        if reached.contains(start) {
            wrong.push(start.join("::"));
        }
    }
    wrong
}

/// Two modules of one folder that import from each other, directly or by others.
#[test]
fn no_modules_of_a_folder_import_in_a_circle() {
    let edges = imports(&sources());
    assert_eq!(circles(&edges), [""; 0], "edges: {edges:#?}");
    assert!(edges.len() > 50, "only {} modules import from others", edges.len());
}

#[test]
fn a_circle_is_seen_in_every_spelling() {
    let circles = |files: &[(&str, &str)]| {
        let sources: Vec<Source> = files.iter().map(|(name, text)| source(name, text)).collect();
        circles(&imports(&sources))
    };
    let back = ("src/x/b.rs", "use super::a::A;");
    for text in [
        "use super::b::B;",
        "use crate::x::b;",
        "use crate::{x::{b::B as C}, y};",
        "use super::b::*;",
        "fn f() { super::b::f() }",
        "mod inside { use super::super::b::B; }",
        "use super::B;",
        "fn f() { super::B::f() }",
    ] {
        let folder = ("src/x/mod.rs", "mod a; mod b; pub use b::B;");
        assert_eq!(
            circles(&[folder, ("src/x/a.rs", text), back]),
            ["x::a", "x::b"],
            "{text}"
        );
        assert_eq!(circles(&[folder, ("src/x/a.rs", text)]), [""; 0], "{text}");
        let inside = ("src/x/a/mod.rs", "mod c;");
        let deeper = text.replacen("super::", "super::super::", 1);
        let deep = ("src/x/a/c.rs", deeper.as_str());
        assert_eq!(circles(&[folder, inside, deep, back]), ["x::a", "x::b"], "{deeper}");
    }
    let others = [
        ("src/x/a.rs", "use super::b::B;"),
        ("src/x/b.rs", "use super::c::C;"),
        ("src/x/c.rs", "use super::a::A;"),
        ("src/x/d.rs", "use super::a::A;"),
    ];
    assert_eq!(circles(&others), ["x::a", "x::b", "x::c"], "d is in none");
    let tests = ("src/x/a.rs", "#[cfg(test)] mod tests { use crate::x::b::B; }");
    assert_eq!(circles(&[tests, back]), [""; 0]);
}
