use super::*;

#[test]
fn a_line_is_said_at_once_and_then_every_ten_seconds_with_what_was_left_out() {
    let (mut seldom, start) = (Seldom::default(), crate::clock::now());
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    assert_eq!(seldom.say(at(0.0)), Some(0));
    assert_eq!(seldom.say(at(0.1)), None);
    assert_eq!(seldom.say(at(9.9)), None);
    assert_eq!(seldom.say(at(10.0)), Some(2));
    assert_eq!(seldom.say(at(19.9)), None);
    assert_eq!(seldom.say(at(40.0)), Some(1));
    assert_eq!(seldom.say(at(60.0)), Some(0));
}
