use super::super::*;
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
    let tail: Vec<_> = report.limits.iter().take(14).collect();
    println!("  {} changes {tail:.2?}", report.limits.len());
}

#[test]
fn explore() {
    for (slots, service) in [(4usize, 0.010f64), (4, 0.001), (40, 0.010)] {
        let cap = slots as f64 / service;
        for factor in [3.0, 10.0] {
            for exp in [false, true] {
                let s = Scenario::new(slots, service)
                    .rate(step(cap, factor))
                    .lasting(if cap > 2000.0 { 9.0 } else { 25.0 });
                let s = if exp { s.work(move |_, r| Work::of(r.exponential(service))) } else { s };
                let r = s.run();
                show(
                    &format!("{slots} x {service} x{factor} exp {exp} cap {cap}"),
                    &r,
                    &[(0.0, 5.0), (5.0, 7.0), (7.0, 9.0), (9.0, 25.0)],
                );
            }
        }
    }
}
