use proptest::prelude::*;

use super::*;

fn read(text: &str) -> (Option<Node>, Vec<String>) {
    let mut report = Report::default();
    let node = parse(text, &mut report);
    (node, report.finish().iter().map(ToString::to_string).collect())
}

fn fails_with(text: &str, problem: &str) {
    let (node, problems) = read(text);
    assert!(node.is_none(), "{text}");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(problem), "{problems:?}");
}

#[test]
fn every_value_knows_its_place() {
    let (node, problems) = read("a: 1\nb:\n  - x\n  - {c: \"d\", e: }\n");
    let node = node.unwrap();
    assert!(problems.is_empty());
    assert_eq!(node.place, Place { line: 1, column: 1 });
    assert_eq!(node.get("a").unwrap().place, Place { line: 1, column: 4 });
    let Kind::Sequence(items) = &node.get("b").unwrap().kind else { panic!() };
    assert_eq!(items[0].place, Place { line: 3, column: 5 });
    let inner = items[1].get("c").unwrap();
    assert_eq!(inner.place, Place { line: 4, column: 9 });
    let Kind::Scalar(scalar) = &inner.kind else { panic!() };
    assert_eq!((scalar.text.as_str(), scalar.plain), ("d", false));
    assert_eq!(items[1].get("e").unwrap().kind, Kind::Null);
    assert_eq!(items[1].entries()[0].0.place, Place { line: 4, column: 6 });
}

#[test]
fn quotes_make_a_text_of_null() {
    let (node, _) = read("a: null\nb: 'null'\nc: ~\nd: \"\"\n");
    let node = node.unwrap();
    let null = |name: &str| node.get(name).unwrap().kind == Kind::Null;
    assert_eq!([null("a"), null("b"), null("c"), null("d")], [true, false, true, false]);
}

#[test]
fn a_name_given_twice_is_reported_with_both_places_and_the_first_counts() {
    let (node, problems) = read("r:\n  - a: 1\n    b: 2\n    a: 3\n");
    assert_eq!(problems, ["4:5: r[0].a: given twice; the first is in line 2"]);
    let Kind::Sequence(items) = &node.unwrap().get("r").unwrap().kind.clone() else { panic!() };
    let Kind::Scalar(first) = &items[0].get("a").unwrap().kind else { panic!() };
    assert_eq!(first.text, "1");
}

#[test]
fn what_is_not_one_plain_document_is_refused() {
    fails_with("a: [1, 2\nb: 3\n", "this is not YAML");
    fails_with("a: 1\n---\nb: 2\n", "2:1: a second document begins here");
    fails_with("a: !secret x\n", "1:4: a: YAML tags");
    fails_with("? [a]\n: 1\n", "the name of an entry must be a plain text");
    fails_with("a: &x [*x]\n", "contains itself");
    let (node, problems) = read("b: &b {x: 1}\na:\n  <<: *b\n  y: 2\n");
    assert!(problems[0].starts_with("3:3: a.\"<<\": YAML merge keys are not supported"));
    assert_eq!(node.unwrap().get("a").unwrap().entries().len(), 1);
}

#[test]
fn an_anchor_is_copied_with_its_own_place() {
    let (node, problems) = read("a: &x {k: v}\nb: *x\n");
    assert!(problems.is_empty());
    let node = node.unwrap();
    assert_eq!(node.get("a"), node.get("b"));
}

#[test]
fn depth_and_the_growth_of_aliases_are_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read(&deep(MAX_DEPTH)).0.is_some());
    fails_with(&deep(MAX_DEPTH + 1), "nested deeper than 64 levels");
    // Each line is ten times the one before: 10^9 values, were they copied before they are counted.
    let mut laughs = "l0: &l0 [x]\n".to_owned();
    for level in 1..10 {
        let items = vec![format!("*l{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("l{level}: &l{level} [{items}]\n"));
    }
    fails_with(&laughs, "more than 1000000 values");
    // Aliases that nest: each adds levels to the one before.
    let mut nest = format!("l0: &l0 {}\n", deep(40));
    nest.push_str(&format!("l1: {}*l0 {}\n", "[".repeat(30), "]".repeat(30)));
    fails_with(&nest, "nested deeper than 64 levels");
}

#[test]
fn a_file_of_nothing_is_null_and_a_huge_one_is_refused() {
    assert_eq!(read("").0.unwrap().kind, Kind::Null);
    assert_eq!(read("# only a comment\n").0.unwrap().kind, Kind::Null);
    fails_with(&" ".repeat(MAX_FILE_BYTES + 1), "larger than 16 MiB");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "[-a-z:\\[\\]{}#&*!|>'\"%@`?, \\n\\t0-9~<.é\u{0}]{0,200}"
    ) {
        let (node, problems) = read(&text);
        prop_assert!(node.is_some() || problems.len() == 1);
    }

    #[test]
    fn a_joined_path_is_never_the_path_of_two_names(a in ".{0,8}", b in ".{0,8}") {
        prop_assert_eq!(join("x", &a) == join("x", &b), a == b);
    }
}
