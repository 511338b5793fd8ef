//! The schemas of `src/docs/schemas`: read, compiled, and walked for the properties they have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value};

/// Files that are no command's own: shared parts, and what a command prints that fails.
pub(crate) const OTHERS: [&str; 2] = ["common", "error"];

/// All schemas, by the name of their file without `.json`.
pub(crate) struct Catalogue {
    documents: BTreeMap<String, Value>,
    validators: BTreeMap<String, Validator>,
}

impl Catalogue {
    pub(crate) fn read() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/schemas");
        let documents: BTreeMap<String, Value> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                assert_eq!(path.extension().unwrap(), "json", "{name} is no schema");
                let text = std::fs::read_to_string(&path).unwrap();
                (name, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}")))
            })
            .collect();
        let named = documents.values().map(|document| (id(document), document.clone()));
        let registry = Registry::new().extend(named).unwrap().prepare().unwrap();
        let validators = documents.iter().map(|(name, document)| {
            let options = jsonschema::options().with_registry(&registry).offline().should_validate_formats(true);
            (name.clone(), options.build(document).unwrap_or_else(|error| panic!("{name}.json: {error}")))
        });
        let validators = validators.collect();
        Self { documents, validators }
    }

    /// The names of all schemas.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.documents.keys().cloned().collect()
    }

    /// The schema of this name.
    pub(crate) fn document(&self, name: &str) -> &Value {
        &self.documents[name]
    }

    /// Fails if `value` is not as the schema of this name says.
    #[track_caller]
    pub(crate) fn check(&self, name: &str, value: &Value) {
        let validator = self.validators.get(name).unwrap_or_else(|| panic!("there is no schema {name:?}"));
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}.json does not describe {value}:\n{}", wrong.join("\n"));
    }

    /// Every property that an object of this schema may have, its own and those inside: `rates.sent`, `args[].type`.
    pub(crate) fn properties(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.walk(name, &self.documents[name], "", &mut |path, _| {
            found.insert(path.to_owned());
        });
        found
    }

    /// Calls `each` with the path and the schema of every property below `schema`, which is part of the file `name`.
    pub(crate) fn walk<'a>(
        &'a self,
        name: &str,
        schema: &'a Value,
        path: &str,
        each: &mut impl FnMut(&str, &'a Value),
    ) {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let (file, target) = self.resolve(name, reference);
            self.walk(&file, target, path, each);
        }
        for word in ["anyOf", "oneOf"] {
            for part in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
                self.walk(name, part, path, each);
            }
        }
        if let Some(items) = schema.get("items") {
            self.walk(name, items, &format!("{path}[]"), each);
        }
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            each(&path, property);
            self.walk(name, property, &path, each);
        }
    }

    fn resolve(&self, name: &str, reference: &str) -> (String, &Value) {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let file = if file.is_empty() { name } else { file.trim_end_matches(".json") };
        let target = self.documents.get(file).and_then(|document| document.pointer(pointer));
        (file.to_owned(), target.unwrap_or_else(|| panic!("{name}.json refers to {reference}, which is not there")))
    }
}

/// The `$id` of a schema.
pub(crate) fn id(document: &Value) -> String {
    document["$id"].as_str().unwrap_or_else(|| panic!("no $id: {document}")).to_owned()
}

/// Every schema of an object within a document, wherever it stands.
pub(crate) fn objects(schema: &Value) -> Vec<&Map<String, Value>> {
    let inside: Vec<&Value> = match schema {
        Value::Object(members) => members.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    let own = schema.as_object().filter(|members| members.get("type").is_some_and(|kind| kind == "object"));
    own.into_iter().chain(inside.into_iter().flat_map(objects)).collect()
}

/// The properties of `value` that are something, not null, written as those of a schema.
pub(crate) fn present(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter().filter(|(_, member)| !member.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(path.clone());
                present(member, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| present(item, &format!("{path}[]"), found)),
        _ => {}
    }
}
