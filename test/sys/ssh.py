#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# limit: 120
"""ssh.py - ssh works over it: a command, files through it both ways, rsync, scp and sftp; how much is on the ring is reported

sshd is all that takes a connection off the ring: it execs itself for each, its child goes into a seccomp sandbox before
login, it passes descriptors between its monitor and its child, and the program that it starts is anybody's."""

import hashlib
import os
import shutil
import subprocess

from syslib import check, free_port, main, need, random_file, sha


def test(rig):
    need("sshd", "ssh", "ssh-keygen", "rsync", "scp", "sftp", root=True)
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
                "StrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\nPermitRootLogin yes\nPasswordAuthentication no\n")
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
        h = random_file(rig.path("big"), 100 << 20)
        to = ["-F", "none", "-P", str(port), "-i", d + "/user", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={d}/known",
              "-o", "BatchMode=yes", "-q"]
        for name, put, get in (("scp", ["scp", *to, rig.path("big"), f"root@127.0.0.1:{rig.path('up')}"],
                                ["scp", *to, f"root@127.0.0.1:{rig.path('up')}", rig.path("down")]),
                               ("scp-old", ["scp", "-O", *to, rig.path("big"), f"root@127.0.0.1:{rig.path('up')}"],
                                ["scp", "-O", *to, f"root@127.0.0.1:{rig.path('up')}", rig.path("down")]),
                               ("sftp", None, None)):
            if name == "sftp":
                with open(rig.path("batch"), "w") as f:
                    f.write(f"put {rig.path('big')} {rig.path('up')}\nget {rig.path('up')} {rig.path('down')}\n")
                rig.run(["sftp", *to, "-b", rig.path("batch"), "root@127.0.0.1"], label=name)
            else:
                rig.run(put, label=name)
                rig.run(get, label=name)
            check(sha(rig.path("up")) == h and sha(rig.path("down")) == h, f"what {name} copied differs")
            os.unlink(rig.path("up"))
            os.unlink(rig.path("down"))
        # many at once: the unauthenticated child, its monitor and the session of each
        many = [rig.start([*ssh, "root@127.0.0.1", f"head -c 200000 {rig.path('a')} | sha256sum; cat >/dev/null"], label="ssh", stdin=open(rig.path("a")))
                for _ in range(6)]
        with open(rig.path("a"), "rb") as f:
            head = hashlib.sha256(f.read(200000)).hexdigest()
        for p in many:
            check(head in p.wait(30).text(), p.text())
        s.stop()
        rig.nothing_left("sshd and its clients")
        for name in ("ssh", "rsync", "scp", "scp-old", "sftp", "sshd"):
            rig.share(name, least=None)
    finally:
        if made:
            os.rmdir("/run/sshd")


main(test)
