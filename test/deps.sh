#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# deps.sh - what building, the demo and the tests need from the system
#
#	deps.sh build|demo|check|runtimes|rig
#
# Looks for each tool or library itself, not for a package, so that any source of it will do.  What is missing is
# installed with apt-get if we are root, otherwise named, with the command that installs it, and the exit status
# is 1.  Installing starts no service: for that one apt-get call /usr/sbin/policy-rc.d forbids it, and what was
# there before is put back whatever happens.  A daemon that was installed here is not enabled at boot either.
set -eu
level=${1:-check}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d

# package:probe; a probe is a command, or pc= and a pkg-config module, or file= and a path pattern
build='gcc:gcc libc6-dev:file=/usr/include/stdio.h make:make pkg-config:pkg-config
	liburcu-dev:pc=liburcu-bp libjansson-dev:pc=jansson libpci-dev:pc=libpci libnuma-dev:pc=numa python3:python3'
demo='redis-server:redis-server redis-tools:redis-benchmark curl:curl'
check='clang:clang libclang-rt-14-dev:file=/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a
	spin:spin mandoc:mandoc gnuplot-nox:gnuplot strace:strace iproute2:ip procps:ps util-linux:unshare
	nginx-light:nginx wrk:wrk iperf3:iperf3 memcached:memcached libmemcached-tools:memcaslap
	postgresql:file=/usr/lib/postgresql/*/bin/postgres postgresql-contrib:file=/usr/lib/postgresql/*/bin/pgbench
	socat:socat rsync:rsync openssh-server:sshd openssh-client:ssh
	apache2-bin:apache2 haproxy:haproxy php-fpm:file=/usr/sbin/php-fpm* openssl:openssl
	perl:perl ruby:ruby erlang-base:erl'
# What make check-runtimes wants beside that: 250 MB of archives
runtimes="openjdk-17-jdk-headless:javac nodejs:node cargo:cargo rustc:rustc
	librust-tokio-dev:file=/usr/share/cargo/registry/tokio-1*"

# What make rig wants beside build: tools that fetch and build what the guests need, and what the guests find on the
# host's file system.  The rest it unpacks from packages that it does not install.
rig='gcc-12:gcc-12 binutils:objcopy tar:tar xz-utils:xz zstd:zstd libelf1:file=/usr/lib/x86_64-linux-gnu/libelf.so.1
	debian-archive-keyring:file=/usr/share/keyrings/debian-archive-keyring.gpg
	kmod:depmod openssh-server:sshd openssh-client:ssh
	redis-server:redis-server redis-tools:redis-benchmark curl:curl nginx-light:nginx iperf3:iperf3'

# Each of these excludes others of its kind, which may be in use here: never in place of them, and only for root, who
# alone can run the test.  Without them it is skipped, and says so.
exclusive='update-inetd:update-inetd xinetd:xinetd ftpd-ssl:in.ftpd tnftp:tnftp'

# Daemons among them, as systemd calls them: new ones are not left enabled.
units='xinetd redis-server nginx memcached postgresql rsync ssh haproxy php8.2-fpm phpsessionclean.timer epmd.socket epmd'

case $level in
build) want=$build ;;
demo) want="$build $demo" ;;
check) want="$build $demo $check" ;;
runtimes) want="$build $demo $check $runtimes" ;;
rig) want="$build $rig" ;;
*) echo "deps.sh: '$level' is not one of build, demo, check, runtimes, rig" >&2; exit 2 ;;
esac

have() {
	case $1 in
	pc=*) pkg-config --exists "${1#pc=}" 2>/dev/null ;;
	file=*)
		for f in ${1#file=}; do
			[ -e "$f" ] && return 0
		done
		return 1 ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac
}

missing_of() {
	for w in $1; do
		have "${w#*:}" || printf ' %s' "${w%%:*}"
	done
}

missing=$(missing_of "$want") also=
if [ "$level" = check ] && [ "$(id -u)" = 0 ]; then
	also=$(missing_of "$exclusive")
fi
[ -n "$missing$also" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	[ -n "$missing" ] || exit 0
	[ "$level" != runtimes ] || level=check-runtimes
	echo "Missing for 'make $level':$missing" >&2
	echo "Install them as root, without starting their services if you do not want these:" >&2
	echo "	apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

echo "deps: installing$missing$also"
saved=
restore() {
	status=$?
	trap - EXIT HUP INT TERM
	rm -f "$policy"
	[ -z "$saved" ] || mv -f "$saved" "$policy"
	exit "$status"
}
enabled() {
	for u in $units; do
		systemctl is-enabled --quiet "$u" 2>/dev/null && printf ' %s ' "$u"
	done
	return 0
}
command -v systemctl >/dev/null && before=$(enabled) || before=

trap restore EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved=$policy.ntbsock-saved
	# Left by a run that was killed: that one is the administrator's.
	if [ -e "$saved" ] || [ -L "$saved" ]; then rm -f "$policy"; else mv "$policy" "$saved"; fi
fi
printf '#!/bin/sh\n# ntbsock test/deps.sh: no service starts while it installs packages\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
try() {
	apt-get install -y -q --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
# The package lists of a fresh image are often empty or old: fetch them only if the first try fails.
install() {
	try "$@" && return
	echo "deps: the package lists may be missing or old; fetching them"
	apt-get update -q -o DPkg::Lock::Timeout=300
	try "$@"
}
# shellcheck disable=SC2086  # a list of package names
[ -z "$missing" ] || install $missing
# In this order: ftpd-ssl runs update-inetd when it is set up, does not say so, and takes any inetd that is there.
for package in $also; do
	install "$package" || echo "deps: going on without $package" >&2
done

if command -v systemctl >/dev/null; then
	for u in $(enabled); do
		case $before in
		*" $u "*) ;;
		*) systemctl disable --quiet "$u" 2>/dev/null || echo "deps: could not disable $u at boot" >&2 ;;
		esac
	done
fi

missing=$(missing_of "$want")
if [ -n "$missing" ]; then
	echo "deps: installed, but still not found:$missing" >&2
	exit 1
fi
