#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""ssh.py - ssh works over it: a command, a file through it both ways, rsync over ssh; how much is on the ring is reported"""

import os
import shutil
import subprocess

from syslib import check, free_port, main, need, random_file, sha


def test(rig):
    need("sshd", "ssh", "ssh-keygen", "rsync", root=True)
    port, d = free_port(), rig.path("ssh")
    os.mkdir(d)
    os.chmod(d, 0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{d}/{name}"], check=True, stdin=subprocess.DEVNULL)
    shutil.copy(d + "/user.pub", d + "/authorized")
    made = not os.path.exists("/run/sshd")
    if made:
        os.mkdir("/run/sshd", 0o755)        # sshd's empty directory; without systemd nobody else makes it
    with open(d + "/conf", "w") as f:
        f.write(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\nPidFile {d}/pid\n"
                "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n")
    try:
        s = rig.start([shutil.which("sshd"), "-D", "-e", "-f", d + "/conf"], label="sshd").listening(port)
        ssh = ["ssh", "-F", "none", "-p", str(port), "-i", d + "/user", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={d}/known",
               "-o", "BatchMode=yes"]
        out = rig.run([*ssh, "root@127.0.0.1", "echo works; exit 5"], label="ssh", status=5)
        check("works" in out, out)
        h = random_file(rig.path("a"), 20 << 20)
        with open(rig.path("a"), "rb") as f, open(rig.path("b"), "wb") as g:
            rig.start([*ssh, "root@127.0.0.1", "cat"], label="ssh", stdin=f, stdout=g).wait(60)
        check(sha(rig.path("b")) == h, "what came back through ssh cat differs")
        rig.run(["rsync", "-a", "-e", " ".join(ssh), rig.path("a"), f"root@127.0.0.1:{rig.path('c')}"], label="rsync", seconds=60)
        check(sha(rig.path("c")) == h, "what rsync copied over ssh differs")
        s.stop()
        rig.share("ssh", least=None)
        rig.share("rsync", least=None)
    finally:
        if made:
            os.rmdir("/run/sshd")


main(test)
