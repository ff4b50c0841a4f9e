use super::model::*;

/// Half of the capacity for five seconds, then this factor of all of it.
fn step(capacity: f64, factor: f64) -> impl Fn(f64) -> f64 {
    move |t| capacity * if t < 5.0 { 0.5 } else { factor }
}

fn show(name: &str, report: &Report, times: &[(f64, f64)]) {
    println!("== {name}");
    for (from, to) in times {
        println!(
            "  {from:>6.1}..{to:<6.1} goodput {:8.1} p50 {:6.2}ms p99 {:6.2}ms good {} bad {} rejected {} limit {}",
            report.goodput(*from, *to),
            report.quantile(0.5, *from, *to) * 1e3,
            report.quantile(0.99, *from, *to) * 1e3,
            report.count(Fate::Good, *from, *to),
            report.count(Fate::Bad, *from, *to),
            report.count(Fate::Rejected, *from, *to),
            report.limit(*to)
        );
    }
    let tail: Vec<_> = report.limits.iter().take(24).map(|(t, l, c)| format!("{t:.2}:{l}{}", c.map_or("-".into(), |c| format!("{c:?}")[..1].to_owned()))).collect();
    println!("  {} changes {}", report.limits.len(), tail.join(" "));
}

fn exp(mean: f64) -> impl Fn(f64, &mut Rng) -> Work {
    move |_, r| Work::of(r.exponential(mean))
}

#[test]
fn explore2() {
    for e in [false, true] {
        let pick = |s: Scenario<'static>, m: f64| if e { s.work(exp(m)) } else { s };
        for (n, d, rate, len) in [(400usize, 0.010, 20000.0, 3.0), (40, 0.001, 20000.0, 2.0), (400, 0.001, 20000.0, 2.0), (4, 0.001, 5.0, 60.0), (40, 2.0, 5.0, 200.0), (4,0.01,200.0,60.0),(100,0.01,5000.0,20.0),(10, 0.1, 50.0, 60.0)] {
            let r = pick(Scenario::new(n, d).rate(move |_| rate).lasting(len), d).run();
            show(&format!("cold/half {n} x {d} at {rate} exp {e}"), &r, &[(0.0, 0.1), (0.1, 0.5),(0.5, 2.0), (2.0, len)]);
        }
        // 2 s upstream, step
        let s = Scenario::new(4, 2.0).rate(|t| if t < 60.0 { 1.0 } else { 6.0 }).lasting(400.0);
        show(&format!("2 s step exp {e}"), &pick(s, 2.0).run(), &[(0.0,60.0),(60.0,70.0),(70.0,100.0),(100.0,200.0),(200.0,400.0)]);
        // cold start in overload
        for (n, d) in [(4usize, 0.01), (40, 0.01)] {
            let c = n as f64 / d;
            let s = Scenario::new(n, d).rate(move |_| c * 10.0).lasting(if n > 4 {4.0} else {20.0});
            show(&format!("cold overload {n} {d} exp {e}"), &pick(s, d).run(), &[(0.0,2.0),(2.0,4.0),(4.0,20.0)]);
        }
        // sustained
        let s = Scenario::new(4, 0.01).rate(|_| 800.0).lasting(300.0);
        show(&format!("sustained 2x 300s exp {e}"), &pick(s, 0.01).run(), &[(0.0,60.0),(60.0,120.0),(120.0,180.0),(180.0,240.0),(240.0,300.0)]);
        // slow ramp
        let s = Scenario::new(4, 0.01).rate(|t| 200.0 + t * 4.0).lasting(200.0);
        show(&format!("ramp exp {e}"), &pick(s, 0.01).run(), &[(0.0,40.0),(40.0,50.0),(50.0,60.0),(60.0,70.0),(70.0,100.0),(100.0,200.0)]);
    }
}

#[test]
fn explore3() {
    for e in [false, true] {
        let one = move |m: f64, r: &mut Rng| if e { r.exponential(m) } else { m };
        // latency shift 4x: slots 40, load 50 % -> 200 %; and a load that still fits
        for load in [2000.0, 800.0] {
            let s = Scenario::new(40, 0.01).rate(move |_| load).work(move |t, r| Work::of(one(if t < 10.0 {0.01} else {0.04}, r))).lasting(100.0);
            show(&format!("shift 4x at {load} exp {e}"), &s.run(), &[(0.0,10.0),(10.0,12.0),(12.0,20.0),(20.0,40.0),(40.0,70.0),(70.0,100.0)]);
        }
        // bound but fit: slots 40, 3600/s, at 95 %
        // mix flip
        let s = Scenario::new(40, 0.01).rate(|t| if t < 10.0 { 2000.0 } else { 350.0 }).work(move |t, r| {
            let slow = r.unit() < if t < 10.0 { 0.05 } else { 0.9 };
            Work { route: usize::from(slow), ..Work::of(one(if slow {0.1} else {0.001}, r)) }
        }).lasting(20.0);
        show(&format!("mix flip exp {e}"), &s.run(), &[(0.0,10.0),(10.0,12.0),(12.0,20.0)]);
        // mix in overload, flips
        let s = Scenario::new(40, 0.01).rate(|t| if t < 10.0 { 20000.0 } else { 1300.0 }).work(move |t, r| {
            let slow = r.unit() < if t < 10.0 { 0.05 } else { 0.9 };
            Work { route: usize::from(slow), ..Work::of(one(if slow {0.1} else {0.001}, r)) }
        }).lasting(20.0);
        show(&format!("mix flip overload exp {e}"), &s.run(), &[(0.0,2.0),(2.0,10.0),(10.0,12.0),(12.0,20.0)]);
        // errors
        let s = Scenario::new(40, 0.01).rate(|_| 2000.0).work(move |t, r| { Work { refused: t >= 10.0 && t < 12.0 && r.unit() < 0.2, ..Work::of(one(0.01, r)) } }).lasting(20.0);
        show(&format!("error burst exp {e}"), &s.run(), &[(0.0,10.0),(10.0,12.0),(12.0,12.5),(12.5,13.0),(13.0,20.0)]);
        // hang 10..14
        let s = Scenario::new(40, 0.01).rate(|_| 2000.0).work(move |t, r| { Work::of(if t>=10.0 && t < 10.0001 || t>10.0&& t<10.05 {4.0} else {one(0.01, r)}) }).lasting(24.0);
        show(&format!("hang exp {e}"), &s.run(), &[(0.0,10.0),(10.0,12.0),(12.0,14.0),(14.0,15.0),(15.0,24.0)]);
        // capacity falls to a tenth
    }
}
