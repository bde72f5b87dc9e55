# SPDX-License-Identifier: BSD-2-Clause
"""ftpsite.py - an FTP server with users of its own, for a test or a measurement; needs root

in.ftpd knows its users by /etc/passwd and PAM.  Here it runs in a mount namespace in which files of ours lie over
those of the host, so that nothing of the host changes and nobody can log in to it.  Two users, who are "nobody" to the
kernel: USER, with a password, and "ftp", for whom in.ftpd changes its root to the directory."""

import os
import shutil

USER, PASSWORD = "ntbsock-ftp", "over the ring"
HASH = ("$6$ntbsock$mnZXp5eW2.Ti5xZT9cU/u4xkioQCe0zYLRO8SYqUuEIdmF9RS"
        "J7nmha4n/R7xztbaoVmyypuOWhlyTXoR5r0z.")  # of it, as crypt(3) makes it
UID = 65534
PROGRAMS = ("in.ftpd", "tnftp", "unshare")
SERVER = "/usr/sbin/in.ftpd"
ARGS = "-n -z nossl"


class Site:
    """The site below @directory; its files lie in .home."""

    def __init__(self, directory):
        self.dir, self.home = directory, os.path.join(directory, "home")
        os.makedirs(os.path.join(directory, "etc/pam.d"))
        os.mkdir(self.home)
        os.mkdir(os.path.join(self.home, "incoming"))
        for d in (directory, self.home):
            os.chmod(d, 0o755)
        for d in (self.home, os.path.join(self.home, "incoming")):
            os.chown(d, UID, UID)
        with open("/etc/passwd") as f:
            users = [x for x in f if x.split(":")[0] not in (USER, "ftp")]
        self.write("passwd", "".join(users) + f"{USER}:{HASH}:{UID}:{UID}::{self.home}:/bin/sh\n"
                   f"ftp:*:{UID}:{UID}::{self.home}:/bin/sh\n")
        self.write("pam.d/ftp", "auth sufficient pam_ftp.so\nauth required pam_unix.so\naccount required pam_permit.so\n"
                   "session required pam_permit.so\n")
        self.write("shells", "/bin/sh\n")
        self.write("ftpusers", "root\n")
        self.write("ftpchroot", "")

    def write(self, name, text):
        with open(os.path.join(self.dir, "etc", name), "w") as f:
            f.write(text)

    def inside(self):
        """What a command begins with that is to see these users."""
        mounts = "".join(f'mount --bind "$0/etc/{n}" /etc/{n} && ' for n in ("passwd", "pam.d", "shells", "ftpusers", "ftpchroot"))
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts + 'exec "$@"', self.dir]

    def socat(self, port):
        return [shutil.which("socat"), f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"EXEC:{SERVER} {ARGS},nofork"]

    def xinetd(self, port):
        conf = os.path.join(self.dir, "xinetd.conf")
        with open(conf, "w") as f:
            f.write(f"service ntbsock-ftp\n{{\n\ttype = UNLISTED\n\tport = {port}\n\tbind = 127.0.0.1\n\tsocket_type = stream\n"
                    f"\tprotocol = tcp\n\twait = no\n\tuser = root\n\tserver = {SERVER}\n\tserver_args = {ARGS}\n"
                    "\tinstances = UNLIMITED\n\tcps = 1000 1\n}\n")
        return [shutil.which("xinetd"), "-dontfork", "-f", conf, "-filelog", os.path.join(self.dir, "xinetd.log"),
                "-pidfile", os.path.join(self.dir, "xinetd.pid")]


def session(port, commands, anonymous=False):
    """What tnftp -n reads from its standard input for that session."""
    login = "user ftp nobody@localhost" if anonymous else f'user {USER} "{PASSWORD}"'
    return "\n".join([f"open 127.0.0.1 {port}", login, "binary", *commands, "quit", ""])
