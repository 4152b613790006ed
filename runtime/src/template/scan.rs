//! Keeps namespaces out of themselves.
//!
//! A namespace is the only thing in a template that can change, so the only one that could come to contain itself; to
//! compare or print such a value the engine would recurse without end. So a namespace may be used for its attributes
//! and never as a value: `ns.x` and `ns["x"]` are fine, a bare `ns` is refused. Honest templates don't do that.

use super::TemplateError;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use std::collections::HashSet;

/// Refuses a template that uses a namespace as a value. Text that is no template is left to the compiler to refuse.
pub(super) fn check_namespaces(source: &str, syntax: SyntaxConfig) -> Result<(), TemplateError> {
    let tokens: Vec<(Token, usize)> = tokenize(source, false, syntax)
        .map_while(Result::ok)
        .map(|(token, span)| (token, usize::from(span.start_line)))
        .collect();
    let refuse = |name: &str, line| Err(TemplateError::Namespace { name: name.to_owned(), line });
    let ident = |at: Option<usize>| match at.and_then(|i| tokens.get(i)) {
        Some((Token::Ident(name), _)) => Some(*name),
        _ => None,
    };
    let is =
        |at: Option<usize>, wanted: fn(&Token) -> bool| at.and_then(|i| tokens.get(i)).is_some_and(|t| wanted(&t.0));
    let dot = |t: &Token| matches!(t, Token::Dot);

    let mut names = HashSet::new();
    for (i, (token, line)) in tokens.iter().enumerate() {
        if !matches!(token, Token::Ident("namespace")) || is(i.checked_sub(1), dot) {
            continue;
        }
        // {% set NAME = namespace( … ) %}
        let made = is(i.checked_sub(1), |t| matches!(t, Token::Assign))
            && ident(i.checked_sub(3)) == Some("set")
            && is(Some(i + 1), |t| matches!(t, Token::ParenOpen));
        match ident(i.checked_sub(2)) {
            Some(name) if made => names.insert(name),
            _ => return refuse("namespace", *line),
        };
    }
    for (i, (token, line)) in tokens.iter().enumerate() {
        let Token::Ident(name) = token else { continue };
        let attribute = is(i.checked_sub(1), dot);
        let used_for_attribute = is(Some(i + 1), |t| matches!(t, Token::Dot | Token::BracketOpen | Token::Assign));
        if names.contains(name) && !attribute && !used_for_attribute {
            return refuse(name, *line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> Result<(), TemplateError> {
        check_namespaces(source, SyntaxConfig::default())
    }

    #[test]
    fn attributes_of_namespaces_are_free_to_use() {
        for source in [
            "{% set ns = namespace(a=1, b=[]) %}{% set ns.a = ns.b + [ns['a']] %}{{ ns.a }}",
            "the word namespace, and ns {# ns #}{{ 'ns namespace' }}{% raw %}{{ ns }}{% endraw %}",
            "{% set ns = namespace() %}{{ f(ns=1) }}{{ x.ns }}{{ x.namespace }}",
        ] {
            assert!(check(source).is_ok(), "{source}");
        }
    }

    #[test]
    fn namespaces_as_values_are_refused() {
        for source in [
            "{% set ns = namespace() %}\n{% set ns.x = ns %}",
            "{% set ns = namespace() %}\n{% set a = [ns] %}",
            "{% set a = 1 %}\n{% set a, b = namespace(), namespace() %}",
            "{% set f = 1 %}\n{% set f = namespace %}",
            "{% set ns = namespace() %}\n{{ f(ns) }}",
            "{% set ns = namespace() %}\n{{ ns|list }}",
            "\n{% set ns = namespace(x=namespace()) %}",
            "\n{% if x is namespace %}{% endif %}",
        ] {
            match check(source) {
                Err(TemplateError::Namespace { line: 2, .. }) => {}
                other => panic!("{source}: {other:?}"),
            }
        }
    }
}
