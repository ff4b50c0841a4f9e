use super::*;

fn advised(policy: &[&str], left: &[&str]) -> Option<Advice> {
    let mut headers = HeaderMap::new();
    for value in policy {
        headers.append(&RATE_LIMIT_POLICY, value.parse().unwrap());
    }
    for value in left {
        headers.append(&RATE_LIMIT, value.parse().unwrap());
    }
    advice(&headers)
}

fn pair(amount: u64, seconds: u64) -> Option<(u64, Duration)> {
    Some((amount, Duration::from_secs(seconds)))
}

#[test]
fn both_fields_are_read_by_the_name_of_the_limit() {
    let both = Some(Advice { quota: pair(100, 60), left: pair(50, 30) });
    assert_eq!(advised(&["\"burst\";q=100;w=60"], &["\"burst\";r=50;t=30"]), both);
    assert_eq!(advised(&["burst; w = 60 ; q=100;pk=:a:"], &["burst;t=30;r=50"]), both);
    assert_eq!(advised(&["\"a\";q=5;w=1"], &[]), Some(Advice { quota: pair(5, 1), left: None }));
    assert_eq!(advised(&[], &["\"a\";r=0;t=9"]), Some(Advice { quota: None, left: pair(0, 9) }));
}

#[test]
fn the_limit_that_allows_least_counts() {
    let policy = "\"second\";q=50;w=1, \"hour\";q=3600;w=3600";
    let hour = Advice { quota: pair(3600, 3600), left: pair(1800, 1800) };
    let left = "\"hour\";r=1800;t=1800";
    assert_eq!(advised(&[policy], &[left]), Some(hour));
    // Two lines of a field are one list, and a comma in a name is not one of the list's.
    let lines = ["\"second, by key\";q=50;w=1", "\"hour\";q=3600;w=3600"];
    assert_eq!(advised(&lines, &[left]), Some(hour));
}

#[test]
fn what_cannot_be_read_says_nothing() {
    for text in
        ["", ";", "\"a\"", "\"a\";q=1", "\"a\";q=x;w=1", "\"a\";q=-1;w=1", "limit=10, reset=5"]
    {
        assert_eq!(advised(&[text], &[]), None, "{text}");
        assert_eq!(advised(&[], &[text]), None, "{text}");
    }
    let many: Vec<String> = (0..1000).map(|i| format!("\"l{i}\";q=1000;w=1")).collect();
    assert!(advised(&[&many.join(",")], &[]).is_some());
    let long = advised(&["\"a\";q=1;w=18446744073709551615"], &[]).unwrap();
    assert_eq!(long.quota, pair(1, TIME_MAX));
}
