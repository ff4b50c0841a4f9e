"""Runs the scenarios of overload and prints what came of each; `--help` lists the options."""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile

import scenarios
from stage import Stage

# Load of the machine above which other work shows in the figures.
BUSY = 0.5
KINDS = ["nothing", "outrigger", "envoy", "haproxy"]


def arguments():
    parser = argparse.ArgumentParser(prog="bench/overload.sh", description="Measures overload.")
    parser.add_argument("scenario", nargs="*", default=["goodput"],
                        help=f"any of {', '.join(scenarios.ALL)}; goodput unless told")
    parser.add_argument("--duration", type=int,
                        help="seconds of a phase; 20 to 60 unless told, by scenario")
    parser.add_argument("--only", help=f"any of {','.join(KINDS)}, with commas between")
    parser.add_argument("--rounds", type=int, default=3,
                        help="runs of each step in goodput, each with arrivals of its own")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals; the same gives the same")
    parser.add_argument("--tell-deadline", action="store_true",
                        help="callers send x-request-timeout-ms, which they do not by default")
    parser.add_argument("--json", type=pathlib.Path, help="file for all that was counted")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",") if chosen.only else None
    for name, known in [(name, scenarios.ALL) for name in chosen.scenario] + \
            [(name, KINDS) for name in chosen.only or []]:
        if name not in known:
            parser.error(f"`{name}` is none of {', '.join(known)}")
    if chosen.rounds < 1:
        parser.error("--rounds: one at least")
    if chosen.duration is not None and chosen.duration < 4:
        parser.error("--duration: 4 seconds at least, of which the first two are not counted")
    return chosen


def contenders(chosen, name):
    """Whom a scenario compares in this run."""
    _, known, usual, _ = scenarios.ALL[name]
    wanted = chosen.only or usual or KINDS
    return [contender for contender in known if contender.kind in wanted]


def main():
    chosen = arguments()
    kinds = {contender.kind for name in chosen.scenario for contender in contenders(chosen, name)}
    if "outrigger" in kinds and not os.access(os.environ["OUTRIGGER"], os.X_OK):
        sys.exit(f"overload: no {os.environ['OUTRIGGER']}; run `cargo build --release`, name a "
                 "binary in OUTRIGGER, or choose the others with --only")
    if os.getloadavg()[0] > BUSY:
        print(f"overload: the machine is busy already, load {os.getloadavg()[0]:.1f}; what is "
              "measured now is worse than it is", file=sys.stderr)
    # Thousands of callers at once are thousands of connections, at both ends.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The first Ctrl-C or SIGTERM unwinds the blocks, which stop what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder, kept = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-bench-")), {}
    try:
        more = ["--tell-deadline"] if chosen.tell_deadline else []
        stage = Stage(folder, os.environ["RIG"], chosen.seed, chosen.rounds, more)
        for name in chosen.scenario:
            measure, _, _, usual = scenarios.ALL[name]
            unit = chosen.duration or usual
            print(f"{name}:", file=sys.stderr, flush=True)
            kept[name] = measure(stage, contenders(chosen, name), unit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
