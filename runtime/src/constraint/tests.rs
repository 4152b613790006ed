use super::*;
use crate::vocab::tests::letters;

/// The text that a grammar gives when of the allowed tokens always the first in `order` is chosen.
fn answer(grammar: &Grammar, wish: &str) -> Result<String, ConstraintError> {
    let vocab = Arc::new(letters());
    let mut constraint = grammar.compile(&vocab)?.start();
    let wished = vocab.encode(wish, crate::vocab::Specials::Plain).unwrap();
    let (mut out, mut allowed): (Vec<u32>, Vec<f32>) = (Vec::new(), Vec::new());
    while !constraint.is_over() {
        let mut next = constraint.forced();
        if next.is_empty() {
            constraint.allow(&vec![1.0; vocab.len()], &mut allowed)?;
            let id = wished.get(out.len()).copied().or(vocab.eos()).unwrap();
            if allowed[id as usize] == f32::NEG_INFINITY || vocab.ends_answer(id) {
                break;
            }
            next.push(id);
        }
        for id in next {
            constraint.accept(id)?;
            out.push(id);
        }
    }
    Ok(vocab.decode(&out))
}

fn schema(text: &str) -> Grammar {
    Grammar::JsonSchema(text.to_owned())
}

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}"#;

#[test]
fn a_schema_lets_through_what_it_describes_and_nothing_else() {
    let right = r#"{"name": "Ann", "age": 7}"#;
    assert_eq!(answer(&schema(PERSON), right).unwrap(), right);
    let wrong = answer(&schema(PERSON), r#"{"name": 3}"#).unwrap();
    assert!(wrong.starts_with(r#"{"name": ""#), "what must come is forced: {wrong}");
    let cut = answer(&schema(r#"{"enum": ["ab", "ac"]}"#), "\"ad\"").unwrap();
    assert_eq!(cut, "\"a", "what may not come is not taken");
}

#[test]
fn a_grammar_forces_what_leaves_no_choice() {
    let grammar = Grammar::Lark("start: \"yes, \" (\"sir\" | \"madam\") \".\"".to_owned());
    let vocab = Arc::new(letters());
    let mut constraint = grammar.compile(&vocab).unwrap().start();
    assert_eq!(vocab.decode(&constraint.forced()), "yes, ");
    assert_eq!(answer(&grammar, "yes, madam.").unwrap(), "yes, madam.");
    assert_eq!(answer(&grammar, "yes, sir.").unwrap(), "yes, sir.");
}

#[test]
fn an_answer_starts_afresh() {
    let compiled = Grammar::Lark("start: \"ab\"".to_owned()).compile(&Arc::new(letters())).unwrap();
    for _ in 0..2 {
        let mut constraint = compiled.start();
        let ids = constraint.forced();
        ids.iter().for_each(|&id| constraint.accept(id).unwrap());
        assert!(constraint.is_over());
    }
}

#[test]
fn what_is_no_grammar_is_refused_in_one_line() {
    let deep = format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000));
    let wide = format!("{{\"enum\": [{}]}}", vec!["\"a\""; 400_000].join(","));
    for (grammar, words) in [
        (schema("{"), "is not JSON"),
        (schema("3"), ""),
        (schema(r#"{"type": "potato"}"#), "potato"),
        (schema(r##"{"$ref": "#/nowhere"}"##), ""),
        (Grammar::Lark("start: (".to_owned()), ""),
        (Grammar::Lark(String::new()), ""),
        (Grammar::Lark("start: missing".to_owned()), "missing"),
        (Grammar::Lark(deep), "nests"),
        (schema(&wide), "bytes"),
    ] {
        let err = grammar.compile(&Arc::new(letters())).err().unwrap_or_else(|| panic!("{grammar:?}")).to_string();
        assert!(err.contains(words) && !err.contains('\n') && err.len() < 1000, "{err}");
    }
}
