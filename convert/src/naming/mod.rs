//! `general.name` and everything else that says whose model this is: from the model card, else from config.json's
//! `_name_or_path`, else from the checkpoint folder's name, by the rules of llama.cpp's converter.

mod id;

use std::path::Path;

use qwren_quant::gguf::{Array, Value};

use crate::Keys;
use crate::card::Card;
use id::{Id, rounded, title};

/// What the keys are made of.
pub(crate) struct Origin<'a> {
    /// The checkpoint folder.
    pub dir: &'a Path,
    /// Its model card.
    pub card: &'a Card,
    /// `_name_or_path` of its config.json.
    pub name_or_path: Option<&'a str>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// The number of experts, and the elements of the model with one expert a layer.
    pub experts: Option<(u64, u64)>,
}

/// The keys `general.name` … `general.languages`.
pub(crate) fn keys(origin: &Origin) -> Keys {
    let Origin { dir, card, parameters, .. } = *origin;
    // A path on somebody's disk is no name.
    let from_config = origin.name_or_path.filter(|name| !name.is_empty() && name.matches('/').count() <= 1);
    let from_config = from_config.map(|name| Id::parse(name, parameters)).unwrap_or_default();
    let from_folder = Id::parse(&folder_name(dir), parameters);
    let of_card = |keys: &[&str]| card.text(keys).map(str::to_owned);
    let guessed = |get: fn(&Id) -> Option<String>| get(&from_config).or_else(|| get(&from_folder));
    let computed = || match origin.experts {
        Some((n, one_expert)) => format!("{n}x{}", rounded(one_expert)),
        None => rounded(parameters),
    };
    let list = |keys: [&str; 2]| keys.iter().flat_map(|key| card.list(key)).cloned().collect::<Vec<String>>();
    let license = Some(card.list("license").join(",")).filter(|l| !l.is_empty());

    let name = of_card(&["name", "model_name"]).or_else(|| guessed(|id| id.name.as_deref().map(title)));
    let texts = [
        ("name", name.or_else(|| Some("Model".to_owned()))),
        ("author", of_card(&["author", "model_author", "model_creator"])),
        ("version", of_card(&["version", "model_version"]).or_else(|| guessed(|id| id.version.clone()))),
        (
            "organization",
            of_card(&["organization", "model_organization"])
                .or_else(|| guessed(|id| id.organization.as_deref().map(title))),
        ),
        ("finetune", of_card(&["finetune", "model_finetune"]).or_else(|| guessed(|id| id.finetune.clone()))),
        (
            "basename",
            of_card(&["basename", "model_basename", "model_type"]).or_else(|| guessed(|id| id.basename.clone())),
        ),
        ("description", of_card(&["description", "model_description"])),
        (
            "size_label",
            of_card(&["size_label", "model_size_label"])
                .or_else(|| guessed(|id| id.size_label.clone()))
                .or_else(|| Some(computed())),
        ),
        ("license", license),
        ("license.name", of_card(&["license_name"])),
        ("license.link", of_card(&["license_link"])),
        ("source.url", of_card(&["url", "model_url"])),
        ("source.doi", of_card(&["doi", "model_doi"])),
        ("source.uuid", of_card(&["uuid", "model_uuid"])),
        ("source.repo_url", of_card(&["repo_url", "model_repo_url"])),
    ];
    let mut all: Keys = Vec::new();
    all.extend(texts.into_iter().filter_map(|(key, text)| Some((format!("general.{key}"), Value::String(text?)))));
    let ancestors = |keys: &[&str]| keys.iter().map(|key| card.list(key)).find(|l| !l.is_empty()).unwrap_or_default();
    all.extend(related("base_model", base_models(card), parameters));
    all.extend(related("dataset", ancestors(&["datasets", "dataset", "dataset_sources"]), parameters));
    for (key, texts) in [("tags", list(["tags", "pipeline_tag"])), ("languages", list(["languages", "language"]))] {
        if !texts.is_empty() {
            all.push((format!("general.{key}"), Value::Array(Array::String(texts))));
        }
    }
    all
}

/// The models that a card says this one was made of.
pub(crate) fn base_models(card: &Card) -> &[String] {
    let keys = ["base_model", "base_models", "base_model_sources"];
    keys.iter().map(|key| card.list(key)).find(|models| !models.is_empty()).unwrap_or_default()
}

/// `general.KIND.count` and what each id or address tells.
fn related(kind: &str, ids: &[String], parameters: u64) -> Keys {
    if ids.is_empty() {
        return Vec::new();
    }
    let mut all = vec![(format!("general.{kind}.count"), Value::U32(ids.len() as u32))];
    for (i, text) in ids.iter().enumerate() {
        let address = ["http://", "https://", "ssh://"].iter().any(|scheme| text.starts_with(scheme));
        let (id, url) = if address {
            (hub_id(text).map(|id| Id::parse(id, parameters)).unwrap_or_default(), Some(text.clone()))
        } else {
            let id = Id::parse(text, parameters);
            let url = id.organization.is_some().then(|| format!("https://huggingface.co/{text}"));
            (id, url)
        };
        for (key, value) in [
            ("name", id.name.as_deref().map(title)),
            ("version", id.version),
            ("organization", id.organization.as_deref().map(title)),
            ("repo_url", url),
        ] {
            all.extend(value.map(|v| (format!("general.{kind}.{i}.{key}"), Value::String(v))));
        }
    }
    all
}

/// `ORG/NAME` of a hub address.
fn hub_id(url: &str) -> Option<&str> {
    let path = url.strip_prefix("https://huggingface.co/").or_else(|| url.strip_prefix("http://huggingface.co/"))?;
    let (organization, name) = path.split_once('/')?;
    (!organization.is_empty() && !name.is_empty() && !name.contains('/')).then_some(path)
}

/// The folder's own name; in a hub cache (`models--ORG--NAME/snapshots/HASH`) the repository's.
fn folder_name(dir: &Path) -> String {
    // Canonical, so that "." has a name. Links inside a hub cache point to blobs, the snapshot folder is a real one.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let repository = || {
        let snapshots = dir.parent().filter(|p| name(p) == "snapshots")?;
        let repository = name(snapshots.parent()?);
        Some(repository.strip_prefix("models--")?.split_once("--")?.1.to_owned())
    };
    repository().unwrap_or_else(|| name(&dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(origin: &Origin) -> Vec<String> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::U32(n) => n.to_string(),
            Value::Array(Array::String(texts)) => texts.join(" + "),
            other => panic!("{other:?}"),
        };
        keys(origin).into_iter().map(|(key, value)| format!("{} = {}", &key["general.".len()..], text(value))).collect()
    }

    fn card(text: &str) -> Card {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("README.md"), text).unwrap();
        Card::read(dir.path())
    }

    /// Expected values are what llama.cpp's converter makes of the same card and folder.
    #[test]
    fn a_published_card() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Qwen3-0.6B");
        std::fs::create_dir(&folder).unwrap();
        let card = card(
            "---\nlibrary_name: transformers\nlicense: apache-2.0\nlicense_link: https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/LICENSE\n\
             pipeline_tag: text-generation\nbase_model:\n- Qwen/Qwen3-0.6B-Base\n---\n# Qwen3\n",
        );
        let origin = Origin { dir: &folder, card: &card, name_or_path: None, parameters: 596_049_920, experts: None };
        assert_eq!(
            shown(&origin),
            [
                "name = Qwen3 0.6B",
                "basename = Qwen3",
                "size_label = 0.6B",
                "license = apache-2.0",
                "license.link = https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/LICENSE",
                "base_model.count = 1",
                "base_model.0.name = Qwen3 0.6B Base",
                "base_model.0.organization = Qwen",
                "base_model.0.repo_url = https://huggingface.co/Qwen/Qwen3-0.6B-Base",
                "tags = text-generation",
            ]
        );
    }

    #[test]
    fn card_then_config_then_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkpoint-900");
        std::fs::create_dir(&folder).unwrap();
        let card = card(
            "---\nmodel_name: My tune\nmodel_creator: Me\nlicense: [mit, other]\ntags: [a, b]\nlanguage:\n- en\nbase_model: \
             https://huggingface.co/Qwen/Qwen3-4B-Thinking-2507\ndatasets:\n- org/some-data\n- plain\n---\n",
        );
        let name = Some("my-org/Qwen3-4B-Tuned");
        let origin = Origin { dir: &folder, card: &card, name_or_path: name, parameters: 4_022_468_096, experts: None };
        assert_eq!(
            shown(&origin),
            [
                "name = My tune",
                "author = Me",
                "version = 900",
                "organization = My Org",
                "finetune = Tuned",
                "basename = Qwen3",
                "size_label = 4B",
                "license = mit,other",
                "base_model.count = 1",
                "base_model.0.name = Qwen3 4B Thinking 2507",
                "base_model.0.version = 2507",
                "base_model.0.organization = Qwen",
                "base_model.0.repo_url = https://huggingface.co/Qwen/Qwen3-4B-Thinking-2507",
                "dataset.count = 2",
                "dataset.0.name = Some Data",
                "dataset.0.organization = Org",
                "dataset.0.repo_url = https://huggingface.co/org/some-data",
                "dataset.1.name = Plain",
                "tags = a + b",
                "languages = en",
            ]
        );
        let none = Card::default();
        let path = Some("/home/me/models/x");
        let origin =
            Origin { dir: &folder, card: &none, name_or_path: path, parameters: 7_000, experts: Some((4, 2_000)) };
        assert_eq!(
            shown(&origin),
            ["name = Checkpoint 900", "version = 900", "basename = checkpoint", "size_label = 4x2.0K"]
        );
    }

    #[test]
    fn a_hub_cache_folder_is_called_as_its_repository() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = dir.path().join("models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca");
        std::fs::create_dir_all(&snapshot).unwrap();
        assert_eq!(folder_name(&snapshot), "Qwen3-0.6B");
        let plain = dir.path().join("my model");
        std::fs::create_dir(&plain).unwrap();
        assert_eq!(folder_name(&plain.join(".")), "my model");
    }
}
