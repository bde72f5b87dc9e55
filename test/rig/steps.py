#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""steps.py - records what Linux' own driver does to the registers of a port, step by step

    steps.py [--build build] FAMILY >test/rig/steps/FAMILY.txt

Boots two guests on the model, lets the driver in one bind, enable the link, open a window, ring, and so on
(guest/steps.sh), and prints each step's accesses to registers by the primary's port, in order: "read|write SPACE OFFSET
LENGTH VALUE" and "interrupt VECTOR", below a line "# STEP".  Config space is left out but for what only this function
has there.  The files are what the drivers of driver-glue/vfio are compared with (test/unit/rig_steps.c): they are facts
about an unmodified driver, found by watching it, and change only with the kernel or the model."""

import argparse
import os
import sys
import time

import image
import rig as riglib

# Generation 3 has its link status and its topology in config space.
CONFIG = {"gen3": ("0x1a2", "0xd4")}


def lines_of(rig):
    rig.control("flush")
    with open(f"{rig.folder}/trace") as f:
        return f.read().splitlines()


def wanted(family, words):
    """An event of host 0's port that belongs to the record; words: SEQ TIME HOST NAME KIND ..."""
    if words[2:4] != ["0", "port"]:
        return False
    if words[4] == "interrupt":
        return True
    return words[4] in ("read", "write") and (words[5] == "bar0" or words[6] in CONFIG.get(family, ()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("family", choices=riglib.MODELS)
    args = parser.parse_args()
    image.make(f"{args.build}/rig", riglib.parts(args.family))
    steps, begin = [], None
    with riglib.Rig(args.build, args.family, iommu=False, trace=True) as rig:
        for name in riglib.GUESTS:
            rig.start(name, f"sh {riglib.HERE}/guest/steps.sh")
        guest, done, end = rig.guests["a"], 0, time.monotonic() + 170
        while time.monotonic() < end:
            guest.wait(time.monotonic() + 0.2)
            told = [x for x in guest.lines if x.startswith("STEP ")]
            for line in told[done:]:
                trace = lines_of(rig)
                if begin is None:
                    # The driver is the first to read what enumeration does not know of.
                    begin = next(i for i, x in enumerate(trace) if wanted(args.family, x.split()))
                steps.append((line.split()[2], trace[begin:]))
                begin, done = len(trace), done + 1
                open(f"{rig.out}/step.{done}", "w").close()
            if steps and steps[-1][0] == "remove":
                break
            if guest.status is not None:
                break
        if not steps or steps[-1][0] != "remove":
            sys.exit("steps.py: the guest did not get through:\n" + "\n".join(guest.lines[-30:]))
        rig.wait(30)
    print("# SPDX-License-Identifier: BSD-2-Clause")
    print(f"# What Linux 6.1 does to the registers of the {args.family} model; recorded by test/rig/steps.py")
    for name, trace in steps:
        print(f"# {name}")
        for line in trace:
            words = line.split()
            if wanted(args.family, words):
                print(" ".join(words[4:]))


if __name__ == "__main__":
    main()
