#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# ctl_test.sh - ntbsock-ctl: exit codes, JSON, edits, what `run` does to a program, brokers found and started
#
# Against the real ntbsockd in directories of its own, and against a broker (below, in Python) that answers what it is
# told to: connections that no library has made, and nonsense.
# shellcheck disable=SC2016  # what stands in single quotes is for the shell that is run
set -u
src=${T_SRC:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${T_BUILD:-build}
case $build in /*) ;; *) build=$src/$build ;; esac
ctl=$build/ntbsock-ctl
[ -x "$ctl" ] || { echo "SKIP: $ctl is not built"; exit 77; }

tmp=$(mktemp -d "${TMPDIR:-/tmp}/ctl.XXXXXX") || exit 1
unset NTBSOCK_RUN_DIR NTBSOCK_CONFIG_DIR NTBSOCK_DISABLE NTBSOCK_LIB LD_PRELOAD
brokers=
cleanup() {
	for pid in $brokers $(sed -n 's/.*(pid \([0-9]*\),.*/\1/p' "$tmp"/*.err 2>/dev/null | sort -u); do
		# never a process that is no broker of ours: numbers are used again
		[ -e "/proc/$pid" ] || continue
		case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
		*"$tmp"*) kill "$pid" 2>/dev/null ;;
		esac
	done
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

failed=0 passed=0
fail() { echo "FAIL: $*"; failed=$((failed + 1)); }
# status WANT LABEL COMMAND...: its output is in $tmp/out and $tmp/err
status() {
	want=$1 label=$2
	shift 2
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	cp "$tmp/err" "$tmp/$(date +%s%N).err" # cleanup reads the brokers from these
	if [ "$got" = "$want" ]; then passed=$((passed + 1)); return 0; fi
	fail "$label: exit status $got, not $want: $(head -c 400 "$tmp/err")"
	return 1
}
says() { # FILE TEXT LABEL
	if grep -qF -- "$2" "$tmp/$1"; then passed=$((passed + 1)); else fail "$3: no '$2' in: $(head -c 600 "$tmp/$1")"; fi
}
same() { # LABEL GOT WANT
	if [ "$2" = "$3" ]; then passed=$((passed + 1)); else fail "$1: '$2', not '$3'"; fi
}
json() { # LABEL EXPRESSION: over $tmp/out as j
	if python3 -c "import json,sys; j = json.load(open('$tmp/out')); sys.exit(not ($2))" 2>"$tmp/py"; then
		passed=$((passed + 1))
	else
		fail "$1: not ($2): $(tail -n 1 "$tmp/py") in $(head -c 600 "$tmp/out")"
	fi
}

# ---------------------------------------------------------------- usage
status 2 "no verb" "$ctl"
status 2 "unknown verb" "$ctl" conections; says err "did you mean 'connections'" "hint"
status 2 "unknown verb, far" "$ctl" redis-server; says err "ntbsock-ctl run -- redis-server" "hint to run"
status 2 "unknown option" "$ctl" conns --foo; says err "'--foo'" "option named"
status 2 "unknown short option" "$ctl" conns -z; says err "'-z'" "option named"
status 2 "option without value" "$ctl" conns --port; says err "needs a value" "value"
status 2 "option with a value too many" "$ctl" conns --json=3; says err "takes no value" "no value"
status 2 "surplus argument" "$ctl" status now; says err "'now'" "argument named"
status 2 "bad port" "$ctl" conns --port 65536
status 2 "bad pid" "$ctl" stats -p 12x
status 2 "bad reason" "$ctl" conns --reason because
status 2 "ring and tcp" "$ctl" conns --ring --tcp
status 2 "bad network" "$ctl" conns --peer 10.0.0.0/33; says err "10.0.0.0/33" "network named"
status 2 "a name is no network" "$ctl" conns --peer localhost
status 2 "drain what" "$ctl" drain; says err "--all" "says how to drain all"
status 2 "drain all and some" "$ctl" drain --all --port 7
status 2 "bad timeout" "$ctl" drain --all --timeout soon
status 0 "help" "$ctl" --help
for v in run status connections stats drain node port reload; do
	says out "$v" "help lists $v"
done
for v in run status connections conns stats drain node port reload; do
	status 0 "help $v" "$ctl" help $v; says out "usage: ntbsock-ctl" "help $v"
	status 0 "$v --help" "$ctl" $v --help; says out "usage: ntbsock-ctl" "$v --help"
done
status 2 "help for nothing" "$ctl" help nothing
status 0 "version" "$ctl" --version; says out "ntbsock-ctl " "version"
if [ -e /dev/full ]; then
	"$ctl" --help >/dev/full 2>"$tmp/err"
	same "full disk" $? 1
fi

# ---------------------------------------------------------------- bridges: what is said without one
status 2 "ports takes nothing" "$ctl" ports 17:00.0
status 2 "ports asks no broker" "$ctl" ports --broker-dir /nowhere; says err "'--broker-dir" "option named"
status 2 "ports forces nothing" "$ctl" ports --force
for v in bind unbind selftest; do
	status 2 "$v what" "$ctl" $v; says err "One address" "$v asks for an address"
	status 2 "$v one at a time" "$ctl" $v 17:00.0 18:00.0
	for bad in 17 17:00.8 ../17:00.0 0000:17:00.0/driver ''; do
		status 2 "$v '$bad'" "$ctl" $v "$bad"; says err "no address" "'$bad' is none"
	done
	status 1 "$v of nothing" "$ctl" $v ffff:ff:1f.7; says err "no such PCI function" "$v says so"
done
status 2 "selftest waits for a number" "$ctl" selftest --wait long 17:00.0
for bad in 1 32K 1G x -4M; do status 2 "window of $bad" "$ctl" selftest --window "$bad" 17:00.0; done
if [ -e /sys/bus/pci ]; then
	status 0 "ports" "$ctl" ports
	status 0 "ports --json" "$ctl" ports --json; json "ports" "isinstance(j['ports'], list)"
	for port in $(python3 -c "import json; [print(p['address']) for p in json.load(open('$tmp/out'))['ports']]"); do
		grep -q . "/sys/bus/pci/devices/$port/vendor" || fail "$port is listed and is not there"
	done
fi

# ---------------------------------------------------------------- no broker
none=$tmp/none
status 3 "drain without broker" "$ctl" drain --all --broker-dir "$none"
for v in status connections stats reload; do
	status 3 "$v without broker" "$ctl" $v --broker-dir "$none"; says err "$none" "$v names the directory"
done
status 3 "status --json without broker" "$ctl" status --json --broker-dir "$none"; json "null" "j['broker'] is None"
NTBSOCK_RUN_DIR=$none
export NTBSOCK_RUN_DIR
status 3 "NTBSOCK_RUN_DIR is used" "$ctl" status; says err "$none" "directory named"
unset NTBSOCK_RUN_DIR

# ---------------------------------------------------------------- edits
conf=$tmp/etc
edit() { want=$1; shift; status "$want" "$*" "$ctl" "$@" --config-dir "$conf" --no-reload; }
edit 0 node list; same "no file, no nodes" "$(cat "$tmp/out")" ""
edit 0 node add 10.0.0.2 3
edit 0 node add 10.0.0.2 3; same "added once" "$(wc -l <"$conf/nodes.conf")" 1
edit 1 node add 10.0.0.2 4; says err "node 3 already" "conflict"
edit 2 node add 10.0.0.300 4; says err "10.0.0.300" "wrong address named"
edit 2 node add 10.0.0.3 256
edit 2 node add 10.0.0.3
edit 2 node add '10.0.0.3 7 #' 4
edit 2 node frob; says err "'frob'" "action named"
edit 2 node list --at 1
printf '# kept\n\tnonsense here too\n10.1.0.0/16 9 # kept, too\nhost.invalid 7' >>"$conf/nodes.conf"
chmod 640 "$conf/nodes.conf"
edit 0 node add fe80::1 5
same "newline completed, comments kept" "$(cat "$conf/nodes.conf")" "$(printf \
'10.0.0.2 3\n# kept\n\tnonsense here too\n10.1.0.0/16 9 # kept, too\nhost.invalid 7\nfe80::1 5')"
same "mode kept" "$(stat -c %a "$conf/nodes.conf")" 640
edit 0 node list; says err "nodes.conf:3:" "wrong line named with its number"
edit 0 node list --json
json "node list" "[(n['address'], n['prefix'], n['node'], n['line']) for n in j['nodes']] == [('10.0.0.2', None, 3, 1), ('10.1.0.0', 16, 9, 4), ('host.invalid', None, 7, 5), ('fe80::1', None, 5, 6)] and j['errors'][0]['line'] == 3"
edit 1 node check --json; json "node check" "any(e['line'] == 3 for e in j['errors'])"
edit 0 node del 10.1.77.7/16
edit 0 node del FE80:0::1
edit 1 node del 10.9.9.9
same "deleted" "$(cat "$conf/nodes.conf")" "$(printf '10.0.0.2 3\n# kept\n\tnonsense here too\nhost.invalid 7')"

edit 0 port deny 5432
edit 0 port allow 8000-8099 nginx --at 1
edit 0 port deny '*'
edit 0 port allow 80 --at 3
edit 2 port allow 99-8
edit 2 port allow 80 a/b
edit 2 port allow 80 a b
edit 2 port allow --at 0 80
edit 1 port allow --at 9 80; says err "number 5 at most" "range of --at"
same "rules in order" "$(tr '\n' ';' <"$conf/ports.conf")" "allow 8000-8099 nginx;deny 5432;allow 80;deny *;"
edit 0 port del 2
edit 1 port del 4
edit 2 port del x
edit 0 port list --json
json "port list" "[(r['number'], r['action'], r['first'], r['last'], r['program']) for r in j['rules']] == [(1, 'allow', 8000, 8099, 'nginx'), (2, 'allow', 80, 80, ''), (3, 'deny', 0, 65535, '')]"
edit 0 port check; same "no temporary files" "$(cd "$conf" && echo *)" "nodes.conf ports.conf"
printf 'deny \377\200x\n' >>"$conf/ports.conf"
edit 1 port check --json; json "bytes that are no UTF-8" "len(j['errors']) == 1"
# many at once: none is lost
i=0
while [ $i -lt 20 ]; do
	"$ctl" node add 10.7.0.$i 7 --config-dir "$tmp/many" --no-reload & i=$((i + 1))
done 2>"$tmp/err"
wait
same "20 editors at once" "$(sort -u "$tmp/many/nodes.conf" | wc -l)" 20
: >"$tmp/file"
status 1 "directory that is a file" "$ctl" node add 1.2.3.4 5 --no-reload --config-dir "$tmp/file"
status 1 "directory that cannot be made" "$ctl" node add 1.2.3.4 5 --no-reload --config-dir "$tmp/no/such/dir"

# ---------------------------------------------------------------- run, whatever the broker
mkdir "$tmp/bin"
cp "$ctl" "$tmp/bin/"	# no ntbsockd, no library beside it
lone=$tmp/bin/ntbsock-ctl
lone() { want=$1 label=$2; shift 2; NTBSOCK_LIB=$lib status "$want" "$label" "$lone" run --broker-dir "$tmp/lone" "$@"; }
lib=$tmp/none.so
lone 7 "no library: runs all the same" -- sh -c 'exit 7'; says err "stay on TCP" "and says so"
printf 'int ntbs_ctl_test;\n' >"$tmp/lib.c"
lib=$tmp/lib.so
if ! gcc -shared -o "$lib" "$tmp/lib.c" 2>"$tmp/err"; then fail "gcc: $(cat "$tmp/err")"; fi
PATH_SAVED=$PATH
PATH=/usr/bin:/bin
if [ ! -e /usr/sbin/ntbsockd ] && [ ! -e /usr/local/sbin/ntbsockd ]; then
	lone 5 "no ntbsockd: runs all the same" -- sh -c 'exit 5'; says err "ntbsockd is neither" "and says so"
fi
printf '#!/bin/sh\necho "first line" >&2\necho "ntbsockd: the reason is this" >&2\nexit 1\n' >"$tmp/bin/ntbsockd"
chmod 755 "$tmp/bin/ntbsockd"
lone 5 "broker that fails at once: runs all the same" -q -- sh -c 'exit 5'
says err "the reason is this" "and repeats its reason"
printf '\177ELF but not really' >"$tmp/bin/ntbsockd"
lone 5 "broker that cannot be executed" -- sh -c 'exit 5'; says err "cannot execute" "and says so"
PATH=$PATH_SAVED
mkdir -m 777 "$tmp/open"; chmod 777 "$tmp/open"
NTBSOCK_LIB=$lib status 4 "directory that others can write to" "$ctl" run --broker-dir "$tmp/open" -- sh -c 'exit 4'
says err "only you can write" "and says so"
same "and nothing was put there" "$(ls "$tmp/open")" ""
NTBSOCK_LIB=$lib status 4 "path too long" "$ctl" run --broker-dir "$tmp/$(printf '%0120d' 1)" -- sh -c 'exit 4'
says err "too long" "and says so"
NTBSOCK_LIB=$lib NTBSOCK_DISABLE=1 status 3 "disabled" "$ctl" run --broker-dir "$tmp/off" -- sh -c 'exit ${LD_PRELOAD:+9}3'
[ ! -e "$tmp/off" ] || fail "NTBSOCK_DISABLE: a broker was started"

status 125 "run without a program" "$ctl" run
status 125 "run with an unknown option" "$ctl" run --frob -- true; says err "'--frob'" "option named"
NTBSOCK_DISABLE=1; export NTBSOCK_DISABLE
status 127 "program not found" "$ctl" run -- /no/such/program
status 127 "program not in PATH" "$ctl" run -- no-such-program-at-all
status 126 "program not executable" "$ctl" run -- "$tmp/file"
unset NTBSOCK_DISABLE

# ---------------------------------------------------------------- a broker that answers what it is told to
cat >"$tmp/fake.py" <<'PY'
import fcntl, os, socket, struct, sys
directory, mode = sys.argv[1:3]
os.mkdir(directory)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(directory + "/broker.sock")
s.listen(8)
F_ADD_SEALS, SHRINK = 1033, 2

def tuple_(laddr, raddr, lport, rport):
	def a(x):
		return socket.inet_pton(socket.AF_INET6, x) if ":" in x else bytes(10) + b"\xff\xff" + socket.inet_aton(x)
	return a(laddr) + a(raddr) + struct.pack("=HH", lport, rport)

def conn(used, t, stage, reason, tx_state, rx_state, tx, rx, family=2):
	return (struct.pack("=4I", used, 4711, 0, 1) + t + struct.pack("=5I", family, stage, reason, tx_state, rx_state) +
		struct.pack("=QQII", 1700000000 + used, 77, 1, 1) + struct.pack("=9Q", *tx) + struct.pack("=9Q", *rx))

def pool(entries, magic=0x4c4f4f50, abi=1, distance=256, first=64, nr=None, seal=True, size=None):
	fd = os.memfd_create("pool", os.MFD_ALLOW_SEALING)
	nr = len(entries) if nr is None else nr
	os.ftruncate(fd, first + len(entries) * 256 if size is None else size)
	os.pwrite(fd, struct.pack("=6I", magic, abi, nr, distance, first, 1), 0)
	for i, e in enumerate(entries):
		assert len(e) == 240
		os.pwrite(fd, e, first + i * 256)
	if seal:
		fcntl.fcntl(fd, F_ADD_SEALS, SHRINK)
	return fd

good = [
	conn(1, tuple_("127.0.0.1", "127.0.0.1", 7000, 40000), 2, 0, 2, 2, (1000, 10, 5, 2, 1, 0, 3, 4, 6), (500, 20, 1, 0, 0, 0, 0, 0, 0)),
	bytes(240),
	conn(2, tuple_("::1", "fe80::2", 443, 50000), 0, 2, 0, 0, (0, 111, 0, 0, 0, 0, 0, 0, 0), (0, 222, 0, 0, 0, 0, 0, 0, 0), 10),
	conn(3, tuple_("0.0.0.0", "0.0.0.0", 0, 0), 3, 0, 0, 0, (0,) * 9, (0,) * 9),
	conn(4, tuple_("10.0.0.1", "10.0.0.2", 9, 10), 99, 12345, 77, 88, (2 ** 64 - 1,) * 9, (0,) * 9),
]
g = pool(good)
pools = {
	"good": [(101, b"redis-server", g), (102, b"evil\x1b[31m\n", pool([good[0]])), (103, b"same", g)],
	"badpools": [(201, b"notpool", pool(good, magic=1)), (202, b"abi", pool(good, abi=2)), (203, b"unsealed", pool(good, seal=False)),
		(204, b"nr", pool(good, nr=1 << 30)), (205, b"nr2", pool(good, nr=6)), (206, b"near", pool(good, distance=8)),
		(207, b"odd", pool(good, distance=257)), (208, b"first", pool(good, first=64, size=100)),
		(209, b"empty", os.memfd_create("e", os.MFD_ALLOW_SEALING)), (210, b"notmemfd", os.open("/dev/null", os.O_RDONLY)),
		(211, b"fine", pool([good[0]]))],
}
print("up", flush=True)
while True:
	c, _ = s.accept()
	m = c.recv(512)
	if len(m) != 8:
		c.close()
		continue
	kind, size, cookie = struct.unpack("=HHI", m)
	def reply(kind, body, fds=[], cookie=cookie, grow=0):
		b = struct.pack("=HHI", kind, 8 + len(body), cookie) + body
		try:
			socket.send_fds(c, [b], fds) if fds else c.send(b)
		except OSError:
			pass
	if kind in (64, 70):	# STATUS, HOLD
		body = struct.pack("=8I5Q", 1, 1000, 3, 2, 4, 5, 1, 0, 60, 1, 2, 3, 4) + os.fsencode(directory).ljust(108, b"\0") + b"/etc/x".ljust(108, b"\0")
		body += struct.pack("=24s40s104s2I4Q", b"0000:17:00.1", b"Fake, side 7", b"up", 0xabc, 0, 5, 6, 8 << 20, 4 << 20)
		if mode == "short":
			body = body[:-8]
		if mode == "mute":
			c.close()
			continue
		reply(65, body, [g] if mode == "fd" else [], cookie + (mode == "cookie"))
	elif kind == 66:
		for pid, name, fd in pools.get(mode, []):
			reply(67, struct.pack("=II16s", pid, 0, name), [fd])
		if mode != "endless":
			reply(67, struct.pack("=II16s", 0, 0, b""))
	elif kind == 68:
		reply(69, struct.pack("=III196s", 1, 7, 8, b"ports.conf:3: wrong"))
	c.close()
PY
fake() {
	mkfifo "$tmp/up.$1"
	python3 "$tmp/fake.py" "$tmp/fake.$1" "$1" >"$tmp/up.$1" &
	brokers="$brokers $!"
	read -r _ <"$tmp/up.$1"
}
for mode in good badpools short cookie fd mute endless; do fake $mode; done
f="--broker-dir $tmp/fake.good"
# shellcheck disable=SC2086  # options
{
status 0 "status" "$ctl" status $f; says out "/etc/x" "configuration shown"
says out "0000:17:00.1, Fake, side 7: up" "port shown"; says out "00000abc, 8192 KiB here, a window of 4096 KiB" "session shown"
says out "5 so far, 6 doorbells" "counters of the port shown"
status 0 "status --json" "$ctl" status --json $f
json "status" "j['broker']['private'] and j['broker']['processes'] == 2 and j['broker']['claims_refused'] == 3"
json "port" "j['broker']['port'] == {'name': '0000:17:00.1', 'family': 'Fake, side 7', 'state': 'up', 'up': True, 'session': 0xabc, 'sessions': 5, 'bells': 6, 'arena_bytes': 8 << 20, 'window_bytes': 4 << 20}"
status 0 "connections --json" "$ctl" conns --json $f
json "connections" "len(j['connections']) == 4 and j['pools_unreadable'] == 0"
json "a connection" "[c for c in j['connections'] if c['local']['port'] == 7000 and c['pid'] == 101][0]['tx'] == {'state': 'ring', 'ring_bytes': 1000, 'tcp_bytes': 10, 'inline': 5, 'short': 2, 'long': 1, 'stalls': 0, 'sleeps': 3, 'wakes': 4, 'poll_hits': 6}"
json "IPv6, reason" "[(c['local']['address'], c['reason'], c['on_ring']) for c in j['connections'] if c['ip'] == 6] == [('::1', 'no-offer', False)]"
json "unknown numbers" "[(c['reason'], c['tx']['state'], c['rx']['state']) for c in j['connections'] if c['local']['port'] == 9] == [('?', '?', '?')]"
status 0 "table" "$ctl" connections $f
says out "127.0.0.1:7000" "address"; says out "[fe80::2]:50000" "IPv6 address"
says out "the other side made no offer" "reason"; says out "poll_hits:6" "counters"
if grep -q "$(printf '\033')" "$tmp/out"; then fail "a program's name reaches the terminal as it is"; fi
for filter in "--pid 101:3" "--port 40000:2" "--port 443:1" "--program redis-server:3" "--reason no-offer:1" "--peer 127.0.0.0/8:2" "--ring:2" "--tcp:2" "-p 9:0"; do
	status 0 "filter" "$ctl" conns --json ${filter%:*} $f; json "filter ${filter%:*}" "len(j['connections']) == ${filter##*:}"
done
status 0 "stats --json" "$ctl" stats --json $f
json "stats" "j['connections'] == 4 and j['on_ring'] == 2 and j['reasons'] == {'accelerated': 2, 'no-offer': 1, '?': 1} and j['rx']['ring_bytes'] == 1000"
json "stats per process" "[(p['pid'], p['connections']) for p in j['processes']] == [(101, 3), (102, 1)]"
status 0 "stats" "$ctl" stats -p 102 $f; says out "all: 1 connections, 1 on the ring" "stats of one process"
status 1 "reload with wrong lines" "$ctl" reload $f; says err "ports.conf:3: wrong" "line named"
status 1 "reload --json" "$ctl" reload --json $f; json "reload" "j['errors'] == 1 and j['nodes'] == 7"
}
status 0 "pools that are none" "$ctl" conns --json --broker-dir "$tmp/fake.badpools"
json "pools that are none" "[c['pid'] for c in j['connections']] == [211] and j['pools_unreadable'] == 10"
for mode in short cookie fd mute; do
	status 1 "broker: $mode" "$ctl" status --broker-dir "$tmp/fake.$mode"; says err "no answer to use" "said"
done
status 1 "pools without end" "$ctl" stats --broker-dir "$tmp/fake.endless"
NTBSOCK_LIB=$lib status 6 "run at a broker that answers" "$ctl" run --broker-dir "$tmp/fake.good" -- sh -c 'exit 6'
says err "ntbsock: broker $tmp/fake.good (pid " "broker named"

# ---------------------------------------------------------------- the real one
if [ -x "$build/ntbsockd" ]; then
	[ -e "$build/libntbsock.so" ] && lib=$build/libntbsock.so
	NTBSOCK_LIB=$lib
	export NTBSOCK_LIB
	unset NTBSOCK_STATS
	run="$tmp/run"
	r() { want=$1 label=$2; shift 2; status "$want" "$label" "$ctl" run --broker-dir "$run" "$@"; }
	r 7 "starts a broker; exit status" -- sh -c 'exit 7'; says err "ntbsock: broker $run (pid " "broker named"
	says err "just started" "started"
	pid=$(sed -n 's/.*(pid \([0-9]*\),.*/\1/p' "$tmp/err")
	same "the broker is a session of its own" "$(ps -o tpgid= -p "$pid" | tr -d ' ')" -1
	same "it has no descriptor of ours" "$(find "/proc/$pid/fd" -lname "$tmp/out" | wc -l)" 0
	same "nor our directory" "$(readlink "/proc/$pid/cwd")" /
	same "nor the library" "$(grep -c libntbsock "/proc/$pid/maps")" 0
	r 0 "uses it again" -- sh -c 'echo "$NTBSOCK_RUN_DIR"'; says err "(pid $pid," "the same broker"
	same "NTBSOCK_RUN_DIR" "$(cat "$tmp/out")" "$(cd "$run" && pwd -P)"
	status 0 "status" "$ctl" status --json --broker-dir "$run"; json "status" "j['broker']['pid'] == $pid and j['broker']['private']"
	status 0 "connections" "$ctl" conns --json --broker-dir "$run"; json "none yet" "j['connections'] == []"
	status 0 "stats" "$ctl" stats --json --broker-dir "$run"; json "none yet" "j['connections'] == 0"
	status 0 "reload" "$ctl" reload --json --broker-dir "$run"; json "reload" "j['errors'] == 0"
	r 143 "death by signal" -- sh -c 'kill -TERM $$'
	r 0 "quiet" -q -- true; same "quiet" "$(cat "$tmp/err")" ""
	r 0 "options of the program" -- echo --quiet --broker-dir x; same "options of the program" "$(cat "$tmp/out")" "--quiet --broker-dir x"
	LD_PRELOAD=/usr/lib/no-such.so r 0 "preload list" -q -- sh -c 'echo "$LD_PRELOAD"'
	same "in front of the list" "$(cat "$tmp/out")" "$lib:/usr/lib/no-such.so"
	r 0 "run in run" -q -- "$ctl" run -q -- sh -c 'echo "$LD_PRELOAD"'; same "preloaded once" "$(cat "$tmp/out")" "$lib"
	"$ctl" run -q --broker-dir "$run" -- sh -c 'echo $$' >"$tmp/out" &
	bg=$!
	wait $bg
	same "same process id" "$(cat "$tmp/out")" $bg
	same "standard input" "$(echo through | "$ctl" run -q --broker-dir "$run" -- cat)" through
	probe='echo $(ls /proc/self/fd | tr "\n" " "); grep -E "^Sig(Blk|Ign)" /proc/self/status; umask; ulimit -n'
	plain=$(trap '' USR1; sh -c "$probe" </dev/null)
	same "descriptors, signals, limits" "$(trap '' USR1; "$ctl" run -q --broker-dir "$run" -- sh -c "unset LD_PRELOAD; $probe" </dev/null)" "$plain"

	# a file edited is a file read again
	mkdir -p "$tmp/live"
	NTBSOCK_CONFIG_DIR=$tmp/live status 0 "with configuration" "$ctl" run --broker-dir "$tmp/run2" -- true
	status 0 "edit" "$ctl" port deny 4242 --config-dir "$tmp/live" --broker-dir "$tmp/run2"
	status 0 "status" "$ctl" status --json --broker-dir "$tmp/run2"; json "rule is known" "j['broker']['port_rules'] == 1"
	status 0 "edit elsewhere" "$ctl" port deny 4243 --config-dir "$conf" --broker-dir "$tmp/run2"; says err "reads $tmp/live" "says that it is elsewhere"

	# many at once start one
	i=0 pids=
	while [ $i -lt 12 ]; do
		"$ctl" run --broker-dir "$tmp/run3" -- true 2>"$tmp/at-once.$i.err" & pids="$pids $!" i=$((i + 1))
	done
	for p in $pids; do
		wait "$p"; same "one of 12 runs at once" $? 0
	done
	same "each says which broker" "$(cat "$tmp"/at-once.*.err | grep -c '^ntbsock: broker')" 12
	same "12 runs, one broker" "$(sed -n 's/.*(pid \([0-9]*\),.*/\1/p' "$tmp"/at-once.*.err | sort -u | wc -l)" 1
	same "started once" "$(cat "$tmp"/at-once.*.err | grep -c 'just started')" 1

	# one that was killed is followed by another
	old=$(sed -n 's/.*(pid \([0-9]*\),.*/\1/p' "$tmp/at-once.0.err")
	kill -9 "$old"
	while kill -0 "$old" 2>/dev/null && [ "$(ps -o stat= -p "$old" | cut -c1)" != Z ]; do :; done
	status 0 "after kill -9" "$ctl" run --broker-dir "$tmp/run3" -- true; says err "just started" "another one"

	# while one ends: the lock is still held, or the socket still takes connections
	i=0
	while [ $i -lt 30 ]; do
		old=$(sed -n 's/.*(pid \([0-9]*\),.*/\1/p' "$tmp/err")
		kill -TERM "$old"
		status 0 "while the broker ends" "$ctl" run --broker-dir "$tmp/run3" -- true || break
		says err "just started" "another one, again"
		i=$((i + 1))
	done
	mkdir "$tmp/run4"
	python3 -c '
import fcntl, sys, time
f = open(sys.argv[1] + "/broker.lock", "w")
fcntl.flock(f, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(0.5)' "$tmp/run4" >"$tmp/held" &
	while [ ! -s "$tmp/held" ]; do :; done
	status 0 "a lock that is let go" "$ctl" run --broker-dir "$tmp/run4" -- true; says err "just started" "and is waited for"
	mkdir "$tmp/run5"
	: >"$tmp/run5/broker.lock"
	status 3 "a lock that is not" flock "$tmp/run5/broker.lock" "$ctl" run --broker-dir "$tmp/run5" -- sh -c 'exit 3'
	says err "does not answer for" "and is reported"
else
	echo "note: $build/ntbsockd is not built, so the parts with it were left out"
	[ "$failed" -ne 0 ] || { echo "SKIP: $build/ntbsockd is not built"; exit 77; }
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
