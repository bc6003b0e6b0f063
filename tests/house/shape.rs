//! The shape of the code: how long functions and files are, how many parameters a function takes, where a type's methods
//! stand, and that no two modules know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// The most lines of a function, from its signature to its closing brace.
const LINES_OF_FUNCTION: usize = 60;

/// The most lines of a file.
const LINES_OF_FILE: usize = 400;

/// The most parameters of a function, `self` apart.
const PARAMETERS: usize = 5;

/// Functions that are still longer, or take more.
const LONG: &[&str] = &[
    "src/cli/run.rs: operate is long",
    "src/controller/background/missed_deletions.rs: watch takes many",
    "src/controller/environment/mod.rs: mirror_environment is long",
    "src/controller/run.rs: run is long",
    "src/controller/run.rs: work takes many",
    "src/controller/watch/list_watch.rs: watch is long",
    "src/controller/watch/list_watch.rs: watch takes many",
    "src/lifecycle/environment_status.rs: environment_status is long",
    "src/lifecycle/lease.rs: decide_claim is long",
    "src/lifecycle/lease_status.rs: lease_status is long",
    "src/store/local_intent.rs: fulfil takes many",
];

/// Files that are still longer.
const LARGE: &[&str] = &[
    "src/cache/wait_queue/tests.rs",
    "src/controller/reconcile/tests.rs",
    "src/lifecycle/lease.rs",
    "tests/cluster/environment_changes.rs",
    "tests/cluster/support/world.rs",
    "tests/store/locals.rs",
    "tests/store/reuse.rs",
    "tests/store/support.rs",
];

/// Modules that still import in a circle.
const CIRCLES: &[&str] = &[
    "runtime::health",
    "runtime::leadership",
    "store::connect",
    "store::environment_object",
    "store::environments",
    "store::error",
    "store::fitness",
    "store::installation",
    "store::lead",
    "store::migrate",
    "store::pool",
    "store::session",
    "store::unreadable",
];

/// A file of `src`, parsed.
struct Source {
    /// Its path below the root of the repository.
    name: String,
    /// The module that it is, as the names on its path below `src`.
    module: Vec<String>,
    tree: syn::File,
}

impl Source {
    /// Whether the file is compiled for tests alone.
    fn is_test(&self) -> bool {
        let of_tests = ["tests", "fake", "documentation", "order", "churn"];
        self.module.iter().any(|name| of_tests.contains(&name.as_str()))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parse = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let below = path.strip_prefix(root.join("src")).unwrap().with_extension("");
        let mut module: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        module.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
        let tree = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
        Source { name, module, tree }
    };
    super::sources(&root.join("src")).into_iter().map(parse).collect()
}

/// Whether a module is compiled under a condition: the only one there is, is `test`.
fn is_of_tests(item: &syn::ItemMod) -> bool {
    item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

/// The functions of a tree: the name of each, its lines and its parameters.
#[derive(Default)]
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let (begin, end) = (signature.fn_token.span, body.brace_token.span.close());
        let lines = end.end().line - begin.start().line + 1;
        let typed = |input: &&syn::FnArg| matches!(input, syn::FnArg::Typed(_));
        let parameters = signature.inputs.iter().filter(typed).count();
        self.0.push((signature.ident.to_string(), lines, parameters));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_of_tests(item) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.note(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn functions_are_short_and_take_few_parameters() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources().into_iter().filter(|source| !source.is_test()) {
        let mut functions = Functions::default();
        functions.visit_file(&source.tree);
        seen += functions.0.len();
        for (function, lines, parameters) in functions.0 {
            if lines > LINES_OF_FUNCTION {
                wrong.push(format!("{}: {function} is long", source.name));
            }
            if parameters > PARAMETERS {
                wrong.push(format!("{}: {function} takes many", source.name));
            }
        }
    }
    wrong.sort();
    assert_eq!(wrong, LONG, "the list holds what is still to be shortened");
    assert!(seen > 1_000, "only {seen} functions were found");
}

#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for file in super::sources(&root.join(folder)) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > LINES_OF_FILE {
                wrong.push(file.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    wrong.sort();
    assert_eq!(wrong, LARGE, "the list holds what is still to be parted");
}

/// Whether the methods of a type of the file `home` may stand in the file `other`: in the same folder, or inside of its module.
fn may_hold_methods(home: &Source, other: &Source) -> bool {
    let folder = |source: &Source| Path::new(&source.name).parent().map(Path::to_owned);
    folder(home) == folder(other) || other.module.starts_with(&home.module)
}

/// The name of the type that an inherent `impl` is of.
fn subject(item: &syn::ItemImpl) -> Option<String> {
    if item.trait_.is_some() {
        return None;
    }
    match &*item.self_ty {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
}

#[test]
fn the_methods_of_a_type_stand_in_its_own_folder() {
    let sources = sources();
    let mut homes: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for source in &sources {
        for item in &source.tree.items {
            let name = match item {
                syn::Item::Struct(item) => &item.ident,
                syn::Item::Enum(item) => &item.ident,
                _ => continue,
            };
            homes.entry(name.to_string()).or_default().push(source);
        }
    }
    let mut wrong = Vec::new();
    for source in &sources {
        for item in &source.tree.items {
            let syn::Item::Impl(item) = item else { continue };
            let Some(name) = subject(item) else { continue };
            let Some(homes) = homes.get(&name) else { continue };
            if !homes.iter().any(|home| may_hold_methods(home, source)) {
                wrong.push(format!("{}: methods of {name}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(homes.len() > 100, "only {} types were found", homes.len());
}

/// The paths that begin with `crate` or `super`, as modules below `src`.
struct Paths<'s> {
    module: &'s [String],
    depth: usize,
    found: BTreeSet<Vec<String>>,
}

impl Paths<'_> {
    fn resolve(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.module.to_vec(),
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

/// Two modules of one folder that import from each other, directly or by others. A module and what is inside of it are one.
#[test]
fn no_modules_of_a_folder_import_in_a_circle() {
    let sources = sources();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|source| source.module.clone()).collect();
    let mut edges: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let mut paths = Paths {
            module: &source.module,
            depth: 0,
            found: BTreeSet::new(),
        };
        paths.visit_file(&source.tree);
        for path in paths.found {
            let target = (0..=path.len())
                .rev()
                .map(|length| &path[..length])
                .find(|path| modules.contains(*path));
            let Some(target) = target else { continue };
            let common = source
                .module
                .iter()
                .zip(target)
                .take_while(|(one, other)| one == other)
                .count();
            if common < source.module.len() && common < target.len() {
                let (from, to) = (source.module[..=common].to_vec(), target[..=common].to_vec());
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let mut wrong = BTreeSet::new();
    for start in edges.keys() {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(module) = open.pop() {
            for next in edges.get(&module).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        if reached.contains(start) {
            wrong.insert(start.join("::"));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    let known: Vec<&String> = wrong.iter().collect();
    assert_eq!(known, CIRCLES, "edges: {edges:#?}");
}
