//! No rule is there for nothing: without it, something that is to be refused would not be, or not in its words.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, ValidationRule};

use crate::refused::{cases, whole};
use crate::support::{Kind, Namespaced, schema, serve, visit_rules};

/// A definition without one of its rules, in a group of its own.
struct Without {
    kind: Kind,
    path: String,
    rule: ValidationRule,
    definition: CustomResourceDefinition,
}

/// Takes a minute or two, so it is asked for: `cargo test --test api -- --ignored every_rule_is_needed`.
#[tokio::test]
#[ignore = "serves every definition once without each of its rules"]
async fn every_rule_is_needed() {
    let namespace = Namespaced::new("needed").await;
    let variants: Vec<_> = [Kind::Environment, Kind::Lease]
        .into_iter()
        .flat_map(without_each_rule)
        .collect();
    let definitions: Vec<_> = variants.iter().map(|variant| variant.definition.clone()).collect();
    serve(&namespace.client, &definitions).await;
    let mut red = BTreeMap::new();
    for Without {
        kind,
        path,
        rule,
        definition,
    } in &variants
    {
        let mut differing = 0;
        for case in cases().into_iter().filter(|case| case.kind == *kind) {
            let group = &definition.spec.group;
            let answer = case.attempt.run(&namespace.client, group, &namespace.name, *kind).await;
            differing += usize::from(answer.err() != Some(whole(case.refusal)));
        }
        red.insert(format!("{}{path}: {}", kind.name(), rule.rule), differing);
    }
    let needless: Vec<_> = red.iter().filter(|(_, differing)| **differing == 0).collect();
    for (rule, differing) in &red {
        println!("{differing:3} cases turn red without {rule}");
    }
    assert_eq!(red.len(), variants.len(), "two rules of one field are the same");
    assert!(needless.is_empty(), "no case turns red without {needless:#?}");
}

fn without_each_rule(kind: Kind) -> Vec<Without> {
    let mut rules = Vec::new();
    visit_rules(schema(&mut kind.definition()), "", &mut |path, of_field| {
        rules.extend(
            of_field
                .iter()
                .enumerate()
                .map(|(index, rule)| (path.to_owned(), index, rule.clone())),
        );
    });
    let without = |(number, (path, index, rule)): (usize, (String, usize, ValidationRule))| {
        let mut definition = kind.definition();
        visit_rules(schema(&mut definition), "", &mut |other, of_field| {
            if other == path {
                of_field.remove(index);
            }
        });
        definition.spec.group = format!("without-{number}.paperclip.ing");
        definition.metadata.name = Some(format!("{}.{}", definition.spec.names.plural, definition.spec.group));
        // Names without short ones and category, or each group would ask for the same.
        definition.spec.names.short_names = None;
        definition.spec.names.categories = None;
        Without {
            kind,
            path,
            rule,
            definition,
        }
    };
    rules.into_iter().enumerate().map(without).collect()
}
