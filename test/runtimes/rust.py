#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 300
"""rust.py - Rust's tokio: workers that share an edge-triggered set; built from Debian's packages, without the network"""

import os
import shutil
import subprocess

from echolib import HERE, runtime
from syslib import check, main, need, skip

REGISTRY = "/usr/share/cargo/registry"      # where Debian puts the sources of crates
CARGO = """
[package]
name = "echo"
version = "0.1.0"
edition = "2021"
[[bin]]
name = "echo"
path = "echo.rs"
[dependencies]
tokio = { version = "1", features = ["net", "rt-multi-thread", "io-util"] }
"""
CONFIG = f"""
[source.crates-io]
replace-with = "debian"
[source.debian]
directory = "{REGISTRY}"
"""


def test(rig):
    need("cargo", "rustc")
    if not os.path.isdir(REGISTRY):
        skip("librust-tokio-dev is not installed")
    d = rig.path("rust")
    os.makedirs(d + "/.cargo")
    shutil.copy(HERE + "/echo.rs", d)
    for name, text in (("Cargo.toml", CARGO), (".cargo/config.toml", CONFIG)):
        with open(f"{d}/{name}", "w") as f:
            f.write(text)
    made = subprocess.run(["cargo", "build", "--release", "--offline", "--quiet"], cwd=d, capture_output=True, text=True,
                          env={**os.environ, "CARGO_HOME": d + "/home"}, stdin=subprocess.DEVNULL)
    check(made.returncode == 0, made.stderr)
    tokio = [d + "/target/release/echo"]
    runtime(rig, "Rust", "tokio", [*tokio, "server"], [*tokio, "client"], connections=60)
    rig.nothing_left("Rust")


main(test)
