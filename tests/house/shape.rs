//! The shape of the code: how long functions and files are, how many parameters a function takes, where a type's methods
//! stand, and (in `circles`) that no two modules know each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

mod circles;

/// The most lines of a function, from its signature to its closing brace.
const LINES_OF_FUNCTION: usize = 60;

/// The most lines of a file.
const LINES_OF_FILE: usize = 400;

/// The most parameters of a function, `self` apart.
const PARAMETERS: usize = 5;

/// Files that are still longer.
const LARGE: &[&str] = &[
    "tests/cluster/environment_changes.rs",
    "tests/cluster/support/world.rs",
    "tests/store/locals.rs",
    "tests/store/reuse.rs",
    "tests/store/support.rs",
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

/// The file of this name, below the root of the repository, with this text.
fn source(name: &str, text: &str) -> Source {
    let below = Path::new(name).strip_prefix("src").unwrap().with_extension("");
    let mut module: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    module.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    Source {
        name: name.to_owned(),
        module,
        tree: syn::parse_file(text).unwrap(),
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parse = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        source(&name, &std::fs::read_to_string(&path).unwrap())
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

/// The functions that are too long or take too much, and how many functions there are.
fn too_large(sources: &[Source]) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources.iter().filter(|source| !source.is_test()) {
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
    (wrong, seen)
}

#[test]
fn functions_are_short_and_take_few_parameters() {
    let (wrong, seen) = too_large(&sources());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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

/// The files that hold methods of a type of another folder, and how many types there are.
fn misplaced(sources: &[Source]) -> (Vec<String>, usize) {
    let mut homes: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for source in sources {
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
    for source in sources {
        for item in &source.tree.items {
            let syn::Item::Impl(item) = item else { continue };
            let Some(name) = subject(item) else { continue };
            let Some(homes) = homes.get(&name) else { continue };
            if !homes.iter().any(|home| may_hold_methods(home, source)) {
                wrong.push(format!("{}: methods of {name}", source.name));
            }
        }
    }
    (wrong, homes.len())
}

#[test]
fn the_methods_of_a_type_stand_in_its_own_folder() {
    let (wrong, seen) = misplaced(&sources());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} types were found");
}

#[test]
fn a_long_function_and_one_that_takes_much_are_seen() {
    let function = |lines: usize| format!("fn f() {{{}}}", "\n".repeat(lines - 1));
    let long = |text: &str| too_large(&[source("src/a.rs", text)]).0;
    assert_eq!(long(&function(LINES_OF_FUNCTION)), [""; 0]);
    assert_eq!(long(&function(LINES_OF_FUNCTION + 1)), ["src/a.rs: f is long"]);
    let method = format!("impl A {{ {} }}", function(LINES_OF_FUNCTION + 1));
    assert_eq!(long(&method), ["src/a.rs: f is long"]);
    assert_eq!(long(&format!("mod b {{ {method} }}")), ["src/a.rs: f is long"]);
    assert_eq!(long(&format!("#[cfg(test)] mod tests {{ {method} }}")), [""; 0]);
    let five = "a: u8, b: u8, c: u8, d: u8, e: u8";
    assert_eq!(long(&format!("impl A {{ fn f(&self, {five}) {{}} }}")), [""; 0]);
    assert_eq!(long(&format!("fn f({five}, g: u8) {{}}")), ["src/a.rs: f takes many"]);
}

#[test]
fn a_method_outside_of_its_type_s_folder_is_seen() {
    let misplaced = |file: &str, text: &str| {
        let home = source("src/store/row.rs", "pub struct Row;");
        misplaced(&[home, source(file, text)]).0
    };
    let methods = "impl Row { fn f(&self) {} }";
    assert_eq!(misplaced("src/store/other.rs", methods), [""; 0]);
    assert_eq!(misplaced("src/store/row/inside.rs", methods), [""; 0]);
    assert_eq!(
        misplaced("src/mirror/a.rs", methods),
        ["src/mirror/a.rs: methods of Row"]
    );
    assert_eq!(
        misplaced("src/store/other/a.rs", methods),
        ["src/store/other/a.rs: methods of Row"]
    );
    assert_eq!(misplaced("src/mirror/a.rs", "impl Clone for Row {}"), [""; 0]);
}
