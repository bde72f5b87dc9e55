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
    iommufd    the newest kernel that Debian builds for Debian 12 (6.12), with iommufd and VFIO's file for each device:
               Debian switches both off, so they are built from that kernel's own source, and Linux' NTB drivers as well
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
PARTS = ("kernel", "qemu", "qemu-vu", "ntb", "iommufd")
NEEDS = {"ntb": ("kernel",)}     # its modules are added to the kernel's
FETCH = ("apt-get", "dpkg-deb")
TOOLS = {"kernel": (*FETCH, "depmod"), "qemu": FETCH, "qemu-vu": FETCH,
         "ntb": (*FETCH, "depmod", "tar", "xz", "make", "gcc-12", "objcopy")}
TOOLS["iommufd"] = (*TOOLS["ntb"], "zstd")

# Modules the guests use; what these depend on comes along.
MODULES = """virtio_pci virtio_net 9p 9pnet_virtio overlay
    vfio vfio_iommu_type1 vfio-pci ioatdma configfs uio_pci_generic tcp_diag""".split()
NTB_CONFIG = [f"CONFIG_{name}=m" for name in (
    "NTB", "NTB_INTEL", "NTB_AMD", "NTB_TOOL", "NTB_PINGPONG", "NTB_PERF", "NTB_TRANSPORT", "NTB_NETDEV")]

# What of them the kernel with iommufd gets, and what is built for it beside those.
NEW_KERNEL = "linux-image-6.12-amd64"
NEW_MODULES = "virtio_pci virtio_net 9p 9pnet_virtio overlay tcp_diag".split()
NEW_BUILT = "iommufd vfio vfio_iommu_type1 vfio_pci_core vfio_pci ntb ntb_hw_intel ntb_hw_amd".split()
# For make, and for the compiler: the headers have the values of Debian's configuration.  IOMMUFD_DRIVER stays off, as
# it is in the IOMMU's driver, which is in vmlinux; so no page is tracked that was written to.
NEW_CONFIG = ["CONFIG_IOMMUFD=m", "CONFIG_VFIO_DEVICE_CDEV=y", "CONFIG_VFIO_MDEV=n",
              "CONFIG_NTB=m", "CONFIG_NTB_INTEL=m", "CONFIG_NTB_AMD=m"]
NEW_DEFINES = "-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1"


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

    def depends(self, package, begins=""):
        """The versioned package behind one that only names it: linux-image-amd64 -> linux-image-6.1.0-...-amd64.
        Of several the first one whose name begins so."""
        out = run("apt-cache", *self.options, "depends", package)
        found = re.search(rf"Depends: ({begins}\S+)", out)
        if not found:
            raise Failed(f"{package} depends on no {begins or 'package'} here:\n{out}")
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
    payload = image[start:start + length]
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # Behind it are four bytes of the kernel's, its size, which zstd would take for damage.
        with open(f"{vmlinux}.zst", "wb") as f:
            f.write(payload[:-4])
        run("zstd", "-dq", "--rm", f"{vmlinux}.zst", "-o", vmlinux)
    else:
        try:
            elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
        except lzma.LZMAError as e:
            raise Failed(f"{bzimage}: its payload is neither zstd nor xz ({e})") from None
        with open(vmlinux, "wb") as f:
            f.write(elf)
    with open(vmlinux, "rb") as f:
        if f.read(4) != b"\x7fELF":
            raise Failed(f"{bzimage}: its payload is no ELF file")


def module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def copy_module(path, folder):
    """As insmod of busybox wants it, which knows no compression.  The copy's path."""
    copy = f"{folder}/{os.path.basename(path).removesuffix('.xz')}"
    os.makedirs(folder, exist_ok=True)
    with (lzma.open if path.endswith(".xz") else open)(path, "rb") as packed, open(copy, "wb") as f:
        shutil.copyfileobj(packed, f)
    return copy


def module_depends(path):
    with open(path, "rb") as f:
        found = re.search(rb"\0depends=([^\0]*)\0", f.read())
    return [d.replace("-", "_") for d in found.group(1).decode().split(",") if d] if found else []


def take_kernel(folder, package, wanted, built=()):
    """Of an unpacked kernel: vmlinux, its release, the modules that are @wanted and what they depend on, beside those
    that were @built in place of its own."""
    tree = f"{folder}/tree"
    release, = os.listdir(f"{tree}/lib/modules")
    extract_vmlinux(f"{tree}/boot/vmlinuz-{release}", f"{folder}/vmlinux")
    with open(f"{folder}/release", "w") as f:
        f.write(release + "\n")
    source, target = f"{tree}/lib/modules/{release}", f"{folder}/lib/modules/{release}"
    known = {module_name(p): p for p in glob.glob(f"{source}/kernel/**/*.ko*", recursive=True)}
    known.update({module_name(p): p for p in built})
    with open(f"{source}/modules.builtin") as f:
        inside = {module_name(line.strip()) for line in f}
    todo = [m.replace("-", "_") for m in wanted] + [module_name(p) for p in built]
    missing = [m for m in todo if m not in known and m not in inside]
    if missing:
        raise Failed(f"{package} has no module {' '.join(missing)}")
    done = set()
    while todo:
        name = todo.pop()
        if name in known and name not in done:
            done.add(name)
            todo += module_depends(copy_module(known[name], target))
    for name in ("modules.builtin", "modules.order"):
        shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
    run("depmod", "-b", folder, release)


def build_kernel(folder, packages, _):
    apt = packages.release()
    package = apt.depends("linux-image-amd64")
    apt.unpack([package, "busybox-static"], f"{folder}/tree", alone=True)
    take_kernel(folder, package, MODULES)
    shutil.move(f"{folder}/tree/bin/busybox", f"{folder}/busybox")
    shutil.rmtree(f"{folder}/tree")


def build_qemu(folder, packages, _):
    packages.release().unpack(["qemu-system-x86"], folder)


def build_qemu_vu(folder, packages, _):
    packages.newer().unpack(["qemu-system-x86"], folder)


def kernel_source(apt, release, tree, wanted):
    """Headers of a kernel, and these files of its source: (directory to make modules in, directory of the source)."""
    headers = f"linux-headers-{release}"
    common = headers.replace("-amd64", "-common")
    # Not their dependencies: compilers are asked of the machine, and their libraries would be a second system.
    version = release.split("-")[0].rsplit(".", 1)[0]
    apt.unpack([headers, common, apt.depends(headers, "linux-kbuild-"), f"linux-source-{version}"], tree, alone=True)
    source = f"{tree}/linux-source-{version}"
    say(f"looking for {' '.join(wanted)} in the kernel source")
    archive = f"{tree}/usr/src/linux-source-{version}.tar.xz"
    unxz = subprocess.Popen(("xz", "-dc", "-T0", archive), stdout=subprocess.PIPE)
    tar = subprocess.run(("tar", "x", "-C", tree, *(f"linux-source-{version}/{p}" for p in wanted)), stdin=unxz.stdout,
                         check=False)
    unxz.stdout.close()
    if unxz.wait() != 0 or tar.returncode != 0:
        raise Failed(f"{' '.join(wanted)} could not be unpacked from {archive}")
    os.unlink(archive)
    # The one absolute path in the headers
    makefile = f"{tree}/usr/src/{headers}/Makefile"
    with open(makefile) as f:
        text = f.read()
    with open(makefile, "w") as f:
        f.write(text.replace("/usr/src/", f"{tree}/usr/src/"))
    return f"{tree}/usr/src/{headers}", source


def make_modules(headers, kbuild, config, into):
    """Modules of the directory @kbuild, stripped, in the directory @into: their paths there."""
    say("building the modules")
    ours = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "B", "SAN")    # of the make that called us
    # Without CONFIG_DEBUG_INFO_BTF_MODULES, for which newer kernels want another tool.
    run("make", "-C", headers, f"M={kbuild}", f"-j{os.cpu_count()}", *config, "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules",
        env={k: v for k, v in os.environ.items() if k not in ours})
    os.makedirs(into, exist_ok=True)
    paths = []
    for path in glob.glob(f"{kbuild}/**/*.ko", recursive=True):
        paths.append(f"{into}/{os.path.basename(path)}")
        run("objcopy", "--strip-debug", path, paths[-1])
    return paths


def build_ntb(folder, packages, done):
    with open(f"{done}/kernel/release") as f:
        release = f.read().strip()
    tree = os.path.abspath(f"{folder}/tree")
    headers, source = kernel_source(packages.release(), release, tree, (
        "drivers/ntb", "drivers/net/ntb_netdev.c", "tools/testing/selftests/ntb"))
    kbuild = f"{tree}/build"
    os.makedirs(kbuild)
    shutil.move(f"{source}/drivers/ntb", f"{kbuild}/ntb")
    shutil.move(f"{source}/drivers/net/ntb_netdev.c", f"{kbuild}/ntb_netdev.c")
    shutil.move(f"{source}/tools/testing/selftests/ntb/ntb_test.sh", f"{folder}/ntb_test.sh")
    with open(f"{kbuild}/Kbuild", "w") as f:
        f.write("obj-m += ntb/\nobj-m += ntb_netdev.o\n")
    target = f"{folder}/lib/modules/{release}"
    shutil.copytree(f"{done}/kernel/lib/modules/{release}", target)
    built = make_modules(headers, kbuild, NTB_CONFIG, target)
    if len(built) != len(NTB_CONFIG):
        raise Failed(f"{len(built)} modules instead of {len(NTB_CONFIG)}: {' '.join(built)}")
    run("depmod", "-b", folder, release)
    shutil.rmtree(tree)


def add_span_iterator(source):
    """Walks over the gaps of an interval tree, for iommufd alone: Debian's vmlinux has the tree without that."""
    with open(f"{source}/lib/interval_tree.c") as f:
        text = f.read()
    found = re.search(r"^#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER\n.*?^#endif\n", text, re.M | re.S)
    if not found:
        raise Failed("lib/interval_tree.c has no span iterator")
    iommufd = f"{source}/drivers/iommu/iommufd"
    with open(f"{iommufd}/span_iter.c", "w") as f:
        f.writelines(re.findall(r"^#include .*\n", text, re.M))
        f.write(found.group(0))
    with open(f"{iommufd}/Makefile", "a") as f:
        f.write("iommufd-y += span_iter.o\n")


def build_iommufd(folder, packages, _):
    apt = packages.release()
    package = apt.depends(NEW_KERNEL)
    tree = os.path.abspath(f"{folder}/tree")
    apt.unpack([package], tree, alone=True)
    headers, source = kernel_source(apt, package.removeprefix("linux-image-"), tree, (
        "drivers/iommu", "drivers/vfio", "drivers/ntb", "lib/interval_tree.c"))
    add_span_iterator(source)
    with open(f"{source}/drivers/Kbuild", "w") as f:
        f.write(f"subdir-ccflags-y := {NEW_DEFINES}\nobj-m += iommu/iommufd/ vfio/ ntb/\n")
    built = make_modules(headers, f"{source}/drivers", NEW_CONFIG, f"{tree}/built")
    if sorted(map(module_name, built)) != sorted(NEW_BUILT):
        raise Failed(f"other modules than {' '.join(NEW_BUILT)}: {' '.join(built)}")
    take_kernel(folder, package, NEW_MODULES, built)
    shutil.rmtree(tree)


BUILD = {"kernel": build_kernel, "qemu": build_qemu, "qemu-vu": build_qemu_vu, "ntb": build_ntb,
         "iommufd": build_iommufd}


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
