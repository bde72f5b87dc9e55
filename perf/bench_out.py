# SPDX-License-Identifier: BSD-2-Clause
"""results.json, results.md (which also goes to standard output) and latency.svg."""
import json
import os
import subprocess

from bench_run import have, median

NAMES = (("limit", "bare limit"), ("ntb", "ntbsock"), ("unix", "AF_UNIX"), ("tcp", "TCP"), ("ucx", "UCX"),
         ("libfabric", "libfabric"))


def number(value):
    if value is None:
        return "–"
    return "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def verdict_table(rows):
    yield "| row | what | CPUs | measured | wanted | | figures |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for r in rows:
        yield "| %s | %s | %s | %s %s | %s %s | %s | %s |" % (
            r["row"], r["text"], r["where"], number(r["value"]), r["unit"] if r["value"] is not None else "",
            "≤" if r["sense"] == "<=" else "≥", number(r["threshold"]), r["verdict"], r["detail"])


def side_by_side(b):
    """Medians over all rounds of one distance; the larger group, so that near and far do not mix."""
    group = max(("near", "far"), key=lambda d: sum(r.distance == d for r in b.rounds))
    of = [r for r in b.rounds if r.distance == group]
    if not of:
        return

    def med(name, scale=1.0):
        v = [r.f[name] for r in of if name in r.f]
        return number(median(v) * scale) if v else "–"

    yield ""
    yield "%d rounds, CPUs %s: one line bounced %s ns." % (len(of), group, med("line"))
    yield ""
    yield "| | 1 byte, us | 100 bytes¹, us | 64 KiB, us | spinning, 1 byte | stream 64 B, GB/s | 1 KiB | 64 KiB | " \
          "1 MiB | connections/s |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    ladder = b.ladder
    for key, name in NAMES:
        if key == "limit":
            cells = [med("limit.slot1.%d" % b.slots, 1e-3), med("limit.slot2.%d" % b.slots, 1e-3)]
        elif key in ("ucx", "libfabric"):
            cells = [med(key + ".lat.1", 1e-3), med(key + ".lat.116", 1e-3)]
        else:
            cells = [med(key + ".block.1", 1e-3), med(key + ".block.100", 1e-3)]
        if key in ("ucx", "libfabric"):
            cells.append(med(key + ".lat.65536", 1e-3))
        else:
            cells.append(number(ladder.get(key, {}).get(65536, 0) / 1e3) if 65536 in ladder.get(key, {}) else "–")
        cells.append(med(key + ".spin.1", 1e-3))
        if key == "limit":
            cells += ["–", "–", med("limit.stream.best", 1e-9), "–"]
        else:
            cells += [med("%s.stream.%d" % (key, s), 1e-9) for s in (64, 1024, 65536, 1 << 20)]
        cells.append(med(key + ".connrate"))
        if any(c != "–" for c in cells):
            yield "| %s | %s |" % (name, " | ".join(cells))
    yield ""
    yield "¹ UCX and libfabric: 116 bytes.  Latency is one way, half a round trip, median."


def ftp_table(b):
    """SOVIA's: seconds that a file takes by ftp and by cp."""
    of = [a for a in b.apps if a["name"].startswith("ftp") and all(a["rates"].values())]
    if not of:
        return
    yield ""
    yield "| | TCP, s | ntbsock, s | ratio | cp on the same files, s |"
    yield "| --- | --- | --- | --- | --- |"
    for a in of:
        size, copy = b.cp[a["name"].split(", ")[1]]
        tcp, ntb = (size / median(a["rates"][t]) for t in ("tcp", "ntb"))
        yield "| %s | %.3f | %.3f | %.2f | %.3f |" % (a["name"], tcp, ntb, median(
            [n / t for n, t in zip(a["rates"]["ntb"], a["rates"]["tcp"])]), copy)


def plot(b, out):
    """Latency over size, log-log.  None if done, else why not."""
    if not b.ladder:
        return "nothing to plot"
    if not have("gnuplot"):
        return "gnuplot is not installed (apt-get install gnuplot-nox); latency.dat has the figures"
    series = [(k, n) for k, n in NAMES if k in b.ladder]
    sizes = sorted({s for d in b.ladder.values() for s in d})
    data = os.path.join(out, "latency.dat")
    with open(data, "w") as f:
        f.write("# size " + " ".join(k for k, _ in series) + "  (ns, one way, median)\n")
        for s in sizes:
            f.write("%d %s\n" % (s, " ".join("%.1f" % b.ladder[k][s] if s in b.ladder[k] else "nan"
                                               for k, _ in series)))
    colour = {"limit": "#888888", "ntb": "#c02020", "unix": "#2060c0", "tcp": "#208040", "ucx": "#c08020",
              "libfabric": "#8040a0"}
    lines = ", ".join("'%s' using 1:($%d/1000) title '%s' with linespoints lw 2 pt 7 ps 0.5 lc rgb '%s'" % (
        data, i + 2, n, colour.get(k, "#000000")) for i, (k, n) in enumerate(series))
    # where a message begins to take another way: one line, two lines, ring of bytes, copies past the cache
    marks = "".join("set arrow from %s, graph 0 to %s, graph 1 nohead lc rgb '#dddddd'\n"
                    "set label '%s' at %s, graph 1.03 %s font ',10' tc rgb '#666666'\n" % (at, at, text, at, side)
                    for at, text, side in ((54.5, "one line", "right"), (116.5, "two lines", "left"),
                                           (16384, "LONG", "center")))
    script = ("set terminal svg size 860,560 noenhanced font 'sans,12' background '#ffffff'\nset output '%s'\n"
              "set datafile missing 'nan'\nset tmargin 3\nset logscale xy\nset grid ytics lc rgb '#eeeeee'\nset key top left\n"
              "set xlabel 'message size, bytes'\nset ylabel 'one-way latency, us'\n"
              "set xtics (1,8,54,116,256,'1K' 1024,'4K' 4096,'16K' 16384,'64K' 65536)\n"
              "set xrange [0.9:80000]\n%splot %s\n" % (os.path.join(out, "latency.svg"), marks, lines))
    p = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
    return None if p.returncode == 0 else "gnuplot: " + (p.stderr.strip().splitlines() or ["failed"])[-1]


def write(b, rows, info, out):
    lines = ["# ntbsock beside the limit and its peers", "",
             "%(cpu)s, %(cpus)d CPUs, Linux %(kernel)s, %(time)s, load at the start %(load).1f." % info,
             "Ratios are made within a round; medians over the rounds.  A ring has %d slots and %d KiB." % (
                 b.slots, b.bulk >> 10), ""]
    lines += verdict_table(rows)
    lines += side_by_side(b)
    lines += ftp_table(b)
    why = plot(b, out)
    if why:
        b.notes.append("no plot: " + why)
    lines += [""] + ["- " + n for n in b.notes]
    lines += ["- not measured: %s: %s" % e for e in sorted(b.errors.items())]
    text = "\n".join(lines).rstrip() + "\n"
    with open(os.path.join(out, "results.md"), "w") as f:
        f.write(text)
    with open(os.path.join(out, "results.json"), "w") as f:
        json.dump({"machine": info, "quick": b.quick, "slots": b.slots, "bulk_bytes": b.bulk, "rows": rows,
                   "rounds": [{"distance": r.distance, "figures": r.f, "errors": r.errors} for r in b.rounds],
                   "ladder_ns": b.ladder, "single": b.single, "apps": b.apps, "errors": b.errors,
                   "notes": b.notes}, f, indent=1)
        f.write("\n")
    print(text)
    print("Written: %s" % ", ".join(os.path.join(out, n) for n in ("results.md", "results.json") + (
        () if why else ("latency.svg",))))
