"""The scenarios: what is sent to what, and the table that comes of it.

Each is a function of the stage, the contenders and the length of a phase in seconds; it prints a
table in Markdown and returns what was counted. `bench/METHOD.md` describes them.
"""

import statistics
import sys

from stage import SAMPLE_INTERVAL, SETTLE, Contender

SLOTS, SERVICE = 4, 0.010
CAPACITY = round(SLOTS / SERVICE)
UPSTREAM = ["--slots", str(SLOTS), "--service", "10ms"]
DEADLINE = ["--deadline", "200ms"]
TIERS = ["critical", "default", "degraded", "sheddable"]
# Levels of Outrigger's threshold: its tiers times the cohorts of each.
LEVELS = len(TIERS) * 128
ENOUGH = 0.95
PLAIN = [Contender("nothing"), Contender("outrigger", "outrigger.yaml"),
         Contender("envoy", "envoy.yaml"), Contender("haproxy", "haproxy.cfg")]


def beside(config, label="outrigger"):
    """Outrigger with a file of its own, and the others as in the first scenario."""
    own = Contender("outrigger", config, label)
    return [own if other.kind == "outrigger" else other for other in PLAIN]


def at(*moments):
    return ["--mark", ",".join(f"{moment}s" for moment in moments)]


def sending(rate, duration, *more):
    return ["--rate", f"{rate}/s", "--duration", f"{duration}s", *more]


def say(text):
    print(text, file=sys.stderr, flush=True)


def table(heads, rows):
    print("\n| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def ms(value):
    return "–" if value is None else f"{value:.1f}"


def percent(part, whole, digits=1):
    return f"{part / whole:.{digits}%}" if whole else "–"


def times(value, base):
    return f"{value / base:.2f}" if value and base else "–"


def seconds(part):
    return part["to"] - part["from"]


def listed(counts):
    """What was late, refused or failed, the most frequent first."""
    found = {"late": counts["late"], **counts["refused"], **counts["failed"]}
    found = sorted(found.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count} × {name}" for name, count in found if count) or "–"


def goodput(stage, contenders, unit):
    kept, half, rows = {}, CAPACITY // 2, {factor: [] for factor in (3, 10)}
    calm = []
    for contender in contenders:
        light = stage.run(contender, [UPSTREAM], sending(CAPACITY // 10, unit, *DEADLINE))
        base = light.part(0)["all"]["p99_ms"]
        quiet = stage.run(contender, [UPSTREAM], sending(half, 3 * unit, *DEADLINE))
        counts = quiet.part(0)["all"]
        refused = counts["offered"] - counts["good"] - counts["late"]
        calm.append([contender, counts["offered"], refused, counts["late"],
                     ms(counts["p50_ms"]), ms(counts["p99_ms"]), ms(base)])
        kept[str(contender)] = {"light": light.load, "half": quiet.load}
        say(f"{contender}: {refused} of {counts['offered']} refused at half load")
        for factor in rows:
            runs, cells = steps(stage, contender, unit, factor, base)
            rows[factor].append([contender, *cells])
            kept[str(contender)][f"{factor}x"] = runs
            say(f"{contender}: {cells[0]} of capacity at {factor} times it")
    rounds = f", {stage.rounds} rounds" if stage.rounds > 1 else ""
    table([f"half load, {half}/s for {3 * unit} s", "requests", "refused", "late", "p50 ms",
           "p99 ms", "p99 ms at a tenth"], calm)
    for factor, found in rows.items():
        table([f"{factor} × capacity, {factor * CAPACITY}/s for {unit} s", f"goodput{rounds}",
               f"in the first {SETTLE} s", "p50 ms", "p99 ms", "p99 / unloaded"], found)
    return kept


def steps(stage, contender, unit, factor, base):
    """Steps from half the capacity to so many times it: what was counted, and the cells.

    Goodput is told for each round, since a proxy that keeps up or does not has no median; of the
    quantiles the medians are.
    """
    start, begin, runs, shares, firsts, quantiles = unit // 2, unit // 2 + SETTLE, [], [], [], []
    step = ["--step", f"{start}s:{factor * CAPACITY}/s", *at(begin)]
    for turn in range(stage.rounds):
        load = sending(CAPACITY // 2, start + unit, *DEADLINE, *step)
        run = stage.run(contender, [UPSTREAM], load, turn)
        first, rest = run.part(start), run.part(begin)
        shares.append(percent(rest["all"]["good"], CAPACITY * seconds(rest)))
        firsts.append(percent(first["all"]["good"], CAPACITY * seconds(first)))
        if rest["all"]["good"]:
            quantiles.append((rest["all"]["p50_ms"], rest["all"]["p99_ms"]))
        runs.append(run.load)
    p50, p99 = map(statistics.median, zip(*quantiles)) if quantiles else (None, None)
    return runs, [" ".join(shares), " ".join(firsts), ms(p50), ms(p99), times(p99, base)]


def classes(stage, contenders, unit, title, sent):
    """At three times the capacity: how much of each class was answered in time."""
    kept, rows = {}, []
    names = [text.split(":")[0] for text in sent]
    options = [option for text in sent for option in ("--class", text)]
    for contender in contenders:
        load = sending(3 * CAPACITY, SETTLE + unit, *DEADLINE, *options, *at(SETTLE))
        run = stage.run(contender, [UPSTREAM], load)
        part = run.part(SETTLE)
        by_name = [part["classes"][name] for name in names]
        cells = [percent(counts["good"], counts["offered"], 2) for counts in by_name]
        worst = ms(part["all"]["p99_ms"])
        total = percent(part["all"]["good"], CAPACITY * seconds(part))
        rows.append([contender, *cells, total, worst, swing(run.thresholds)])
        kept[str(contender)] = {"load": run.load, "thresholds": run.thresholds}
        say(f"{contender}: {', '.join(cells)}")
    table([title, *names, "goodput", "p99 ms", "threshold's swing"], rows)
    return kept


def swing(samples):
    """The widest range of a threshold after it has settled, in shares of all levels."""
    skipped = samples[round(SETTLE / SAMPLE_INTERVAL):]
    ranges = [max(series) - min(series) for series in zip(*skipped)]
    return percent(max(ranges), LEVELS) if ranges else "–"


def tiers(stage, contenders, unit):
    shares = ["10%", "30%", "30%", "30%"]
    sent = [f"{tier}:{share}:x-priority={tier},x-client-id=caller*200"
            for tier, share in zip(TIERS, shares)]
    return classes(stage, contenders, unit, "answered in time, by tier", sent)


def fairness(stage, contenders, unit):
    sent = ["small:4.8%:x-client-id=small", "big:95.2%:x-client-id=big"]
    return classes(stage, contenders, unit, "answered in time, by caller", sent)


def hang(stage, contenders, unit):
    kept, rows, names = {}, [], ["first", "second", "third"]
    options = [option for name in names for option in ("--class", f"{name}:33%:path=/{name}")]
    upstreams = [UPSTREAM, [*UPSTREAM, "--schedule", f"{unit}s:hang"], UPSTREAM]
    for contender in contenders:
        load = sending(3 * CAPACITY // 4, 2 * unit, "--deadline", "1s", *options)
        run = stage.run(contender, upstreams, [*load, *at(SETTLE, unit)])
        before, after = run.part(SETTLE)["classes"], run.part(unit)["classes"]
        for name in names:
            old, new = before[name], after[name]
            rows.append([f"{contender}, {name}", ms(old["p99_ms"]), ms(new["p99_ms"]),
                         times(new["p99_ms"], old["p99_ms"]),
                         percent(old["good"], old["offered"], 2),
                         percent(new["good"], new["offered"], 2), listed(new)])
        kept[str(contender)] = run.load
    table(["the second of three hangs", "p99 ms before", "p99 ms after", "ratio", "good before",
           "good after", "not good after"], rows)
    return kept


def hedge(stage, contenders, unit):
    kept, rows = {}, []
    upstream = ["--slots", "64", "--service", "10ms", "--slow-share", "5%", "--slow-factor", "20"]
    for contender in contenders:
        load = sending(300, unit + 2 * SETTLE, "--deadline", "1s", *at(2 * SETTLE))
        run = stage.run(contender, [upstream, upstream], load)
        counts = run.part(2 * SETTLE)["all"]
        arrived = sum(one["arrived"] for one in run.upstreams)
        offered = run.part(0)["all"]["offered"] + counts["offered"]
        rows.append([contender, ms(counts["p50_ms"]), ms(counts["p90_ms"]), ms(counts["p99_ms"]),
                     percent(arrived - offered, offered), listed(counts)])
        kept[str(contender)] = {"load": run.load, "upstreams": run.upstreams}
        say(f"{contender}: p99 {ms(counts['p99_ms'])} ms")
    table(["1 of 20 takes 20 times as long", "p50 ms", "p90 ms", "p99 ms", "extra requests",
           "not good"], rows)
    return kept


def third_party(stage, contenders, unit):
    kept, rows, limit = {}, [], 50
    upstream = ["--slots", "64", "--service", "10ms", "--rate", f"{limit}/s"]
    for contender in contenders:
        load = sending(2 * limit, unit + unit // 2, "--deadline", "2s")
        run = stage.run(contender, [upstream], load)
        series = run.upstreams[0]["seconds"]
        # The last second is not a whole one.
        for title, span in [("at first", slice(0, unit)), ("then", slice(unit, -1))]:
            done, refused = sum(series["done"][span]), sum(series["refused"][span])
            length = len(series["done"][span])
            rows.append([f"{contender}, {title} ({length} s)",
                         f"{done / length:.1f}" if length else "–",
                         percent(refused, done + refused, 2)])
        kept[str(contender)] = {"load": run.load, "upstream": run.upstreams[0]}
        say(f"{contender}: {rows[-1][1]} a second, {rows[-1][2]} refused")
    table([f"{limit}/s allowed, {2 * limit}/s wanted", "passed a second",
           "429 among those sent on"], rows)
    return kept


def storm(stage, contenders, unit):
    kept, rows, rate = {}, [], round(0.8 * CAPACITY)
    upstream = [*UPSTREAM, "--schedule", f"{unit}s:die,{2 * unit}s:half,{3 * unit}s:full"]
    ends = [0, unit, 2 * unit, 3 * unit, 3 * unit + 5]
    for contender in contenders:
        load = sending(rate, ends[-1] + unit, *DEADLINE, "--retries", "3", *at(*ends[1:]))
        run = stage.run(contender, [upstream], load)
        parts = [run.part(start)["all"] for start in ends]
        cells = [percent(part["good"], part["offered"]) for part in parts]
        sent = parts[-1]["sent"] / max(1, parts[-1]["offered"])
        rows.append([contender, *cells, back(run.load, 3 * unit), f"{sent:.2f}"])
        kept[str(contender)] = run.load
        say(f"{contender}: {cells[-1]} good in the end")
    table([f"good of {rate}/s, three retries", "before", f"dead for {unit} s", "half capacity",
           "5 s after full", f"{unit} s after that", "back after", "sent / wanted"], rows)
    return kept


def back(load, restored):
    """How many seconds after the capacity came back all seconds were good ones."""
    series = load["seconds"]["all"]
    pairs = list(zip(series["good"], series["offered"]))[restored:]
    bad = [at for at, (good, offered) in enumerate(pairs) if good < ENOUGH * offered]
    waited = bad[-1] + 1 if bad else 0
    return f"{waited} s" if waited < len(pairs) else "never"


# By name: the function, everything it can compare, what it compares unless told, and the seconds
# of a phase.
ALL = {
    "goodput": (goodput, PLAIN, None, 20),
    "tiers": (tiers, beside("outrigger-tiers.yaml"), ["nothing", "outrigger"], 20),
    "fairness": (fairness, beside("outrigger-fairness.yaml"), ["nothing", "outrigger"], 20),
    "hang": (hang, [Contender("outrigger", "outrigger-hang.yaml")], None, 20),
    "hedge": (hedge, [*PLAIN[:2], Contender("outrigger", "outrigger-hedge.yaml",
                                            "outrigger, hedging")], None, 30),
    "third-party": (third_party, beside("outrigger-third-party.yaml"),
                    ["nothing", "outrigger"], 60),
    "storm": (storm, PLAIN, ["nothing", "outrigger"], 20),
}
