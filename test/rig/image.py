#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""image.py - fetches and builds what the guests of the rig need, once

    image.py --dir build/rig [PART...]

Parts:
    kernel     vmlinux and modules of Debian 12's kernel, and a static busybox
    qemu       Debian 12's QEMU
    qemu-vu    the QEMU of trixie-backports: the first that speaks vfio-user, which the software NTB is reached by
    ntb        Linux' NTB drivers and clients, which Debian does not build, from Debian's own kernel source; the
               kernel's ntb_test.sh
Without PART all of them.

Everything comes out of Debian packages, which apt verifies as always; the mirror is the one in this machine's apt
sources.  Packages are unpacked into the directory, never installed: nothing else on the machine changes, and root is
not needed.  A QEMU from another release is started through the dynamic loader of that release (rig.py).  A part is
built in a directory beside its own and moved there when it is whole; it is done again if this file changes."""

import argparse
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import time

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RELEASE, NEWER = "bookworm", "trixie"
PARTS = ("kernel", "qemu", "qemu-vu", "ntb")
NEEDS = {"ntb": ("kernel",)}     # its modules are added to the kernel's
FETCH = ("apt-get", "dpkg-deb")
TOOLS = {"kernel": (*FETCH, "depmod"), "qemu": FETCH, "qemu-vu": FETCH,
         "ntb": (*FETCH, "depmod", "tar", "xz", "make", "gcc-12", "objcopy")}

# Modules the guests use; what these depend on comes along.
MODULES = """virtio_pci virtio_net 9p 9pnet_virtio overlay
    vfio vfio_iommu_type1 vfio-pci ioatdma configfs uio_pci_generic tcp_diag""".split()
NTB_CONFIG = [f"CONFIG_{name}=m" for name in (
    "NTB", "NTB_INTEL", "NTB_AMD", "NTB_TOOL", "NTB_PINGPONG", "NTB_PERF", "NTB_TRANSPORT", "NTB_NETDEV")]


class Failed(Exception):
    pass


def say(text):
    print(f"rig: {text}", flush=True)


def run(*argv, cwd=None, **kwargs):
    """Runs a tool silently; what it said is shown if it fails."""
    try:
        return subprocess.run(argv, cwd=cwd, check=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **kwargs).stdout
    except FileNotFoundError:
        raise Failed(f"{argv[0]} is missing (test/deps.sh rig)") from None
    except subprocess.CalledProcessError as e:
        raise Failed(f"{' '.join(argv[:3])} ... ended with {e.returncode}:\n{e.stdout[-3000:]}") from None


class Apt:
    """apt with lists, cache and an empty package state of its own: resolves and verifies, installs nothing."""

    def __init__(self, folder, sources, preferences=""):
        self.folder = os.path.abspath(folder)
        for sub in ("lists/partial", "cache/archives/partial"):
            os.makedirs(f"{self.folder}/{sub}")
        open(f"{self.folder}/status", "w").close()
        with open(f"{self.folder}/sources.list", "w") as f:
            f.writelines(f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for uri, suite in sources)
        with open(f"{self.folder}/preferences", "w") as f:
            f.write(preferences)
        self.options = [o for name, value in {
            "Dir::State": self.folder, "Dir::State::lists": f"{self.folder}/lists",
            "Dir::State::status": f"{self.folder}/status", "Dir::Cache": f"{self.folder}/cache",
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": f"{self.folder}/preferences", "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Install-Recommends": "false", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
            "Acquire::Retries": "3", "Debug::NoLocking": "true"}.items() for o in ("-o", f"{name}={value}")]
        run("apt-get", *self.options, "update", "-q", "--error-on=any")

    def depends(self, package):
        """The versioned package behind one that only names it: linux-image-amd64 -> linux-image-6.1.0-...-amd64."""
        out = run("apt-cache", *self.options, "depends", package)
        found = re.search(r"Depends: (\S+)", out)
        if not found:
            raise Failed(f"{package} depends on nothing here:\n{out}")
        return found.group(1)

    def unpack(self, packages, into, alone=False):
        """Downloads packages, unless @alone with all they depend on, and unpacks them into a directory."""
        archives = f"{self.folder}/cache/archives"
        if alone:
            run("apt-get", *self.options, "download", "-q", *packages, cwd=archives)
        else:
            run("apt-get", *self.options, "install", "-y", "-q", "--download-only", *packages)
        debs = sorted(glob.glob(f"{archives}/*.deb"))
        size = sum(os.path.getsize(d) for d in debs)
        say(f"{' '.join(packages[:2])}: {len(debs)} packages, {size >> 20} MB")
        for deb in debs:
            run("dpkg-deb", "-x", deb, into)
            os.unlink(deb)
        for rest in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "etc", "var"):
            shutil.rmtree(f"{into}/{rest}", ignore_errors=True)


class Packages:
    """The two releases; each is asked for once, when the first part wants it."""

    def __init__(self, folder):
        self.folder, self.apts = folder, {}
        os.makedirs(f"{folder}/none/partial")

    def configured(self, suite):
        """Where this machine's apt gets a suite from."""
        out = run("apt-get", "update", "--print-uris", "-o", f"Dir::State::lists={self.folder}/none",
                  "-o", "Debug::NoLocking=true")
        found = re.search(rf"^'(\S+)/dists/{suite}/InRelease'", out, re.M)
        return found and found.group(1)

    def release(self):
        if RELEASE not in self.apts:
            suites = (RELEASE, RELEASE + "-updates", RELEASE + "-security")
            sources = [(uri, suite) for suite in suites for uri in [self.configured(suite)] if uri]
            if not sources or sources[0][1] != RELEASE:
                raise Failed(f"apt has no source for Debian 12 ({RELEASE}): the rig takes its packages from there")
            self.apts[RELEASE] = Apt(f"{self.folder}/{RELEASE}", sources)
        return self.apts[RELEASE]

    def newer(self):
        if NEWER not in self.apts:
            uri = self.configured(RELEASE)
            if not uri:
                raise Failed(f"apt has no source for Debian 12 ({RELEASE}), and so no mirror for {NEWER}")
            # By codename: pinned by archive, the suite does not match, and an older QEMU without vfio-user is taken.
            self.apts[NEWER] = Apt(f"{self.folder}/{NEWER}", [(uri, NEWER), (uri, NEWER + "-backports")],
                                   f"Package: *\nPin: release n={NEWER}-backports\nPin-Priority: 500\n")
        return self.apts[NEWER]


def extract_vmlinux(bzimage, vmlinux):
    """The ELF kernel inside: QEMU boots it as it is, and the guest does not spend seconds on unpacking it.
    Offsets: Linux Documentation/x86/boot.rst, setup_sects, payload_offset, payload_length."""
    with open(bzimage, "rb") as f:
        image = f.read()
    sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    try:
        elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start:start + length])
    except lzma.LZMAError as e:
        raise Failed(f"{bzimage}: its payload is not xz ({e})") from None
    if elf[:4] != b"\x7fELF":
        raise Failed(f"{bzimage}: its payload is no ELF file")
    with open(vmlinux, "wb") as f:
        f.write(elf)


def module_name(path):
    return os.path.basename(path)[:-len(".ko")].replace("-", "_")


def module_depends(path):
    with open(path, "rb") as f:
        found = re.search(rb"\0depends=([^\0]*)\0", f.read())
    return [d.replace("-", "_") for d in found.group(1).decode().split(",") if d] if found else []


def build_kernel(folder, packages, _):
    apt = packages.release()
    package = apt.depends("linux-image-amd64")
    apt.unpack([package, "busybox-static"], f"{folder}/tree", alone=True)
    release, = os.listdir(f"{folder}/tree/lib/modules")
    extract_vmlinux(f"{folder}/tree/boot/vmlinuz-{release}", f"{folder}/vmlinux")
    shutil.move(f"{folder}/tree/bin/busybox", f"{folder}/busybox")
    with open(f"{folder}/release", "w") as f:
        f.write(release + "\n")
    source = f"{folder}/tree/lib/modules/{release}"
    known = {module_name(p): p for p in glob.glob(f"{source}/kernel/**/*.ko", recursive=True)}
    target = f"{folder}/lib/modules/{release}"
    todo = [m.replace("-", "_") for m in MODULES]
    missing = [m for m in todo if m not in known]
    if missing:
        raise Failed(f"{package} has no module {' '.join(missing)}")
    while todo:
        path = known[todo.pop()]
        copy = f"{target}/{os.path.basename(path)}"
        if not os.path.exists(copy):
            os.makedirs(target, exist_ok=True)
            shutil.copyfile(path, copy)
            todo += [d for d in module_depends(path) if d in known]
    for name in ("modules.builtin", "modules.order"):
        shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
    run("depmod", "-b", folder, release)
    shutil.rmtree(f"{folder}/tree")


def build_qemu(folder, packages, _):
    packages.release().unpack(["qemu-system-x86"], folder)


def build_qemu_vu(folder, packages, _):
    packages.newer().unpack(["qemu-system-x86"], folder)


def build_ntb(folder, packages, done):
    with open(f"{done}/kernel/release") as f:
        release = f.read().strip()
    apt = packages.release()
    headers = f"linux-headers-{release}"
    common = headers.replace("-amd64", "-common")
    # Not their dependencies: compilers are asked of the machine, and their libraries would be a second system.
    version = release.split("-")[0].rsplit(".", 1)[0]
    apt.unpack([headers, common, f"linux-kbuild-{version}", f"linux-source-{version}"], f"{folder}/tree", alone=True)
    tree = os.path.abspath(f"{folder}/tree")
    wanted = [f"linux-source-{version}/{p}" for p in (
        "drivers/ntb", "drivers/net/ntb_netdev.c", "tools/testing/selftests/ntb")]
    say("looking for the NTB drivers in the kernel source")
    archive = f"{tree}/usr/src/linux-source-{version}.tar.xz"
    unxz = subprocess.Popen(("xz", "-dc", "-T0", archive), stdout=subprocess.PIPE)
    tar = subprocess.run(("tar", "x", "-C", tree, *wanted), stdin=unxz.stdout, check=False)
    unxz.stdout.close()
    if unxz.wait() != 0 or tar.returncode != 0:
        raise Failed(f"{' '.join(wanted)} could not be unpacked from {archive}")
    os.unlink(archive)
    source, kbuild = f"{tree}/linux-source-{version}", f"{tree}/build"
    os.makedirs(kbuild)
    shutil.move(f"{source}/drivers/ntb", f"{kbuild}/ntb")
    shutil.move(f"{source}/drivers/net/ntb_netdev.c", f"{kbuild}/ntb_netdev.c")
    shutil.move(f"{source}/tools/testing/selftests/ntb/ntb_test.sh", f"{folder}/ntb_test.sh")
    with open(f"{kbuild}/Kbuild", "w") as f:
        f.write("obj-m += ntb/\nobj-m += ntb_netdev.o\n")
    # The one absolute path in the headers
    makefile = f"{tree}/usr/src/{headers}/Makefile"
    with open(makefile) as f:
        text = f.read()
    with open(makefile, "w") as f:
        f.write(text.replace("/usr/src/", f"{tree}/usr/src/"))
    say("building the NTB modules")
    ours = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "B", "SAN")    # of the make that called us
    run("make", "-C", f"{tree}/usr/src/{headers}", f"M={kbuild}", f"-j{os.cpu_count()}", *NTB_CONFIG, "modules",
        env={k: v for k, v in os.environ.items() if k not in ours})
    target = f"{folder}/lib/modules/{release}"
    shutil.copytree(f"{done}/kernel/lib/modules/{release}", target)
    built = glob.glob(f"{kbuild}/**/*.ko", recursive=True)
    if len(built) != len(NTB_CONFIG):
        raise Failed(f"{len(built)} modules instead of {len(NTB_CONFIG)}: {' '.join(built)}")
    for path in built:
        run("objcopy", "--strip-debug", path, f"{target}/{os.path.basename(path)}")
    run("depmod", "-b", folder, release)
    shutil.rmtree(tree)


BUILD = {"kernel": build_kernel, "qemu": build_qemu, "qemu-vu": build_qemu_vu, "ntb": build_ntb}


def recipe():
    with open(__file__, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def is_done(folder, part):
    try:
        with open(f"{folder}/{part}/.done") as f:
            return f.read() == recipe()
    except OSError:
        return False


def make(folder, parts):
    """Makes what of these parts, and of what they need, is not there yet; waits for whoever is at it already."""
    if not outstanding(folder, parts):
        return
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_locked(folder, outstanding(folder, parts))


def outstanding(folder, parts):
    return [p for p in PARTS if not is_done(folder, p) and any(p == w or p in NEEDS.get(w, ()) for w in parts)]


def make_locked(folder, todo):
    os.environ["PATH"] += ":/usr/sbin:/sbin"     # depmod; not in everybody's path
    missing = sorted({t for p in todo for t in TOOLS[p] if not shutil.which(t)})
    if missing:
        raise Failed(f"missing: {' '.join(missing)} (test/deps.sh rig)")
    if not os.path.exists(KEYRING):
        raise Failed(f"missing: {KEYRING} (package debian-archive-keyring)")
    work = os.path.abspath(f"{folder}/work")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    packages = Packages(f"{work}/apt")
    for part in todo:
        start = time.monotonic()
        say(f"{part} ...")
        os.makedirs(f"{work}/{part}")
        BUILD[part](f"{work}/{part}", packages, folder)
        with open(f"{work}/{part}/.done", "w") as f:
            f.write(recipe())
        shutil.rmtree(f"{folder}/{part}", ignore_errors=True)
        os.rename(f"{work}/{part}", f"{folder}/{part}")
        say(f"{part}: {time.monotonic() - start:.0f} s")
    shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="where to; all of it may be deleted at any time")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    args = parser.parse_args()
    wrong = [p for p in args.parts if p not in PARTS]
    if wrong:
        parser.error(f"no part {wrong[0]}; there are {', '.join(PARTS)}")
    try:
        make(args.dir, args.parts or PARTS)
    except Failed as e:
        sys.exit(f"rig: {e}")


if __name__ == "__main__":
    main()
