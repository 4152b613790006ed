use super::*;
use serde_json::json;

fn render(source: &str) -> Result<String, TemplateError> {
    let messages = [json!({"role": "user", "content": "Hi"})];
    let r = Render { messages: &messages, tools: None, enable_thinking: None, add_generation_prompt: true };
    ChatTemplate::new(source)?.render(&r)
}

fn failure(source: &str) -> (usize, String) {
    match render(source) {
        Err(TemplateError::Failed { line, reason }) => (line, reason),
        other => panic!("{source:.80}: {other:?}"),
    }
}

#[test]
fn jinja_as_transformers_sets_it_up() {
    for (source, text) in [
        ("{% if true %}\n  a\n{% endif %}\nb\n", "  a\nb"),
        ("  {% if true %}\nx{% endif %}", "x"),
        ("{{ [1, 2, 3][::-1] }}", "[3, 2, 1]"),
        ("{{ 'a</t>b</t>c'.split('</t>')[-1] }}", "c"),
        ("{{ ' x\n'.strip() ~ 'xax'.strip('x') ~ 'ab'.startswith('a') }}", "xaTrue"),
        ("{{ messages|length }}{{ (messages|first).role }}{{ messages[-1]['content'] }}", "1userHi"),
        ("{{ none }} {{ true }} {{ 1.0 }} {{ 1e20 }}", "None True 1.0 1e+20"),
        ("{{ nothing }}{% if tools is none %}none{% endif %}{% if enable_thinking is defined %}x{% endif %}", "none"),
        (
            "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "013",
        ),
        ("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') }}", "<a>"),
        ("{{ {'a': 1}.get('b', 2) }}{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "2b1a2"),
        ("{{ strftime_now('%Y')|length }}", "4"),
    ] {
        assert_eq!(render(source).expect(source), text, "{source}");
    }
}

#[test]
fn tojson_as_transformers_does_it() {
    for (source, text) in [
        (
            r#"{{ {"b": [1, 2.5, true, none], "a": "é<&'\"\n\u0001"} | tojson }}"#,
            "{\"b\": [1, 2.5, true, null], \"a\": \"é<&'\\\"\\n\\u0001\"}",
        ),
        ("{{ {} | tojson }}{{ [] | tojson }}{{ 'x' | tojson }}", "{}[]\"x\""),
        (r#"{{ {"b": 1, "a": [1]} | tojson(indent=2) }}"#, "{\n  \"b\": 1,\n  \"a\": [\n    1\n  ]\n}"),
        (
            r#"{{ {"b": 1, "a": "é🙂"} | tojson(sort_keys=true, ensure_ascii=true) }}"#,
            r#"{"a": "\u00e9\ud83d\ude42", "b": 1}"#,
        ),
        (r#"{{ {"b": [1, 2]} | tojson(separators=(",", ":")) }}"#, r#"{"b":[1,2]}"#),
    ] {
        assert_eq!(render(source).expect(source), text, "{source}");
    }
    assert!(failure("{{ 1 | tojson(colour=3) }}").1.contains("colour"));
}

#[test]
fn q1_failures_name_line_and_reason() {
    assert_eq!(failure("a\nb\n{{ raise_exception('no tools\nhere') }}"), (3, "no tools here".to_owned()));
    let (line, reason) = failure("a\n{{ messages[0].nope.deeper }}");
    assert_eq!(line, 2);
    assert!(reason.contains("undefined"), "{reason}");
    let (line, reason) = failure("a\n\n{% if %}");
    assert_eq!(line, 3);
    assert!(reason.contains("syntax error"), "{reason}");
    assert!(failure("{{ x | nofilter }}").1.contains("nofilter"));
    let text = render("{{ raise_exception('no') }}").unwrap_err().to_string();
    assert_eq!(text, "the chat template fails at line 1: no");
}

#[test]
fn g11_templates_see_no_files() {
    for source in ["{% include 'x' %}", "{% import 'chat' as c %}", "{% extends '/etc/passwd' %}"] {
        assert!(render(source).is_err(), "{source}");
    }
}

/// Templates that would take for ever, all memory or the whole stack.
#[test]
fn g11_hostile_templates_end_in_an_error_soon() {
    let deep = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(20_000), close.repeat(20_000));
    let long = |start: &str, link: &str| format!("{{{{ {start}{} }}}}", link.repeat(MAX_SOURCE / link.len() - 10));
    let nested = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% for j in range(99999) %}{% set ns.x = [[[[[[ns.x]]]]]] %}{% endfor %}{% endfor %}";
    let twice = "{% set ns = namespace(x=[], y=[]) %}{% for i in range(11000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}";
    for (source, fails) in [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned(), true),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}{% endfor %}".to_owned(),
            true,
        ),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(), true),
        ("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(), true),
        (
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
                .to_owned(),
            true,
        ),
        ("{{ 'x' * 99999999999 }}".to_owned(), true),
        ("{{ range(99999999999) | list }}".to_owned(), true),
        ("{{ '%999999999d' | format(1) }}".to_owned(), true),
        ("{{ ('a' * 9999).replace('', 'b' * 9999).replace('', 'c' * 9999) }}".to_owned(), true),
        ("{{ {'a': 1} | tojson(indent=99999999999) }}".to_owned(), false),
        (nested.to_owned(), true),
        (format!("{twice}{{{{ ns.x == ns.y }}}}"), false),
        (format!("{twice}{{{{ ns.x < ns.y }}}}{{{{ [ns.x, ns.y] | sort | length }}}}"), false),
        (format!("{twice}{{{{ ns.x }}}}"), false),
        (format!("{twice}{{{{ ns.x | tojson }}}}"), true),
        ("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(), true),
        (deep("(", ")"), true),
        (deep("[", "]"), true),
        (long("1", "+1"), false),
        (long("1", "**1"), false),
        (long("1", " and 1"), false),
        (long("a", ".a"), true),
        (long("a", "[1]"), true),
        (long("'a'", "|upper"), false),
        (long("1", " if 1 else 1"), false),
        (format!("{{{{ {}1 }}}}", "-".repeat(MAX_SOURCE - 10)), false),
        (format!("{{{{ {}1 }}}}", "not ".repeat(MAX_SOURCE / 4 - 10)), false),
        (format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(MAX_SOURCE / 12 - 4)), false),
        ("{% if 1 %}".repeat(MAX_SOURCE / 10), true),
        ("x".repeat(MAX_SOURCE + 1), true),
        ("{{ '\u{0}' * 3 }}".to_owned(), false),
    ] {
        let result = render(&source);
        println!("{:.60}… {:?}", source, result.as_ref().map(String::len).map_err(ToString::to_string));
        assert_eq!(result.is_err(), fails, "{source:.200}: {:?}", result.map(|s| s.len()));
    }
}

#[test]
fn too_much_work_is_named() {
    let e = render("a\n{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}").unwrap_err();
    assert!(matches!(e, TemplateError::TooMuchWork { line: 2 }), "{e:?}");
}

#[test]
fn messages_may_not_nest_for_ever() {
    let mut content = json!("x");
    for _ in 0..500 {
        content = json!([content]);
    }
    let messages = [json!({"role": "user", "content": content})];
    let r = Render { messages: &messages, tools: None, enable_thinking: None, add_generation_prompt: true };
    assert!(matches!(ChatTemplate::new("{{ messages }}").unwrap().render(&r), Err(TemplateError::TooDeep)));
}
